"""What views share that is about HTTP alone: who may come in, where to go next, files as a stream."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import Resolver404, resolve
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect

View = Callable[..., HttpResponse]

# What a stranger may open on a site for members only.
OPEN_TO_ALL = ("/login/", "/join/", "/static/", "/health/")

_CHUNK = 1 << 18


def to_login(request: HttpRequest) -> HttpResponse:
    """The login page, and back to this one after; a page's part sends the whole page there."""
    if not request.htmx:
        return redirect_to_login(request.get_full_path() if request.method == "GET" else _referring_path(request))
    page = urlsplit(request.htmx.current_url_abs_path or "/")
    back = f"{page.path}?{page.query}" if page.query else page.path
    return HttpResponseClientRedirect(redirect_to_login(back).url)


def _referring_path(request: HttpRequest) -> str:
    """The page that a form was sent from, if it is ours; what only takes POST is nothing to come back to."""
    referer = urlsplit(request.headers.get("Referer", ""))
    if referer.netloc != request.get_host():
        return "/"
    return f"{referer.path}?{referer.query}" if referer.query else referer.path or "/"


def member_only(view: View) -> View:
    """Send strangers to the login page."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        return view(request, *args, **kwargs) if request.user.is_authenticated else to_login(request)

    guarded.for_members = True
    return guarded


def staff_only(view: View) -> View:
    """Send strangers to the login page and turn members away."""

    @wraps(view)
    @member_only
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not request.user.is_staff:
            raise PermissionDenied("This is for the site's staff: ask one of them, or sign in as one.")
        return view(request, *args, **kwargs)

    return guarded


def for_members(path: str) -> bool:
    """Whether a stranger who asks for this path is sent to the login page."""
    path = urlsplit(path).path
    if settings.SITE_MODE == "members":
        return not path.startswith(OPEN_TO_ALL)
    try:
        return getattr(resolve(path).func, "for_members", False)
    except Resolver404:
        return False


def next_path(request: HttpRequest, default: str = "/") -> str:
    """Where a form or an address asks to go after it, if that is on this site."""
    target = request.POST.get("next") or request.GET.get("next", "")
    return target if url_has_allowed_host_and_scheme(target, {request.get_host()}) else default


def tar_response(folder: Path) -> StreamingHttpResponse:
    """`folder` as a tar file, read while it is sent: never whole in memory, its length known before."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    heads = [_head(path, folder) for path in files]
    blocks = sum(len(head) + _padded(path.stat().st_size) for path, head in zip(files, heads, strict=True))
    response = StreamingHttpResponse(_tar(files, heads), content_type="application/x-tar")
    response["Content-Disposition"] = f'attachment; filename="{folder.name}.tar"'
    response["Content-Length"] = blocks + 2 * tarfile.BLOCKSIZE
    return response


def _tar(files: list[Path], heads: list[bytes]) -> Iterator[bytes]:
    for path, head in zip(files, heads, strict=True):
        yield head
        size = 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                yield chunk
        yield b"\0" * (_padded(size) - size)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _head(path: Path, folder: Path) -> bytes:
    info = tarfile.TarInfo(str(Path(folder.name, path.relative_to(folder))))
    info.size, info.mtime = path.stat().st_size, int(path.stat().st_mtime)
    return info.tobuf(tarfile.PAX_FORMAT)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
