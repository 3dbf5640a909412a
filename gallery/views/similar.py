"""More like a post, and posts like a picture that somebody brings: near copies first, then look-alikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_safe
from PIL import Image

from gallery import pictures, profiles, tagging
from gallery.captions import Caption, captions
from gallery.http import member_only
from gallery.likeness import copies, features, search
from gallery.models import Post, Release
from gallery.views.blacklist import hiding
from gallery.views.panel import visible
from gallery.views.staff import worker_answers
from gallery.views.upload import SizeLimit, not_stored
from gallery.worker import trying

_STRIP = 8
_STRIP_SECONDS = 600
_MOST = 40
_PATIENCE = 5  # seconds before a silent worker is asked whether it is there
_LONGEST = 60
_ONLY_COPIES = "so only near copies are shown"

Tile = tuple[Post, Caption]


@require_safe
def similar_posts(request: HttpRequest, pk: int) -> HttpResponse:
    """Posts like this one: a strip for the post's page when its script asks, else a page with near copies."""
    post = visible(request, pk)
    if request.htmx:
        alike = _remembered(post)
        first = (alike or [])[:_STRIP]
        hides = hiding(request, first)
        context = {"post": post, "known": alike is not None, "hiding": hides}
        context["alike"] = _tiles(request, hides.visible(first))
        response = render(request, "similar/strip.html", context)
    else:
        found = search.of_post(post, _MOST)
        near = [each.post.pk for each in copies.of_post(post)]
        alike = [each.post_id for each in found or [] if each.post_id not in near]
        context = {"post": post, "known": found is not None} | _lists(request, near, alike)
        response = render(request, "similar/of_post.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _remembered(post: Post) -> list[int] | None:
    """Posts for its strip, looked for once in ten minutes: every visit to its page asks."""
    key = f"more-like:{post.pk}"
    if (alike := cache.get(key)) is None:
        found = search.of_post(post, 2 * _STRIP)
        if found is None:
            return None
        alike = [each.post_id for each in found]
        if alike:
            cache.set(key, alike, _STRIP_SECONDS)
    return alike


@csrf_exempt  # the handler must be set before anything reads the body; `_bring` checks the token
@require_http_methods(["GET", "POST"])
@member_only
def similar(request: HttpRequest) -> HttpResponse:
    """The page to bring a picture to; a POST searches with it. `?post=12` leads to that post's."""
    request.too_large = []
    request.upload_handlers.insert(0, SizeLimit(request))
    try:
        return _bring(request)
    except OSError as error:  # a large file is written to the disk while it comes, and once more for the worker
        return _answer(request, mistake=not_stored(error))


@csrf_protect
def _bring(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        return _of_number(request) if "post" in request.GET else _answer(request)
    file = request.FILES.get("picture")
    if request.too_large:
        return _answer(request, mistake=f"The file is too large: send one of at most {settings.UPLOAD_MAX_MB} MB.")
    if file is None:
        return _answer(request, mistake="No picture came: choose one first.")
    try:
        picture = pictures.inspect(file, (360,))
    except pictures.BadPicture as error:
        return _answer(request, mistake=str(error))
    with Image.open(picture.thumbnail()) as thumbnail:
        near = [each.post.pk for each in copies.of_picture(picture.perceptual_hash, thumbnail)]
    release = Release.objects.filter(active=True).only("pk").first()
    if release is None:
        return _answer(request, near=near, note=f"No release of the tagger is active, {_ONLY_COPIES}.")
    try:
        token = trying.put(file, request.user.pk, release.pk, near=near)
    except trying.TooMany as error:
        return _answer(request, near=near, note=str(error))
    tagging.send("try_pictures")
    if not request.htmx:
        return redirect("similar_result", token)
    return _answer(request, near=near, token=token)


def _of_number(request: HttpRequest) -> HttpResponse:
    number = request.GET["post"].strip().removeprefix("#")
    if not number.isdecimal() or len(number) > 18 or not Post.objects.active().filter(pk=int(number)).exists():
        return _answer(request, mistake="There is no such post: give the number of one, such as 12.")
    return redirect("similar_posts", int(number))


@require_safe
@member_only
def similar_result(request: HttpRequest, token: str) -> HttpResponse:
    """Near copies at once; look-alikes when a worker has looked at the picture, until then what is waited for."""
    found = trying.look(token, request.user.pk)
    if found is None or "near" not in found:
        return _answer(request, mistake="This picture is forgotten, as all that are searched with: choose it again.")
    near = found["near"]
    if found["state"] == "failed":
        return _answer(request, near=near, note=f"The tagger could not look at this picture: {found['reason']}")
    if found["state"] == "done":
        return _looked(request, near, found)
    seconds = trying.waiting_seconds(found)
    if seconds > _PATIENCE and not worker_answers():
        return _given_up(request, token, near, f"No worker of the tagger answers, {_ONLY_COPIES}.")
    if seconds > _LONGEST:
        return _given_up(request, token, near, f"The tagger is too busy now, {_ONLY_COPIES}: try again later.")
    return _answer(request, near=near, token=token, busy=seconds > _PATIENCE)


def _given_up(request: HttpRequest, token: str, near: list[int], note: str) -> HttpResponse:
    trying.answer(token, state="failed", reason=note)
    return _answer(request, near=near, note=note)


def _looked(request: HttpRequest, near: list[int], found: dict[str, Any]) -> HttpResponse:
    if not found.get("feature"):
        return _answer(request, near=near, note=f"The active release can't compare pictures, {_ONLY_COPIES}.")
    alike = search.of_direction(found["release"], features.unpack(found["feature"]), _MOST)
    return _answer(request, near=near, alike=[each.post_id for each in alike if each.post_id not in near], looked=True)


def _answer(
    request: HttpRequest, near: Sequence[int] | None = None, alike: Sequence[int] = (), **context: Any
) -> HttpResponse:
    """The part for the page's script; without it the whole page with that part."""
    context |= {"max_mb": settings.UPLOAD_MAX_MB} | _lists(request, near, alike)
    template = "similar/result.html" if request.htmx else "similar/page.html"
    response = render(request, template, context, status=422 if context.get("mistake") else 200)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _lists(request: HttpRequest, near: Sequence[int] | None, alike: Sequence[int]) -> dict[str, Any]:
    """Near copies, None where nothing was looked for, and look-alikes, without what the blacklist hides of them."""
    hides = hiding(request, [*(near or ()), *alike])
    return {
        "hiding": hides,
        "near": None if near is None else _tiles(request, hides.visible(near)),
        "near_hidden": len(hides.hidden.intersection(near or ())),
        "alike": _tiles(request, hides.visible(alike)),
        "alike_hidden": len(hides.hidden.intersection(alike)),
    }


def _tiles(request: HttpRequest, post_ids: Sequence[int]) -> list[Tile]:
    """Active posts in this order, with their captions."""
    if not post_ids:
        return []
    posts = Post.objects.active().in_bulk(post_ids)
    told = captions(posts, profiles.resolve(profiles.chosen(request)))
    return [(posts[pk], told[pk]) for pk in post_ids if pk in posts]
