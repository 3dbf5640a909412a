from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST, require_safe

from gallery import correcting, profiles, search, uploading
from gallery.captions import captions
from gallery.http import member_only
from gallery.models import Post
from gallery.views.panel import panel_context, visible


@require_safe
def post(request: HttpRequest, pk: int) -> HttpResponse:
    """The post page; its tag panel alone when HTMX asks, which it does while the tagger works."""
    found = visible(request, pk)
    context = panel_context(request, found)
    template = "post/panel.html"
    if not request.htmx:
        template = "post/post.html"
        context["caption"] = captions([pk], context["thresholds"])[pk]
        context["predictions"] = correcting.said_of(found)
        context |= _neighbours(request, context["q"], context["thresholds"], pk)
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _neighbours(request: HttpRequest, text: str, thresholds: profiles.Thresholds, pk: int) -> dict[str, Any]:
    """The posts before and after this one in its search; none in a search with a mistake."""
    try:
        newer, older = search.neighbours(text, thresholds, pk, viewer=request.user)
    except search.SearchError:
        newer = older = None
    return {"newer": newer, "older": older}


@require_POST
@member_only
def delete_post(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a post out of every list; nothing is lost, and its people can bring it back."""
    found = _changeable(request, pk)
    uploading.delete(found)
    messages.success(request, f"Post {pk} is deleted and shown to nobody else. Restore it below if that was a mistake.")
    return redirect(found)


@require_POST
@member_only
def restore_post(request: HttpRequest, pk: int) -> HttpResponse:
    """Bring a deleted post back, with its tags and verdicts."""
    found = _changeable(request, pk)
    uploading.restore(found)
    messages.success(request, f"Post {pk} is back.")
    return redirect(found)


def _changeable(request: HttpRequest, pk: int) -> Post:
    found = visible(request, pk)
    if not found.may_be_changed_by(request.user):
        raise PermissionDenied("Only its uploader and the staff can delete or restore a post.")
    return found
