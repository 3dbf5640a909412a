from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from gallery import profiles, saving, search
from gallery.captions import Caption, captions
from gallery.index.page_rows import PageRows
from gallery.models import CATEGORY_ORDER, Category, Post
from gallery.profiles import Thresholds
from gallery.search.parser import MAX_LENGTH
from gallery.views import paging
from gallery.views.blacklist import hiding
from gallery.views.terms import Row, row_of

_SUGGESTIONS = 10
_REMEDIES = 6
_FIXES = 5  # mistakes of one search that are put right together
_SAVED_SHOWN = 12
_MOST = 8  # rows of each category but general, so that a page of many artists shows more than artists


@require_safe
def browse(request: HttpRequest) -> HttpResponse:
    """A page of the search, newest first, with its tags beside it."""
    text = paging.search_text(request.GET)
    thresholds = profiles.resolve(profiles.chosen(request))
    try:
        place = paging.asked(request.GET)
        page = search.find(text, thresholds, limit=settings.PAGE_SIZE, viewer=request.user, **place)
        count = search.count(text, thresholds, viewer=request.user, page=page)
    except search.SearchError as error:
        return _mistake(request, text, error)
    if not page.post_ids and not text.strip() and not Post.objects.active().exists():
        return render(request, "browse/first.html", {"q": text})
    posts = Post.objects.select_related("tag_index").in_bulk(page.post_ids)
    rows = PageRows.of_posts(posts.values(), page.thresholds)
    tree = page.query.without_aliases()
    hides = hiding(request, page.post_ids, tree)
    context = {
        "q": text,
        "page": page,
        "count": count,
        "pager": paging.pager(request.GET, page, count),
        "tags": _sidebar(page, tree, rows),
        "hiding": hides,
        "tiles": _tiles(posts, hides.visible(page.post_ids), page.thresholds, rows),
    }
    if request.user.is_authenticated:
        context |= _saved(request.user, text, page, context["pager"], thresholds)
    if not page.post_ids:
        found = search.remedies(text, thresholds, viewer=request.user, names=page.query and page.query.names)
        context["remedies"] = found[:_REMEDIES]
    return render(request, "browse/browse.html", context)


def _saved(
    user: AbstractBaseUser, text: str, page: search.Page, pager: paging.Pager, thresholds: Thresholds
) -> dict[str, Any]:
    """A member's saved searches for beside the page, and whether this is one of them, which then is seen."""
    rows = saving.of(user)
    kept = saving.shown_by(rows, text)
    if pager.number == 1:
        saving.mark_seen(kept, page, thresholds, user)
    named = [(name, list(of_name)) for name, of_name in groupby(rows, key=lambda row: row.name)]
    shown = [(name, of_name[0].query if len(of_name) == 1 else f"search:{name}") for name, of_name in named]
    return {"kept": kept, "saved": shown[:_SAVED_SHOWN], "saved_more": len(shown) > _SAVED_SHOWN}


def _mistake(request: HttpRequest, text: str, error: search.SearchError) -> HttpResponse:
    """Where the text went wrong and what would mend it, or that the page or the time was the matter."""
    context = {
        "q": text,
        "mistake": error,
        "fixed": _mended(text, error),
        "too_long": isinstance(error, search.SearchTimeout),
        "no_page": isinstance(error, search.PageError),
    }
    return render(request, "browse/mistake.html", context, status=400)


def _mended(text: str, error: search.SearchError) -> str:
    """The text with this mistake put right, and those behind it; nothing when one of them can't be."""
    for _ in range(_FIXES):
        if not error.fix:
            return ""
        text = error.fix.applied(text)
        try:
            search.parse(text)
        except search.SearchError as further:
            error = further
        else:
            return text
    return ""


def _tiles(
    posts: dict[int, Post], post_ids: list[int], thresholds: profiles.Thresholds, rows: PageRows
) -> list[tuple[Post, Caption]]:
    """These posts with their captions, in the search's order."""
    described = captions(post_ids, thresholds, rows)
    return [(posts[pk], described[pk]) for pk in post_ids if pk in posts]


def _sidebar(page: search.Page, tree: search.Node, rows: PageRows) -> list[tuple[Category, list[Row]]]:
    """The page's tags by category, in the site's order."""
    found = search.page_tags(page.post_ids, page.thresholds, rows=rows)
    return [
        (category, [row_of(tree, tag.name, category, count) for tag, count in tags[: _shown_of(category)]])
        for category in CATEGORY_ORDER
        if (tags := found.get(category))
    ]


def _shown_of(category: Category) -> int | None:
    return None if category == Category.GENERAL else _MOST


@require_safe
def suggest(request: HttpRequest) -> JsonResponse:
    """Completions of the word that ends at the cursor."""
    text = request.GET.get("q", "")[:MAX_LENGTH]
    cursor = request.GET.get("cursor", "")
    at = int(cursor) if cursor.isdecimal() and len(cursor) < 5 else len(text)
    before, after = text[:at], re.sub(r"^[^\s)]*", "", text[at:])
    thresholds = profiles.resolve(profiles.chosen(request))
    found = search.suggest(before, thresholds, _SUGGESTIONS, after=after, viewer=request.user)
    return JsonResponse({"suggestions": [_as_json(suggestion) for suggestion in found]})


def _as_json(suggestion: search.Suggestion) -> dict[str, object]:
    return {
        "value": suggestion.value,
        "label": suggestion.label,
        "category": None if suggestion.category is None else Category(suggestion.category).label,
        "count": suggestion.count,
        "exact": suggestion.exact,
        "alias_of": suggestion.alias_of,
        "start": suggestion.start,
    }
