from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from gallery import profiles, saving
from gallery.http import member_only, next_path
from gallery.models import SavedSearch
from gallery.saving import SavingError


@require_safe
@member_only
def saved_searches(request: HttpRequest) -> HttpResponse:
    """One's saved searches, and how many new posts each has."""
    return _listed(request)


def _listed(request: HttpRequest, refused: dict[str, object] | None = None) -> HttpResponse:
    """The list; with a change that was `refused`, as it was typed."""
    rows = saving.news(request.user, profiles.resolve(profiles.chosen(request)))
    context = {"rows": rows, "refused": refused}
    return render(request, "searches/list.html", context, status=422 if refused else 200)


@require_POST
@member_only
def save_search(request: HttpRequest) -> HttpResponse:
    """Keep a search under a name."""
    thresholds = profiles.resolve(profiles.chosen(request))
    try:
        row = saving.save(request.user, request.POST.get("query", ""), request.POST.get("name", ""), thresholds)
    except SavingError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Saved as {row.name}: type search:{row.name} to find its posts.")
    return redirect(next_path(request))


@require_POST
@member_only
def change_search(request: HttpRequest, pk: int) -> HttpResponse:
    """Rename a saved search or change what it asks."""
    row = get_object_or_404(SavedSearch, pk=pk, owner=request.user)
    thresholds = profiles.resolve(profiles.chosen(request))
    query, name = request.POST.get("query", ""), request.POST.get("name", "")
    try:
        saving.change(row, query, name, thresholds)
    except SavingError as error:
        return _listed(request, {"pk": pk, "query": query, "name": name, "mistake": error})
    messages.success(request, f"The search {row.name} is changed.")
    return redirect("saved_searches")


@require_POST
@member_only
def delete_search(request: HttpRequest, pk: int) -> HttpResponse:
    """Forget a saved search."""
    row = get_object_or_404(SavedSearch, pk=pk, owner=request.user)
    row.delete()
    messages.success(request, f"The search {row.name} is no longer saved.")
    return redirect("saved_searches")
