from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from gallery.models import Tag


@require_safe
def tags(request: HttpRequest) -> HttpResponse:
    """The tags of the collection, most used first."""
    return render(request, "tags/list.html", {"tags": Tag.objects.order_by("-post_count", "name")[:100]})
