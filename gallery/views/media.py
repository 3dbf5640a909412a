from __future__ import annotations

import re

from django.conf import settings
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from gallery.models import Post, PostStatus

# Decided by what we stored under, never by what was uploaded: no SVG, no HTML, nothing that runs.
_TYPES = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
}
_PATH = re.compile(r"(?:original|thumbnail/\d+)/[0-9a-f]{2}/[0-9a-f]{2}/(?P<sha256>[0-9a-f]{64})\.(?P<ext>[a-z]+)")


@require_safe
def media(request: HttpRequest, path: str) -> HttpResponseBase:
    """A picture file. Its name is its hash, so it never changes; a deleted or held post's is for its people only."""
    match = _PATH.fullmatch(path)
    if match is None or match["ext"] not in _TYPES:
        raise Http404("There is no such picture.")
    post = Post.objects.filter(sha256=match["sha256"]).only("status", "uploader_id").first()
    hidden = post is not None and post.status != PostStatus.ACTIVE
    if post is None or (hidden and not post.may_be_changed_by(request.user)):
        raise Http404("There is no such picture.")
    if not hidden and request.headers.get("If-None-Match") == _etag(path):
        return HttpResponseNotModified()
    response = _file(path, _TYPES[match["ext"]])
    whose = "private" if settings.SITE_MODE == "members" else "public"
    response["Cache-Control"] = "private, no-store" if hidden else f"{whose}, max-age=31536000, immutable"
    response["ETag"] = _etag(path)
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; sandbox"
    return response


def _file(path: str, content_type: str) -> HttpResponseBase:
    """The file's bytes, or the word on which the proxy sends them (deploy/nginx.conf)."""
    if settings.MEDIA_BY_PROXY:
        return HttpResponse(content_type=content_type, headers={"X-Accel-Redirect": f"/proxied-media/{path}"})
    try:
        return FileResponse(default_storage.open(path), content_type=content_type)
    except FileNotFoundError:
        raise Http404("The picture's file is missing.") from None


def _etag(path: str) -> str:
    return f'"{path}"'
