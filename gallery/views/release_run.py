"""How a release is run: stage, mode and engine, and the check of its fast mode."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST, require_safe

from gallery.http import staff_only
from gallery.models import Release
from gallery.releases import running
from gallery.tagging import ReleaseError


@require_safe
@staff_only
def release_ways(request: HttpRequest, pk: int) -> HttpResponse:
    """The page's part; it asks for what it says once more until the check of fast mode ends, and hears nothing before.

    So nothing is read aloud each second.
    """
    found = get_object_or_404(Release, pk=pk)
    if not request.htmx:
        return redirect("release", pk)
    return HttpResponse(status=204) if running.is_checked(found) else _part(request, found)


@require_POST
@staff_only
def run_release(request: HttpRequest, pk: int) -> HttpResponse:
    """Choose stage, mode and engine; what is left out stays as it is."""
    found = get_object_or_404(Release, pk=pk)
    wanted = {name: request.POST.get(name, getattr(found, name)) for name in ("stage", "mode", "engine")}
    mistake = ""
    try:
        running.choose(found, **wanted)
    except (running.RunError, ReleaseError) as error:
        mistake = str(error)
    found.refresh_from_db()
    if request.htmx:
        return _part(request, found, mistake=mistake, chosen=not mistake)
    if mistake:
        messages.error(request, mistake)
    return redirect("release", pk)


def context(release: Release) -> dict[str, Any]:
    """What the part shows."""
    return {
        "release": release,
        "ways": running.ways(release),
        "checking": running.is_checked(release),
        "facts": running.facts(release),
        "gate": release.gate,
        "results": release.gate.get("results") or [release.gate],
    }


def _part(request: HttpRequest, release: Release, **more: Any) -> HttpResponse:
    response = render(request, "staff/ways.html", {**context(release), **more})
    patch_vary_headers(response, ["HX-Request"])
    return response
