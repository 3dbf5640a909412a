from __future__ import annotations

import math
import shutil
from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from gallery import seeding, tagging
from gallery.accounts import signing_in
from gallery.http import next_path, staff_only
from gallery.likeness import features
from gallery.models import Post, Prediction, Release, TaggingRun, TaggingState
from gallery.releases import retagging
from gallery.worker import pace, workers

_PAGE = 50
_OTHERS = {"default": "tidies up every half minute", "long": "exports, gets releases and begins runs"}


@require_safe
@staff_only
def dashboard(request: HttpRequest) -> HttpResponse:
    """What the site is doing and where to steer it; the queue's part asks for itself again."""
    disk = shutil.disk_usage(settings.DATA_DIR)
    context = {
        **_queue(),
        "seed": seeding.state(),
        "release": Release.objects.filter(active=True).defer(*Release.bulk()).first(),
        "posts": Post.objects.active().count(),
        "features": features.number(),
        "disk": disk,
        "disk_part": 1 - disk.free / disk.total,
        "proxy_is_unknown": signing_in.proxy_is_unknown(request),
        "originals": Post.objects.aggregate(size=Sum("file_size"))["size"] or 0,
    }
    return render(request, "staff/dashboard.html", context)


@require_safe
@staff_only
def queue(request: HttpRequest) -> HttpResponse:
    """The dashboard's live part."""
    return render(request, "staff/queue.html", _queue())


def _queue() -> dict[str, object]:
    rows = Post.objects.active().values("tagging_state").annotate(number=Count("id")).values_list
    counts = dict(rows("tagging_state", "number"))
    waiting, rate = counts.get(TaggingState.WAITING, 0), pace.per_second()
    return {
        "states": [(state.label.lower(), state.value, counts.get(state.value, 0)) for state in TaggingState],
        "waiting": waiting,
        "rate": rate,
        "minutes_left": math.ceil(waiting / rate / 60) if rate else None,
        "failed": counts.get(TaggingState.FAILED, 0),
        "runs": TaggingRun.objects.filter(state__in=TaggingRun.UNDER_WAY),
        "worker": worker_answers(),
        "workers": _workers(),
        "missing": [what for queue, what in _OTHERS.items() if not workers.alive(queue)],
        "problem": tagging.problem(),
        "last_tagged": Prediction.objects.order_by("-created_at").values_list("created_at", flat=True).first(),
    }


def _workers() -> list[tuple[workers.Worker, Release | None]]:
    """Those of the tagger, each with the release that it has loaded."""
    living = workers.alive()
    wanted = {worker.held.release_id for worker in living if worker.held}
    releases = Release.objects.filter(pk__in=wanted).defer(*Release.bulk()).in_bulk()
    return [(worker, releases.get(worker.held.release_id) if worker.held else None) for worker in living]


def worker_answers() -> bool:
    """Whether a worker of the tagger lives, or something was tagged just now, as by a command."""
    recent = timezone.now() - timedelta(seconds=20)
    return bool(workers.alive()) or Prediction.objects.filter(created_at__gt=recent).exists()


@require_safe
@staff_only
def failed(request: HttpRequest) -> HttpResponse:
    """Posts that could not be tagged, with why."""
    posts = Post.objects.active().filter(tagging_state=TaggingState.FAILED).order_by("-id")
    page = Paginator(posts, _PAGE).get_page(request.GET.get("page"))
    return render(request, "staff/failed.html", {"page": page})


@require_POST
@staff_only
def retry(request: HttpRequest) -> HttpResponse:
    """Let the tagger try one failed post again (`post`), or all of them."""
    posts = Post.objects.active().filter(tagging_state=TaggingState.FAILED)
    if wanted := request.POST.get("post", ""):
        posts = posts.filter(pk=int(wanted) if wanted.isdecimal() and len(wanted) < 19 else 0)
    number = retagging.retry(posts)
    if number:
        messages.success(request, f"{number} post{'s' if number > 1 else ''} will be tried again.")
    else:
        messages.info(request, "Nothing to try again: it is waiting, tagged or deleted by now.")
    return redirect(next_path(request, reverse("failed")))
