from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from gallery import seeding
from gallery.http import next_path, staff_only


@require_POST
@staff_only
def install_seed(request: HttpRequest) -> HttpResponse:
    """Have the demo pictures put in, by a worker."""
    seeding.start()
    messages.success(request, "The demo pictures are being put in.")
    return redirect(next_path(request, reverse("staff")))


@require_safe
@staff_only
def seed_progress(request: HttpRequest) -> HttpResponse:
    """The overview's part that says how many are in."""
    return render(request, "staff/seed.html", {"seed": seeding.state()})
