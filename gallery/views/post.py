from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST, require_safe

from gallery import correcting, merging, profiles, search, uploading
from gallery.captions import caption
from gallery.forms import EditForm
from gallery.http import member_only
from gallery.models import Post
from gallery.views.family import family_context
from gallery.views.panel import panel_context, visible


@require_safe
def post(request: HttpRequest, pk: int) -> HttpResponse:
    """The post page; its tag panel alone when HTMX asks, which it does while the tagger works."""
    try:
        found = visible(request, pk, with_tags=True)
    except Http404:
        if merged := Post.objects.filter(pk=pk, merged_into__isnull=False).first():
            return redirect(merging.standing(merged))
        raise
    context = panel_context(request, found, row=getattr(found, "tag_index", None))
    template = "post/panel.html"
    if not request.htmx:
        template = "post/post.html"
        context["caption"] = caption(pk, context["tags_on"])
        context["predictions"] = correcting.said_of(found, known=context["known"])
        context["form"] = EditForm(post=found) if request.user.is_authenticated else None
        context |= family_context(request, found)
        context |= _neighbours(request, context["q"], context["thresholds"], pk)
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _neighbours(request: HttpRequest, text: str, thresholds: profiles.Thresholds, pk: int) -> dict[str, Any]:
    """The posts before and after this one in its search; none in a search with a mistake."""
    try:
        newer, older, by_id = search.neighbours(text, thresholds, pk, viewer=request.user)
    except search.SearchError:
        newer, older, by_id = None, None, True
    return {"newer": newer, "older": older, "by_id": by_id}


@require_POST
@member_only
def delete_post(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a post out of every list; nothing is lost, and its people can bring it back."""
    found = _changeable(request, pk)
    uploading.delete(found, request.user)
    messages.success(request, f"Post {pk} is deleted and shown to nobody else. Restore it below if that was a mistake.")
    return redirect(found)


@require_POST
@member_only
def restore_post(request: HttpRequest, pk: int) -> HttpResponse:
    """Bring a deleted post back, with its tags and verdicts."""
    found = _changeable(request, pk)
    if not found.may_be_restored_by(request.user):
        raise PermissionDenied("The staff deleted this post: ask them to restore it.")
    kept = merging.standing(found)
    uploading.restore(found)
    if kept == found:
        messages.success(request, f"Post {pk} is back.")
    else:
        messages.success(request, f"Post {pk} is back, with its own verdicts, which post {kept.pk} gave back.")
    return redirect(found)


def _changeable(request: HttpRequest, pk: int) -> Post:
    found = visible(request, pk)
    if not found.may_be_changed_by(request.user):
        raise PermissionDenied("Only its uploader and the staff can delete or restore a post.")
    return found
