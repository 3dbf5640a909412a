"""What a worker finds that another one left."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from gallery import tagging, tasks
from gallery.models import Post, PostStatus, TaggingRun, TaggingState
from gallery.worker import claiming, workers
from tests.gallery.making import make_post, make_release

pytestmark = pytest.mark.django_db


def states() -> list[str]:
    return list(Post.objects.order_by("pk").values_list("tagging_state", flat=True))


def test_the_sweep_returns_what_hung_and_ends_what_kills_workers(settings):
    old = timezone.now() - timedelta(seconds=settings.TAGGING_STALE_SECONDS + 1)
    hung = {"tagging_state": TaggingState.TAGGING, "tagging_started_at": old}
    once = make_post(**hung, tagging_attempts=1)
    often = make_post(**hung, tagging_attempts=settings.TAGGING_ATTEMPTS)
    busy = make_post(**{**hung, "tagging_started_at": timezone.now()}, tagging_attempts=1)
    assert tasks.sweep() == 2
    assert states() == ["waiting", "failed", "tagging"]
    often.refresh_from_db()
    assert "stopped" in often.tagging_error
    assert {once.pk, busy.pk} == set(Post.objects.exclude(tagging_state="failed").values_list("pk", flat=True))


def test_the_sweep_returns_at_once_what_no_living_worker_is_at():
    began = timezone.now() - timedelta(seconds=60)
    claims = [began + timedelta(microseconds=number) for number in range(2)]
    for claimed_at in claims:
        make_post(tagging_state=TaggingState.TAGGING, tagging_started_at=claimed_at, tagging_attempts=1)
    make_post(tagging_state=TaggingState.TAGGING, tagging_started_at=timezone.now(), tagging_attempts=1)
    said = workers.Worker("tagging@here", 1, ["tagging"], 1, 0, None, 0, [claims[0].timestamp()])
    cache.set("worker:0", workers.asdict(said), 20)
    assert tagging.sweep() == 1
    assert states() == ["tagging", "waiting", "tagging"]
    cache.delete("worker:0")
    assert tagging.sweep() == 1
    assert states() == ["waiting", "waiting", "tagging"]


def test_posts_that_hung_are_tried_alone_after_all_others():
    fresh = [make_post(tagging_state=TaggingState.WAITING) for _ in range(2)]
    suspects = [make_post(tagging_state=TaggingState.WAITING, tagging_attempts=1) for _ in range(2)]

    claimed = []
    while posts := claiming.claim(8, timezone.now()):
        claimed.append([post.pk for post in posts])
    assert not claiming.claim(8, timezone.now())
    assert claimed == [[fresh[1].pk, fresh[0].pk], [suspects[1].pk], [suspects[0].pk]]


def test_runs_end_when_their_posts_are_done():
    run = TaggingRun.objects.create(release=make_release(), scope="all", total=3, state="running")
    make_post(tagging_run=run, tagging_state=TaggingState.FAILED)
    make_post(tagging_run=run, tagging_state=TaggingState.WAITING, status=PostStatus.DELETED)
    last = make_post(tagging_run=run, tagging_state=TaggingState.WAITING)
    tagging.sweep()
    run.refresh_from_db()
    assert run.state == TaggingRun.State.RUNNING
    Post.objects.filter(pk=last.pk).update(tagging_state=TaggingState.TAGGED)
    tagging.sweep()
    run.refresh_from_db()
    assert (run.state, run.failed) == (TaggingRun.State.DONE, 1)
    assert run.finished_at is not None
