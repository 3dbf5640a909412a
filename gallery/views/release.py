from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from gallery import prose, tagging
from gallery.forms import PathForm
from gallery.http import staff_only
from gallery.models import CATEGORY_ORDER, Category, Release, ReleaseImport, Tag
from gallery.releases import comparing, importing, releasing, running
from gallery.views import release_run
from gallery.worker import workers


@require_safe
@staff_only
def releases(request: HttpRequest) -> HttpResponse:
    """The taggers installed here, and a form that installs another from a folder of this server."""
    return _list(request, PathForm())


def _list(request: HttpRequest, form: PathForm) -> HttpResponse:
    found = Release.objects.order_by("-active", "-installed_at").annotate(tagged=Count("predictions"))
    living = workers.alive()
    rows = [(release, running.facts(release, living), _vocabulary(release)) for release in found]
    imports = ReleaseImport.objects.exclude(state=ReleaseImport.State.DONE)
    installed = {release.name for release in found}
    context = {
        "releases": rows,
        "form": form,
        "imports": [(row, importing.title(row)) for row in imports],
        "offers": [offer for offer in tagging.offers() if offer.key not in installed],
        "here": reverse("releases"),  # also where the answer to a form is shown
    }
    return render(request, "staff/releases.html", context)


@require_POST
@staff_only
def install_release(request: HttpRequest) -> HttpResponse:
    form = PathForm(request.POST)
    if form.is_valid():
        try:
            found = releasing.install(form.cleaned_data["folder"])
            messages.success(request, f"{found.title} is installed. It tags nothing before it is activated.")
            return redirect("release", found.pk)
        except releasing.ReleaseError as error:
            form.add_error("folder", str(error))
    return _list(request, form)


@require_safe
@staff_only
def release(request: HttpRequest, pk: int) -> HttpResponse:
    """One release: what it is, how good, and what activating it would change."""
    found = get_object_or_404(Release, pk=pk)
    active = Release.objects.filter(active=True).first()
    context = {
        **release_run.context(found),
        "vocabulary": _vocabulary(found),
        "rows": _metrics(found),
        "active": active,
        "scores": _scores(found),
        "card": prose.to_html(found.card, _plots(found)),
        "change": None if found.active else comparing.change(found, active),
        "loss": None if found.active else releasing.loss(found),
    }
    return render(request, "staff/release.html", context)


def _plots(release: Release) -> dict[str, str]:
    """Addresses of the pictures that its card may show, by file name."""
    files = sorted(release.path.glob("plot-*.png")) if release.folder else []
    return {file.name: reverse("release_plot", args=[release.pk, file.name]) for file in files}


@require_safe
@staff_only
def release_plot(request: HttpRequest, pk: int, name: str) -> HttpResponseBase:
    """A picture of a release's card; no other file of its folder can be asked for."""
    found = get_object_or_404(Release, pk=pk)
    if name not in _plots(found):
        raise Http404("There is no such picture.")
    try:
        file = (found.path / name).open("rb")
    except OSError as error:
        raise Http404("There is no such picture.") from error
    return FileResponse(file, content_type="image/png")


def _vocabulary(release: Release) -> list[tuple[str, int]]:
    counts = Tag.objects.filter(pk__in=release.tag_ids).values_list("category").annotate(number=Count("id"))
    return [(Category(category).label, number) for category, number in counts.order_by("-number")]


_SPLITS = ("test", "validation")
_SHOWN = ("micro_f1", "macro_f1", "precision", "recall")


@dataclass(frozen=True)
class Scores:
    """One table of a release's metrics: a split's pictures, and a row of numbers for each kind of tag."""

    split: str
    pictures: int | None
    rows: list[tuple[str, list[float | None]]]


def _scores(release: Release) -> list[Scores]:
    """What the trainer measured on each split by its best stage, at the balanced thresholds."""
    splits = release.metrics.get("splits")
    if not isinstance(splits, dict):
        return []
    # Stored JSON forgets its order.
    names = sorted(splits, key=lambda name: (_SPLITS.index(name) if name in _SPLITS else len(_SPLITS), name))
    return [found for name in names if isinstance(splits[name], dict) and (found := _split(name, splits[name]))]


def _split(name: str, split: dict[str, Any]) -> Scores | None:
    stage = split.get("refined") or split.get("initial")
    groups = stage.get("balanced") if isinstance(stage, dict) else None
    if not isinstance(groups, dict):
        return None
    order = ["overall", *(category.label for category in CATEGORY_ORDER)]
    rows = [
        (group, [_number(groups[group].get(name)) for name in _SHOWN])
        for group in order
        if isinstance(groups.get(group), dict)
    ]
    pictures = _number(split.get("pictures"))
    return Scores(name, None if pictures is None else int(pictures), rows)


def _number(value: object) -> float | None:
    """A release's metrics may hold anything."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _metrics(release: Release) -> list[tuple[str, str]]:
    """Every number of the release's metrics, a nested name with its path: `test · refined · micro f1`."""
    return list(_flat(release.metrics))


def _flat(value: object, path: tuple[str, ...] = ()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, (*path, str(name).replace("_", " ")))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield " · ".join(path), f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


@require_POST
@staff_only
def activate_release(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Release, pk=pk)
    try:
        releasing.use(found)
    except releasing.ReleaseError as error:
        messages.error(request, str(error))
        return redirect("release", found.pk)
    messages.success(request, f"{found.title} tags new posts from now on. Posts tagged before keep their tags.")
    return redirect("tag_again")


@require_POST
@staff_only
def remove_release(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a release that is not active, with its predictions and files."""
    found = get_object_or_404(Release, pk=pk)
    try:
        posts = releasing.remove(found)
    except releasing.ReleaseError as error:
        messages.error(request, str(error))
        return redirect("release", found.pk)
    counted = f" {posts:,} post{'' if posts == 1 else 's'} had no newer tags of the tagger." if posts else ""
    messages.success(request, f"{found.title} is removed, with all that it predicted.{counted}")
    return redirect("releases")
