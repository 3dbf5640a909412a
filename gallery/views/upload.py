from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import RequestDataTooBig, TooManyFilesSent
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from gallery import correcting, merging, profiles, uploading
from gallery.forms import PictureForm
from gallery.http import member_only
from gallery.models import CATEGORY_ORDER, Post, PostStatus, Release, TaggingState
from gallery.views.blacklist import hiding

logger = logging.getLogger(__name__)

_POLL_FIRST = 400  # milliseconds until the page asks for a fresh upload's tags
_POLL_MOST = 5000
_HELD_MOST = 100  # pictures waiting for a choice that the page shows at once
_GONE = "This picture was skipped meanwhile: send its file again to upload it after all."


@dataclass
class Row:
    """What became of one file."""

    name: str
    post: Post | None = None
    created: bool = False
    refusal: str = ""
    again: bool = False  # what was wrong stands beside the file, which can be sent again once it is mended
    twin: Post | None = None  # what it is nearly a copy of
    gone: Post | None = None  # what was merged into `post`
    stays: Post | None = None  # which of the two a merge would keep

    @property
    def held(self) -> bool:
        return self.post is not None and self.post.status == PostStatus.HELD


class SizeLimit(FileUploadHandler):
    """Drops a file once it passes the site's limit, so that it never fills the disk, and notes its name."""

    def new_file(self, *args: object, **kwargs: object) -> None:
        super().new_file(*args, **kwargs)
        self.received = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        self.received += len(raw_data)
        if self.received > settings.UPLOAD_MAX_MB * 1024 * 1024:
            self.request.too_large.append(self.file_name or "A file")
            raise SkipFile
        return raw_data

    def file_complete(self, file_size: int) -> None:
        return None  # the next handler keeps the file


@csrf_exempt  # the handler must be set before anything reads the body; `_upload` checks the token
@require_http_methods(["GET", "POST"])
@member_only
def upload(request: HttpRequest) -> HttpResponse:
    """The upload page; a POST takes files in: one from the page's script, several from a plain form."""
    request.too_large = []
    request.upload_handlers.insert(0, SizeLimit(request))
    try:
        return _upload(request)
    except (TooManyFilesSent, RequestDataTooBig):
        most = settings.DATA_UPLOAD_MAX_NUMBER_FILES
        row = Row("The upload", refusal=f"That was too much at once: send at most {most} files in one go.")
        return _answer(request, [row], PictureForm())
    except OSError as error:  # a large file is written to the disk while it comes
        return _answer(request, [Row("The upload", refusal=not_stored(error))], PictureForm())


@csrf_protect
def _upload(request: HttpRequest) -> HttpResponse:
    form = PictureForm(request.POST if request.method == "POST" else None)
    if request.method == "GET":
        return _answer(request, [_held_row(post, request) for post in merging.held_by(request.user)[:_HELD_MOST]], form)
    if not form.is_valid():
        refusal = " ".join(error for errors in form.errors.values() for error in errors)
        return _answer(request, [Row("The upload", refusal=refusal, again=True)], form)
    rows = [_take(file, request, form.cleaned_data) for file in request.FILES.getlist("files")]
    limit = f"The file is too large: send one of at most {settings.UPLOAD_MAX_MB} MB."
    rows += [Row(name, refusal=limit) for name in request.too_large]
    return _answer(request, rows or [Row("Nothing", refusal="No file came: choose a picture first.")], form)


def _take(file: UploadedFile, request: HttpRequest, about: dict[str, str]) -> Row:
    try:
        stored = uploading.store(file, name=file.name, uploader=request.user, **about)
    except uploading.Refused as error:
        return Row(file.name, refusal=str(error))
    except OSError as error:
        return Row(file.name, refusal=not_stored(error))
    if stored.post.status == PostStatus.HELD:
        return _held_row(stored.post, request, file.name)
    twin = stored.near[0].post if stored.near else None
    merged = about["near"] == merging.Choice.MERGE and twin is not None
    return Row(
        file.name,
        stored.post,
        stored.created and not (merged and stored.post == twin),
        twin=twin,
        gone=twin if merged and stored.post != twin else None,
    )


def not_stored(error: OSError) -> str:
    """The sentence of a disk that takes no more."""
    logger.error("An uploaded file could not be stored: %s", error)
    return f"The site can't store the file ({error.strerror or error}): ask its staff to make room on its disk."


def _held_row(post: Post, request: HttpRequest, name: str = "") -> Row:
    """A picture that waits for its uploader's choice, beside what it is nearly a copy of."""
    twin = merging.standing(post.parent) if post.parent else None
    stays = merging.would_stay(post, twin, request.user) if twin else post
    return Row(name or post.file_name or f"Picture {post.pk}", post, True, twin=twin, stays=stays)


@require_POST
@member_only
def upload_choice(request: HttpRequest, pk: int) -> HttpResponse:
    """Skip, keep or merge one held picture."""
    post = Post.objects.select_related("parent__uploader").filter(pk=pk).first()
    if post is None:
        return _gone(request, f"Picture {pk}")
    if post.uploader_id != request.user.pk:
        raise Http404("That picture is another person's.")
    choice = _choice(request)
    if choice is None:
        return _answer(request, [_held_row(post, request)], PictureForm())
    was_held, twin = post.status == PostStatus.HELD, post.parent
    try:
        outcome = merging.decide(post, choice, request.user)
    except merging.Gone:
        return _gone(request, post.file_name)
    if not request.htmx:
        messages.success(request, "Done as you chose.")
        return redirect("upload")
    if not was_held:
        twin = None
    row = Row(post.file_name, outcome.kept, outcome.kept.pk == pk, twin=twin, gone=outcome.gone)
    return _answer(request, [row], PictureForm())


def _gone(request: HttpRequest, name: str) -> HttpResponse:
    if not request.htmx:
        messages.warning(request, _GONE)
        return redirect("upload")
    return render(request, "upload/result.html", {"row": Row(name, refusal=_GONE)})


@require_POST
@member_only
def upload_choices(request: HttpRequest) -> HttpResponse:
    """Skip, keep or merge all pictures that wait for this person's choice."""
    choice = _choice(request)
    number = 0
    for post in merging.held_by(request.user) if choice else []:
        with suppress(merging.Gone):
            merging.decide(post, choice, request.user)
            number += 1
    if number:
        messages.success(request, f"{number} picture{'s' if number > 1 else ''}: done as you chose.")
    return redirect("upload")


def _choice(request: HttpRequest) -> merging.Choice | None:
    sent = request.POST.get("choice", "")
    return merging.Choice(sent) if sent in merging.Choice.values else None


def _answer(request: HttpRequest, rows: list[Row], form: PictureForm) -> HttpResponse:
    """The page, or for its script the one row; 400 when nothing was taken."""
    refused = bool(rows) and all(row.refusal for row in rows)
    hidden = hiding(request, [row.twin.pk for row in rows if row.held and row.twin]).hidden
    context = {"rows": rows, "form": form, "poll": _POLL_FIRST, "max_mb": settings.UPLOAD_MAX_MB, "hidden": hidden}
    if request.htmx:
        context["row"] = rows[0]
        return render(request, "upload/result.html", context, status=400 if refused else 200)
    held = [row for row in rows if row.held]
    context |= {
        "held": len(held),
        "sent": len(rows) if request.method == "POST" else 0,
        "max_bytes": settings.UPLOAD_MAX_MB * 1024 * 1024,
        "max_megapixels": settings.UPLOAD_MAX_MEGAPIXELS,
        "max_files": settings.DATA_UPLOAD_MAX_NUMBER_FILES,
        "here": reverse("upload"),  # also where the answer to a choice is shown
    }
    return render(request, "upload/page.html", context, status=400 if refused else 200)


@require_safe
@member_only
def upload_status(request: HttpRequest, pk: int) -> HttpResponse:
    """The tags of a fresh upload when they have come; until then what it waits for, and asks again."""
    post = get_object_or_404(Post.objects.active(), pk=pk)
    context: dict[str, object] = {"post": post}
    if post.tagging_state == TaggingState.TAGGED:
        context["groups"] = _tags_on(request, post)
    elif post.tagging_state != TaggingState.FAILED:
        ahead = _ahead(post)
        context |= {
            "ahead": ahead,
            "has_release": Release.objects.filter(active=True).exists(),
            "poll": min(_POLL_FIRST + 50 * ahead, _POLL_MOST),
        }
    return render(request, "upload/tags.html", context)


def _ahead(post: Post) -> int:
    """How many posts the tagger takes before this one."""
    if post.tagging_state != TaggingState.WAITING:
        return 0
    waiting = Post.objects.waiting().order_by()
    return (waiting.filter(priority__gt=post.priority) | waiting.filter(priority=post.priority, pk__gt=post.pk)).count()


def _tags_on(request: HttpRequest, post: Post) -> list[tuple[str, list[correcting.PostTag]]]:
    """The post's tags that are on for this visitor, by category in the site's order."""
    thresholds = profiles.resolve(profiles.chosen(request))
    tags = [tag for tag in correcting.tags_of(post, thresholds) if tag.on]
    groups = [(category.label, [tag for tag in tags if tag.category == category]) for category in CATEGORY_ORDER]
    return [(label, found) for label, found in groups if found]
