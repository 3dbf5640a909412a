"""Install a release from files that a browser sends: straight to disk, checked, then moved into place."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST
from django_htmx.http import HttpResponseClientRedirect

from gallery.http import staff_only
from gallery.releases import releasing

_KINDS = {".json", ".md", ".txt", ".csv", ".png", ".safetensors", ".onnx"}
_PICTURE = ".webp"  # of the release's own pictures, on which its fast mode is checked
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}


class IntoFolder(FileUploadHandler):
    """Writes each file under its own name into `folder`, whatever its size, and leaves the rest of its path away."""

    def __init__(self, request: HttpRequest, folder: Path) -> None:
        super().__init__(request)
        self.folder = folder
        self.refused: list[str] = []
        self.target: BinaryIO | None = None

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        name = Path((self.file_name or "").replace("\\", "/")).name
        if name.startswith(".") or Path(name).suffix.lower() not in {*_KINDS, _PICTURE}:
            if not name.startswith("."):  # what file managers leave in folders is nothing to speak of
                self.refused.append(name)
            raise SkipFile
        folder = self.folder / "calibration" if name.endswith(_PICTURE) else self.folder
        folder.mkdir(exist_ok=True)
        # Folders come without their names: two files of one name are the credits of both.
        self.target = (folder / name).open("ab" if name.endswith(".md") else "wb")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.target.write(raw_data)

    def file_complete(self, file_size: int) -> None:
        self.target.close()


@csrf_exempt  # the handler must be set before anything reads the body; `_install` checks the token
@require_POST
@staff_only
def upload_release(request: HttpRequest) -> HttpResponse:
    """Take a folder's files; nothing is left of them unless they are a whole release."""
    settings.RELEASES_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".upload.", dir=settings.RELEASES_DIR) as temporary:
        folder = Path(temporary) / "release"
        folder.mkdir()
        handler = IntoFolder(request, folder)
        request.upload_handlers = [handler]
        try:
            return _install(request, handler)
        except OSError as error:
            return _mistake(request, f"The files can't be written ({error.strerror}): make room on the server's disk.")


@csrf_protect
def _install(request: HttpRequest, handler: IntoFolder) -> HttpResponse:
    request.FILES  # noqa: B018 - reading the body is what writes the files
    if pickles := [name for name in handler.refused if Path(name).suffix.lower() in _PICKLES]:
        return _mistake(request, f"{pickles[0]} is a pickle, which can run code when opened: send safetensors instead.")
    if handler.refused:
        return _mistake(request, f"{handler.refused[0]} is no part of a release: send the release's own files alone.")
    if not any(handler.folder.iterdir()):
        return _mistake(request, "No file came: choose the release's folder first.")
    try:
        release = releasing.install(handler.folder, move=True)
    except releasing.ReleaseError as error:
        return _mistake(request, str(error).replace(str(handler.folder.resolve()), "what you sent"))
    page = reverse("release", args=[release.pk])
    return HttpResponseClientRedirect(page) if request.htmx else redirect(page)


def _mistake(request: HttpRequest, sentence: str) -> HttpResponse:
    """The sentence for the page's script to show; without it a page of its own."""
    if request.htmx:
        return render(request, "staff/upload_mistake.html", {"mistake": sentence}, status=422)
    return render(request, "staff/upload_refused.html", {"mistake": sentence}, status=400)
