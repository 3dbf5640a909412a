"""Getting a published tagger from a model hub: begin, follow, cancel, go on, forget."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import reselect, retarget

from gallery.http import staff_only
from gallery.models import ReleaseImport
from gallery.releases import importing


@require_POST
@staff_only
def get_release(request: HttpRequest) -> HttpResponse:
    """Have a worker download one of the taggers known by name."""
    try:
        importing.start(request.POST.get("tagger", ""), request.user)
    except importing.ImportRefused as error:
        messages.error(request, str(error))
    return redirect("releases")


@require_safe
@staff_only
def release_import(request: HttpRequest, pk: int) -> HttpResponse:
    """How far one is; what says so asks again, and when it ends the whole card comes, with what can be done then."""
    if not request.htmx:
        return redirect("releases")
    row = get_object_or_404(ReleaseImport, pk=pk)
    response = _part(request, row)
    if not row.is_under_way:
        card = f"#import-{row.pk}"
        retarget(reselect(response, card), card)
    return response


@require_POST
@staff_only
def cancel_import(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(ReleaseImport, pk=pk)
    importing.cancel(row)
    return _part(request, row) if request.htmx else redirect("releases")


@require_POST
@staff_only
def resume_import(request: HttpRequest, pk: int) -> HttpResponse:
    row = importing.go_on(get_object_or_404(ReleaseImport, pk=pk))
    return _part(request, row) if request.htmx else redirect("releases")


@require_POST
@staff_only
def remove_import(request: HttpRequest, pk: int) -> HttpResponse:
    """Forget it, and delete what came of it."""
    try:
        importing.remove(get_object_or_404(ReleaseImport, pk=pk))
    except importing.ImportRefused as error:
        messages.error(request, str(error))
    return redirect("releases")


def _part(request: HttpRequest, row: ReleaseImport) -> HttpResponse:
    response = render(request, "staff/import.html", {"row": row, "title": importing.title(row)})
    patch_vary_headers(response, ["HX-Request"])
    return response
