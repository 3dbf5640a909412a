from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from gallery import correcting
from gallery.http import member_only
from gallery.models import Category, Tag
from gallery.views.panel import answer, visible


@require_POST
@member_only
def verdict(request: HttpRequest, pk: int, tag_pk: int) -> HttpResponse:
    """Yes or no to one tag of one post, or undo what was said."""
    post = visible(request, pk)
    tag = get_object_or_404(Tag, pk=tag_pk)
    said = request.POST.get("answer")
    if said not in ("yes", "no", "undo"):
        return HttpResponseBadRequest("Answer yes, no or undo.")
    if said == "undo":
        correcting.undo(post, tag, request.user)
    else:
        correcting.record(post, tag, said == "yes", request.user)
    return answer(request, post)


@require_POST
@member_only
def add_tag(request: HttpRequest, pk: int) -> HttpResponse:
    """Say yes to a tag by its name, known or new."""
    post = visible(request, pk)
    try:
        tag = correcting.add(post, request.POST.get("tag", ""), request.user)
    except correcting.BadTag as error:
        return answer(request, post, mistake=str(error))
    return answer(request, post, added=None if tag.category == Category.RATING else tag)
