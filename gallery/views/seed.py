from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from gallery import seeding
from gallery.http import staff_only


@require_POST
@staff_only
def install_seed(request: HttpRequest) -> HttpResponse:
    """Have the demo pictures put in, by a worker."""
    seeding.start()
    messages.success(request, "The demo pictures are being put in.")
    return redirect("staff")


@require_safe
@staff_only
def seed_progress(request: HttpRequest) -> HttpResponse:
    return render(request, "staff/seed.html", {"seed": seed_state()})


def seed_state():
    return seeding.state()
