from __future__ import annotations

import math
import shutil
from datetime import timedelta

from celery import current_app
from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.core.paginator import Paginator
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from gallery import pace, retagging, seeding, tagging
from gallery.http import next_path, staff_only
from gallery.models import Post, Prediction, Release, TaggingRun, TaggingState

_PAGE = 50


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
        "disk": disk,
        "disk_part": 1 - disk.free / disk.total,
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
        "runs": TaggingRun.objects.filter(state=TaggingRun.State.RUNNING),
        "worker": worker_answers(),
        "problem": tagging.problem(),
        "last_tagged": Prediction.objects.order_by("-created_at").values_list("created_at", flat=True).first(),
    }


def worker_answers() -> bool:
    """Whether a worker answers, or wrote a prediction just now: a busy one may not answer."""
    if (alive := cache.get("worker-alive")) is None:
        recent = timezone.now() - timedelta(seconds=20)
        alive = Prediction.objects.filter(created_at__gt=recent).exists() or _ping()
        cache.set("worker-alive", alive, timeout=5)
    return alive


def _ping() -> bool:
    try:
        return bool(current_app.control.broadcast("ping", reply=True, timeout=0.5, limit=1))
    except Exception:  # whatever a broker that is down raises, no worker answers
        return False


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
