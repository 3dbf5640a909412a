from __future__ import annotations

from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import reselect, reswap, retarget

from gallery import profiles
from gallery.forms import TagAgainForm
from gallery.http import staff_only
from gallery.models import Post, Release, TaggingRun, TaggingState
from gallery.releases import retagging
from gallery.search import SearchError


@require_http_methods(["GET", "POST"])
@staff_only
def tag_again(request: HttpRequest) -> HttpResponse:
    """A GET with a scope says how many posts that is and how long it takes; a POST starts it."""
    asked = request.POST if request.method == "POST" else request.GET
    form = TagAgainForm(asked if "scope" in asked else None)
    release = Release.objects.filter(active=True).defer(*Release.bulk()).first()
    context: dict[str, object] = {"form": form, "release": release, "runs": _runs()[:20]}
    if release and form.is_valid():
        try:
            if request.method == "POST":
                run = retagging.start(*_asked(form), request.user, _thresholds(request))
                return redirect("tagging_run", run.pk)
            context["plan"] = retagging.plan(*_asked(form), _thresholds(request), request.user)
        except (SearchError, retagging.RetaggingError) as error:
            form.add_error("query" if isinstance(error, SearchError) else None, str(error))
    return render(request, "staff/tag_again.html", context)


def _asked(form: TagAgainForm) -> tuple[str, str]:
    return form.cleaned_data["scope"], form.cleaned_data["query"]


def _thresholds(request: HttpRequest) -> profiles.Thresholds:
    return profiles.resolve(profiles.chosen(request))


def _runs():
    return TaggingRun.objects.select_related("release", "started_by").defer(*Release.bulk("release__"))


@require_safe
@staff_only
def tagging_run(request: HttpRequest, pk: int) -> HttpResponse:
    """How far a run is; a part of it asks for itself again while it is under way, and for all of it at its end."""
    run = get_object_or_404(_runs(), pk=pk)
    failed = Post.objects.filter(tagging_run=run, tagging_state=TaggingState.FAILED)
    reasons = failed.values_list("tagging_error").annotate(number=Count("id")).order_by("-number")[:10]
    context = {"run": run, "progress": retagging.progress(run), "reasons": reasons}  # these only where some failed
    if not request.htmx:
        return render(request, "staff/run.html", context)
    response = render(request, "staff/run_part.html", context)
    if not run.is_under_way:
        return reswap(retarget(reselect(response, "#run"), "#run"), "outerHTML")
    return response


@require_POST
@staff_only
def cancel_run(request: HttpRequest, pk: int) -> HttpResponse:
    run = get_object_or_404(_runs(), pk=pk)
    retagging.cancel(run)
    if run.state == TaggingRun.State.CANCELLED:
        messages.success(request, "The run is cancelled: what it tagged stays, the rest keeps its older tags.")
    else:
        messages.info(request, "The run had ended already.")
    return redirect("tagging_run", run.pk)
