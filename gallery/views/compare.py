"""Two releases side by side: on one post for everybody, on a sample of posts for the staff."""

from __future__ import annotations

from django.contrib import messages
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST, require_safe

from gallery import profiles
from gallery.http import staff_only
from gallery.models import Release
from gallery.releases import comparing
from gallery.views.panel import visible

_PREPARING_SECONDS = 600


@require_safe
def on_post(request: HttpRequest, pk: int, release_pk: int) -> HttpResponse:
    """What one release said of a post, beside the active one if it has seen the post, too."""
    post = visible(request, pk)
    first = get_object_or_404(Release, pk=release_pk, predictions__post=post)
    seen = Release.objects.filter(predictions__post=post).exclude(pk=first.pk)
    second = seen.order_by("-active", "-installed_at").first()
    groups = comparing.on_post(post, first, second or first, profiles.chosen(request).key)
    template = "post/prediction.html" if request.htmx else "post/prediction_page.html"
    response = render(request, template, {"post": post, "first": first, "second": second, "groups": groups})
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
@staff_only
def compare(request: HttpRequest) -> HttpResponse:
    """Counts over a sample: tags on, agreement with people, where two releases differ most."""
    releases = list(Release.objects.order_by("-active", "-installed_at"))
    first = _asked(request, "first", releases) or next(iter(releases), None)
    second = _asked(request, "second", releases) or next((one for one in releases if one != first), None)
    context = {"releases": releases, "first": first, "second": second}
    if first and second and first != second:
        context |= _compared(request, first, second)
    template = "staff/compare_part.html" if request.htmx else "staff/compare.html"
    return render(request, template, context)


def _asked(request: HttpRequest, name: str, releases: list[Release]) -> Release | None:
    wanted = request.GET.get(name, "")
    return next((release for release in releases if str(release.pk) == wanted), None)


def _compared(request: HttpRequest, first: Release, second: Release) -> dict[str, object]:
    shared = comparing.shared_profiles(first, second)
    key = request.GET.get("profile", profiles.DEFAULT_KEY)
    key = key if key in {profile.key for profile in shared} else profiles.DEFAULT_KEY
    sample = comparing.sample(first)
    missing = set(comparing.unseen(second, sample))
    both = [post_id for post_id in sample if post_id not in missing]
    return {
        "profiles": shared,
        "key": key,
        "sample": len(sample),
        "missing": len(missing),
        "preparing": bool(missing) and cache.get(f"preparing:{second.pk}") is not None,
        "comparison": comparing.compare(first, second, key, both) if both else None,
    }


@require_POST
@staff_only
def prepare_sample(request: HttpRequest, pk: int) -> HttpResponse:
    """Have a worker tag the sample of `first` by this release, which is not active."""
    second = get_object_or_404(Release, pk=pk)
    wanted = request.POST.get("first", "")
    first = get_object_or_404(Release, pk=int(wanted) if wanted.isdecimal() else 0)
    missing = comparing.unseen(second, comparing.sample(first))
    if second.active:
        messages.error(request, f"{second.title} is active: tag the posts again to have its tags on them.")
    elif not missing:
        messages.info(request, f"{second.title} has tagged the whole sample already.")
    elif comparing.prepare(second, missing):
        cache.set(f"preparing:{second.pk}", True, _PREPARING_SECONDS)
    else:
        messages.error(request, "No worker could be reached: see that Redis runs, then try again.")
    return redirect(f"{reverse('compare')}?first={first.pk}&second={second.pk}")
