"""What is looked after every half minute: posts whose worker died wait again, runs end, a sleeping worker is woken."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from gallery import claiming
from gallery.likeness import features
from gallery.models import Post, Release, TaggingRun, TaggingState
from gallery.sending import send, wake

_BUSY_SECONDS = 60  # a worker that began a post within this time needs no waking


def sweep() -> int:
    """Return posts whose worker died, finish runs, wake a worker if posts wait; returns how many posts hung."""
    now = timezone.now()
    stale = now - timedelta(seconds=settings.TAGGING_STALE_SECONDS)
    hung = claiming.give_back(
        Post.objects.filter(tagging_started_at__lt=stale), "The tagger stopped while it worked on this picture."
    )
    finish_runs()
    busy = Post.objects.filter(
        tagging_state=TaggingState.TAGGING, tagging_started_at__gt=now - timedelta(seconds=_BUSY_SECONDS)
    )
    release = Release.objects.filter(active=True).only("config").first()
    if release and not busy.exists():
        if Post.objects.waiting().exists():
            wake()
        elif features.any_missing(release):
            send("fill_features")
    return hung


def finish_runs() -> None:
    """Close the runs of which no post waits or is being tagged any more."""
    for run in TaggingRun.objects.filter(state=TaggingRun.State.RUNNING):
        posts = run.posts.active()
        if not posts.filter(tagging_state__in=[TaggingState.WAITING, TaggingState.TAGGING]).exists():
            run.state, run.finished_at = TaggingRun.State.DONE, timezone.now()
            run.failed = posts.filter(tagging_state=TaggingState.FAILED).count()
            run.save(update_fields=["state", "finished_at", "failed"])
