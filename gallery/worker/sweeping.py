"""What is looked after every half minute: posts whose worker died wait again, runs end, a sleeping worker is woken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone

from gallery import locking
from gallery.likeness import features
from gallery.models import Post, Release, TaggingRun, TaggingState
from gallery.worker import claiming, workers
from gallery.worker.sending import send, wake

_LOCK = 0x7275_6E73  # with a run's id; any number that no other advisory lock of the site uses
_STOPPED = "The tagger stopped while it worked on this picture."
_SILENT_SECONDS = 2 * workers.FORGOTTEN_SECONDS  # a worker that lives has spoken of its posts by then
_UNSENT_SECONDS = 60  # a worker that is free begins a run within this time
_BUSY_SECONDS = 60  # a worker that began a post within this time needs no waking


def sweep() -> int:
    """Return posts whose worker died, finish runs, wake a worker if posts wait; returns how many posts hung."""
    now = timezone.now()
    stale = now - timedelta(seconds=settings.TAGGING_STALE_SECONDS)
    hung = claiming.give_back(Post.objects.filter(tagging_started_at__lt=stale), _STOPPED)
    hung += claiming.give_back(Post.objects.filter(pk__in=_orphans(now)), _STOPPED)
    finish_runs()
    _go_on_with_runs(now)
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


def _orphans(now: datetime) -> list[int]:
    """Posts claimed a while ago of which no living worker says that it is at them.

    A command that tags says nothing of itself; if its batch takes so long, another worker does it once more.
    """
    begun = Post.objects.filter(
        tagging_state=TaggingState.TAGGING, tagging_started_at__lt=now - timedelta(seconds=_SILENT_SECONDS)
    )
    looked_after = {claim for worker in workers.alive() for claim in worker.claims}
    return [
        pk for pk, started in begun.values_list("pk", "tagging_started_at") if started.timestamp() not in looked_after
    ]


@contextmanager
def filling(run: TaggingRun) -> Iterator[bool]:
    """While posts are handed to a run it doesn't end, even if all that it has are done; False when others do so."""
    with locking.held(_LOCK, run.pk) as ours:
        yield ours


def finish_runs() -> None:
    """Close the runs of which no post waits or is being tagged any more."""
    for run in TaggingRun.objects.filter(state=TaggingRun.State.RUNNING):
        with filling(run) as ours:
            if ours:
                finish(run)


def _go_on_with_runs(now: datetime) -> None:
    """Have a worker go on with runs that one left while they got ready, or before all their posts were given back."""
    unsent = now - timedelta(seconds=_UNSENT_SECONDS)
    for run in TaggingRun.objects.filter(state=TaggingRun.State.PREPARING):
        if run.handed_to or run.created_at < unsent:
            _go_on(run)
    kept = TaggingRun.objects.filter(state__in=TaggingRun.ENDED_EARLY)
    for run in kept.filter(Exists(Post.objects.filter(tagging_run=OuterRef("pk"), tagging_state=TaggingState.WAITING))):
        _go_on(run)


def _go_on(run: TaggingRun) -> None:
    with filling(run) as ours:
        if not ours:
            return
    send("hand_out", run.pk)


def finish(run: TaggingRun) -> None:
    """Close a run of which no post waits or is being tagged any more."""
    posts = run.posts.active()
    if not posts.filter(tagging_state__in=[TaggingState.WAITING, TaggingState.TAGGING]).exists():
        failed = posts.filter(tagging_state=TaggingState.FAILED).count()
        running = TaggingRun.objects.filter(pk=run.pk, state=TaggingRun.State.RUNNING)  # not cancelled meanwhile
        running.update(state=TaggingRun.State.DONE, finished_at=timezone.now(), failed=failed)
