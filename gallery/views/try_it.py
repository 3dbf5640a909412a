"""The page Try it: see what the tagger says of a picture, without storing it."""

from __future__ import annotations

from typing import Any, BinaryIO

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Q
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from gallery import pictures, profiles, seeding, tagging
from gallery.http import member_only
from gallery.models import CATEGORY_ORDER, Category, Profile, Release, Tag
from gallery.views.staff import worker_answers
from gallery.views.upload import SizeLimit, not_stored
from gallery.worker import trying

_EXAMPLES = 12
_PATIENCE = 5  # seconds before a silent worker is asked whether it is there
_LONGEST = 60
_SECOND_CHANCE = "choose the picture again"


@csrf_exempt  # the handler must be set before anything reads the body; `_try` checks the token
@require_http_methods(["GET", "POST"])
@member_only
def try_it(request: HttpRequest) -> HttpResponse:
    """The page; a POST hands a picture, or one of the examples, to the tagger."""
    request.too_large = []
    request.upload_handlers.insert(0, SizeLimit(request))
    try:
        return _try(request)
    except OSError as error:  # a large file is written to the disk while it comes, and once more for the worker
        return _answer(request, mistake=not_stored(error))


@csrf_protect
def _try(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        return render(request, "try/page.html", _page(request))
    file = _file(request)
    release = _release(request)
    if request.too_large:
        return _answer(request, mistake=f"The file is too large: send one of at most {settings.UPLOAD_MAX_MB} MB.")
    if file is None:
        return _answer(request, mistake="No picture came: choose one first.")
    if release is None:
        return _answer(request, mistake="No release of the tagger is active: the site's staff can activate one.")
    try:
        pictures.inspect(file)
        token = trying.put(file, request.user.pk, release.pk)
    except (pictures.BadPicture, trying.TooMany) as error:
        return _answer(request, mistake=str(error))
    tagging.send("try_pictures")
    if not request.htmx:
        return redirect("try_result", token)
    return _answer(request, token=token)


def _file(request: HttpRequest) -> UploadedFile | BinaryIO | None:
    if name := request.POST.get("example"):
        path = seeding.example(name)
        return path.open("rb") if path else None
    return request.FILES.get("picture")


def _release(request: HttpRequest) -> Release | None:
    """The active release; staff may ask for another, which the worker loads beside it."""
    wanted = request.POST.get("release", "")
    if request.user.is_staff and wanted.isdecimal():
        return get_object_or_404(Release, pk=int(wanted))
    return Release.objects.filter(active=True).first()


def _page(request: HttpRequest) -> dict[str, Any]:
    releases = Release.objects.defer("tag_ids", "card", "metrics").order_by("-active", "-installed_at")
    return {
        "examples": seeding.examples(_EXAMPLES),
        "releases": releases if request.user.is_staff else releases.filter(active=True),
        "categories": [category.label for category in CATEGORY_ORDER],
        "max_mb": settings.UPLOAD_MAX_MB,
    }


def _answer(request: HttpRequest, **context: Any) -> HttpResponse:
    """The part for the page's script; without it the whole page with that part."""
    template = "try/result.html"
    if not request.htmx:
        context |= _page(request)
        template = "try/page.html"
    response = render(request, template, context, status=422 if context.get("mistake") else 200)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
@member_only
def try_result(request: HttpRequest, token: str) -> HttpResponse:
    """The tags when the worker has found them; until then what is waited for, and asks again."""
    found = trying.look(token, request.user.pk)
    if found is None:
        return _answer(request, mistake=f"This picture is forgotten, as all that are tried here: {_SECOND_CHANCE}.")
    if found["state"] == "failed":
        return _answer(request, mistake=f"The tagger could not tag this picture: {found['reason']}")
    if found["state"] == "done":
        return _answer(request, result=_result(request, found))
    seconds = trying.waiting_seconds(found)
    if seconds > _PATIENCE and not worker_answers():
        trying.drop(token)
        return _answer(
            request, mistake=f"No worker of the tagger answers: tell the site's staff, or {_SECOND_CHANCE} later."
        )
    if seconds > _LONGEST:
        trying.drop(token)
        return _answer(request, mistake=f"The tagger is too busy now: {_SECOND_CHANCE} later.")
    return _answer(request, token=token, busy=seconds > _PATIENCE)


def _result(request: HttpRequest, found: dict[str, Any]) -> dict[str, Any]:
    """All that the page's script needs to show the tags in any way without asking again."""
    release = get_object_or_404(Release, pk=found["release"])
    wanted = {tag_id for rows in found["tags"].values() for tag_id, _ in rows}
    known = dict(Tag.objects.filter(pk__in=wanted).values_list("pk", "name"))
    category_of = dict(Tag.objects.filter(pk__in=wanted).values_list("pk", "category"))
    stages = {
        stage: [[known[tag_id], Category(category_of[tag_id]).label, byte] for tag_id, byte in rows if tag_id in known]
        for stage, rows in found["tags"].items()
    }
    choices = Profile.objects.filter(Q(owner=None, release=release) | Q(owner=request.user)).order_by(
        "owner", "position"
    )
    chosen = profiles.chosen(request)
    return {
        "release": release.title,
        "seconds": round(found["seconds"], 2),
        "stages": stages,
        "profiles": [
            {
                "id": profile.pk,
                "key": profile.key,
                "name": profile.name,
                "own": profile.owner_id is not None,
                "overall": profile.overall,
                "by_category": profile.by_category,
                "by_tag": profile.by_tag,
            }
            for profile in choices.order_by("owner", "position")
        ],
        "chosen": {"id": chosen.pk, "key": chosen.key, "own": chosen.owner_id is not None},
    }


@require_safe
@member_only
@cache_control(private=True, max_age=86400)
def try_example(request: HttpRequest, name: str) -> FileResponse:
    """A picture of the seed gallery, installed or not."""
    path = seeding.example(name)
    if path is None:
        raise Http404("There is no such example.")
    return FileResponse(path.open("rb"), content_type="image/webp")
