from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods

from gallery import correcting, profiles, reviewing, search
from gallery.captions import captions
from gallery.http import member_only
from gallery.models import Post, Release, Tag
from gallery.reviewing import Pair
from gallery.views.blacklist import Hiding, hiding

_ANSWERS = ("yes", "no", "skip", "back", "undo")
_BEHIND = 20  # questions that one can go back to
_SKIPPED = 300  # kept in the session


@require_http_methods(["GET", "HEAD", "POST"])
@member_only
def review(request: HttpRequest) -> HttpResponse:
    """One question after the other, those first that the tagger most likely has wrong."""
    if request.method != "POST":
        return _show(request, request.GET.get("q", ""), [], [], 0)
    sent = request.POST
    answer, text = sent.get("answer"), sent.get("q", "")
    current = next(iter(_pairs(sent.get("current", ""))), None)
    if answer not in _ANSWERS or current is None:
        return HttpResponseBadRequest("Answer yes, no, skip, back or undo.")
    ahead, behind = _pairs(sent.get("ahead", "")), _pairs(sent.get("behind", ""))[-_BEHIND:]
    count = int(sent["count"]) if sent.get("count", "").isdecimal() and len(sent["count"]) < 7 else 0
    if answer in ("back", "undo"):
        if behind:
            ahead, behind = [behind[-1], current, *ahead], behind[:-1]
            count -= answer == "undo" and _take_back(ahead[0], request)
        else:
            ahead = [current, *ahead]
    else:
        count += answer != "skip" and _record(current, answer == "yes", request)
        behind = [*behind, current]
        _skip(request, current)
    if not request.htmx:
        return redirect(f"{reverse('review')}?{urlencode({'q': text})}" if text else "review")
    return _show(request, text, ahead, behind, max(0, count))


def _pairs(text: str) -> list[Pair]:
    """`12.7,13.7` as pairs of a post's and a tag's number; what is no such pair is left out."""
    parts = (part.partition(".") for part in text[:2000].split(","))
    return [
        (int(post), int(tag))
        for post, _, tag in parts
        if post.isdecimal() and tag.isdecimal() and len(post) < 10 and len(tag) < 10
    ]


def _joined(pairs: list[Pair]) -> str:
    return ",".join(f"{post}.{tag}" for post, tag in pairs)


def _found(pair: Pair) -> tuple[Post, Tag] | None:
    """The post and tag, unless one of them is gone by now."""
    post = Post.objects.active().filter(pk=pair[0]).first()
    tag = Tag.objects.filter(pk=pair[1]).defer("histogram").first()
    return (post, tag) if post and tag else None


def _record(pair: Pair, answer: bool, request: HttpRequest) -> bool:
    if found := _found(pair):
        correcting.record(*found, answer, request.user)
    return found is not None


def _take_back(pair: Pair, request: HttpRequest) -> bool:
    if found := _found(pair):
        correcting.undo(*found, request.user)
    return found is not None


def _skip(request: HttpRequest, pair: Pair) -> None:
    """Skipped questions aren't asked again in this session; answered ones never are."""
    request.session["review_skipped"] = [*request.session.get("review_skipped", []), list(pair)][-_SKIPPED:]


def _show(request: HttpRequest, text: str, ahead: list[Pair], behind: list[Pair], count: int) -> HttpResponse:
    """The first question of `ahead` that can be asked; new ones when there are none left."""
    thresholds = profiles.resolve(profiles.chosen(request))
    mistake, hides = "", Hiding()
    found = _first(ahead)
    if found is None:
        try:
            asked, hides = _questions(request, text, thresholds, behind)
        except search.SearchError as error:
            asked, mistake = [], str(error)
        found = _first(asked)
    context: dict[str, Any] = {"q": text, "mistake": mistake, "count": count, "behind": _joined(behind)}
    context |= {"hiding": hides, "bar_next": f"{reverse('review')}?{urlencode({'q': text})}"}
    context["active"] = Release.objects.filter(active=True).exists()
    if found is not None:
        post, tag, rest = found
        byte = next((t for t in correcting.tags_of(post, thresholds) if t.tag.pk == tag.pk), None)
        coming = Post.objects.active().filter(pk=rest[0][0]).first() if rest else None
        context |= {"post": post, "tag": tag, "said": byte, "limit": thresholds.byte(tag.pk, tag.category)}
        current = _joined([(post.pk, tag.pk)])
        fields = {"current": current, "ahead": _joined(rest), "behind": _joined(behind), "q": text, "count": count}
        context |= {"fields": fields, "coming": coming}
        context["caption"] = captions([post.pk], thresholds)[post.pk]
    return render(request, "review/question.html" if request.htmx else "review/page.html", context)


def _questions(
    request: HttpRequest, text: str, thresholds: profiles.Thresholds, behind: list[Pair]
) -> tuple[list[Pair], Hiding]:
    """New questions, none about a post that the visitor's blacklist hides; and what it hides. Raises SearchError."""
    tree, hides = search.without_aliases(search.parse(text)), Hiding()

    def visible(post_ids: list[int]) -> list[int]:
        nonlocal hides
        hides = hiding(request, post_ids, tree)
        return hides.visible(post_ids)

    skipped = [tuple(pair) for pair in request.session.get("review_skipped", [])]
    asked = reviewing.questions(thresholds, text, without=[*skipped, *behind], viewer=request.user, visible=visible)
    return [question.pair for question in asked], hides


def _first(pairs: list[Pair]) -> tuple[Post, Tag, list[Pair]] | None:
    for place, pair in enumerate(pairs):
        if found := _found(pair):
            return *found, pairs[place + 1 :]
    return None
