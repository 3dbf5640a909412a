"""The tag panel of the post page: what the post's page and every answer to a verdict show."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.contrib import messages
from django.db.models import Exists, OuterRef
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render

from gallery import correcting, profiles
from gallery.models import Category, Post, PostStatus, Rating, Tag, TagIndex

# What the address of a post page carries: the search one came from, its page, and which tags to show.
_KEYS = ("q", "page", "before", "after", "show")


def visible(request: HttpRequest, pk: int, with_tags: bool = False) -> Post:
    """The post, if this visitor may see it; deleted and held ones are for their uploader and the staff.

    With its row of the index for a page that changes nothing.
    """
    posts = Post.objects.select_related("uploader", "parent", "merged_into")
    posts = posts.annotate(has_children=Exists(Post.objects.filter(parent=OuterRef("pk"))))
    post = get_object_or_404(posts.select_related("tag_index") if with_tags else posts, pk=pk)
    if post.status != PostStatus.ACTIVE and not post.may_be_changed_by(request.user):
        raise Http404("This post was deleted.")
    return post


def here(request: HttpRequest) -> QueryDict:
    """Where one is, from the address or from the form that was sent from there."""
    sent = QueryDict(request.POST.get("here", "")) if request.method == "POST" else request.GET
    kept = QueryDict(mutable=True)
    kept.update({key: sent[key] for key in _KEYS if key in sent})
    return kept


def panel_context(request: HttpRequest, post: Post, row: TagIndex | None = None) -> dict[str, Any]:
    """Everything post/panel.html shows: tags by category, the rating, the tagging state; `row` as `tags_of` has it."""
    place = here(request)
    thresholds = profiles.resolve(profiles.chosen(request))
    every = correcting.tags_of(post, thresholds, row)
    tags = [tag for tag in every if tag.category != Category.RATING]
    show_all = place.get("show") == "all"
    shown = tags if show_all else [tag for tag in tags if tag.on or tag.verdict is not None]
    found = place.copy()
    found.pop("show", None)
    return {
        "post": post,
        "thresholds": thresholds,
        "categories": [(category, list(group)) for category, group in groupby(shown, key=lambda tag: tag.category)],
        "on_count": sum(tag.on for tag in tags),
        "known": [tag.tag for tag in every],
        "tags_on": [tag.tag for tag in sorted(every, key=_certainty, reverse=True) if tag.on],
        "all_count": len(tags),
        "show_all": show_all,
        "ratings": [(rating, _of_rating(every, rating)) for rating in Rating],
        "rated": len(every) > len(tags),
        "q": place.get("q", ""),
        "here": place.urlencode(),
        "results": found.urlencode(),
        "may_change": post.may_be_changed_by(request.user),
    }


def _certainty(tag: correcting.PostTag) -> int:
    return profiles.HUMAN_YES if tag.verdict else tag.confidence or 0


def _of_rating(tags: list[correcting.PostTag], rating: Rating) -> correcting.PostTag | None:
    return next((tag for tag in tags if tag.tag.name == rating.tag_name), None)


def answer(request: HttpRequest, post: Post, mistake: str = "", added: Tag | None = None) -> HttpResponse:
    """After a verdict: the panel anew for HTMX, with words for the box of a typed tag; the page for a plain form."""
    if request.htmx:
        context = panel_context(request, post) | {"answering": True, "mistake": mistake, "added": added}
        return render(request, "post/panel.html", context, status=422 if mistake else 200)
    if mistake:
        messages.error(request, mistake)
    place = here(request).urlencode()
    return redirect(f"{post.get_absolute_url()}?{place}" if place else post.get_absolute_url())
