"""THE SEAM: claims waiting posts in batches, asks the tagger, stores predictions, rebuilds the tag index.

The only module that imports the tagger. What it imports at its top, and offers to `releasing`, reads
release folders without torch; `tagger.inference` comes in only where a worker tags, so the web process
never loads torch. Killed at any point, nothing is lost and nothing is done twice: a row says who
claimed it when, and the sweep returns what hung.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from celery import current_app
from django.conf import settings
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from gallery import indexing, pictures, trying
from gallery.models import Post, Prediction, Release, TaggingRun, TaggingState
from gallery.profiles import to_bytes
from tagger.release import ReleaseError, ReleaseFolder
from tagger.release import read as read_release
from tagger.thresholds import site_profiles

if TYPE_CHECKING:
    from tagger.inference import Predictor

__all__ = [
    "ReleaseError",
    "ReleaseFolder",
    "finish_runs",
    "problem",
    "read_release",
    "send",
    "site_profiles",
    "sweep",
    "tag_waiting",
    "try_pictures",
    "wake",
]

logger = logging.getLogger(__name__)

_DECODERS = 4
# Without these a broker that is down holds every upload up for six seconds of reconnecting.
_IMPATIENT = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
}
_PROBLEM = "tagger:problem"
_PROBLEM_SECONDS = 120  # the sweep wakes a worker every 30 seconds, which says it again
_BUSY_SECONDS = 60  # a worker that began a post within this time needs no waking


@dataclass(frozen=True)
class _Tagger:
    release_id: int
    predictor: Predictor
    tag_ids: np.ndarray  # tag id of each vocabulary index


_loaded: _Tagger | None = None  # one model a process, replaced when another release becomes active


@dataclass(frozen=True)
class _Batch:
    posts: Sequence[Post]
    claimed_at: datetime
    pixels: Sequence[Future[np.ndarray]]


def send(task: str, *ids: int) -> bool:
    """Send a message to the workers; False when the broker can't be reached. Rows are the truth, so nobody retries."""
    try:
        with current_app.connection_for_write() as connection:
            connection.transport_options = {**connection.transport_options, **_IMPATIENT}
            current_app.send_task(f"gallery.tasks.{task}", args=ids, retry=False, connection=connection)
    except Exception as error:  # a broker that is down must never fail an upload
        logger.warning("The message %s could not be sent: %s", task, error)
        return False
    return True


def wake() -> None:
    """Tell a worker that posts wait. Only a hint: when it is lost, the sweep finds them."""
    send("tag_waiting")


def tag_waiting(seconds: float = 60) -> int:
    """Tag posts that wait until none does or the time is up; returns how many were tagged.

    While more wait than one batch, another worker is woken, or this one again when it is free.
    """
    tagger = _active_tagger()
    if tagger is None:
        return 0
    deadline, tagged = time.monotonic() + seconds, 0
    with ThreadPoolExecutor(_DECODERS) as decoders:
        batch = _next_batch(tagger, decoders)
        if batch and Post.objects.waiting().exists():
            wake()
        while batch:
            go_on = time.monotonic() < deadline and _is_active(tagger)
            fresh = len(batch.posts) > 1 or batch.posts[0].tagging_attempts == 1
            following = _next_batch(tagger, decoders, fresh_only=True) if go_on and fresh else None
            tagged += _tag(tagger, batch)
            _try(tagger, trying.take(tagger.release_id))
            batch = following or (_next_batch(tagger, decoders) if go_on else None)
    return tagged


def try_pictures() -> None:
    """Tag the pictures that people only try, each with the release that it was sent for."""
    if tagger := _active_tagger():
        _try(tagger, trying.take(tagger.release_id))
    for trial in trying.take():
        try:
            release = Release.objects.get(pk=trial.release_id)
            other = _open(release)
        except (Release.DoesNotExist, ReleaseError) as error:
            trying.answer(trial.token, state="failed", reason=str(error))
        else:
            _try(other, [trial])


def _try(tagger: _Tagger, trials: Iterable[trying.Trial]) -> None:
    """Answer with every stage's tags, as pairs of tag id and confidence byte, most confident first."""
    for trial in trials:
        started = time.monotonic()
        try:
            with trial.file.open("rb") as file, pictures.open_picture(file) as image:
                stages = tagger.predictor.every_stage(pictures.upright(image), trying.FLOOR, trying.MOST_TAGS)
        except Exception as error:
            logger.warning("A picture that was tried could not be tagged: %s", error)
            trying.answer(trial.token, state="failed", reason=_reason(error))
            continue
        tags = {
            stage: list(zip(tagger.tag_ids[indices].tolist(), to_bytes(confidences).tolist(), strict=True))
            for stage, (indices, confidences) in stages.items()
        }
        trying.answer(trial.token, state="done", tags=tags, seconds=time.monotonic() - started)


def _active_tagger() -> _Tagger | None:
    """The active release's model, loaded once in this process; None without an active release."""
    global _loaded
    release = Release.objects.filter(active=True).first()
    if release is None:
        return None
    if _loaded is None or _loaded.release_id != release.pk:
        _loaded = None  # let the old model's memory go before the new one comes
        try:
            _loaded = _open(release)
        except Exception as error:
            cache.set(_PROBLEM, f"{release.title} can't be loaded, so nothing is tagged: {error}", _PROBLEM_SECONDS)
            raise
        cache.delete(_PROBLEM)
    return _loaded


def problem() -> str:
    """Why the worker can't tag anything at all, for the staff; empty when it can."""
    return cache.get(_PROBLEM, "")


def _open(release: Release) -> _Tagger:
    from tagger.inference import Predictor

    predictor = Predictor(release.path, device=settings.TAGGER_DEVICE, threads=settings.TAGGER_THREADS)
    return _Tagger(release.pk, predictor, np.array(release.tag_ids, np.int64))


def _is_active(tagger: _Tagger) -> bool:
    return Release.objects.filter(pk=tagger.release_id, active=True).exists()


def _next_batch(tagger: _Tagger, decoders: ThreadPoolExecutor, fresh_only: bool = False) -> _Batch | None:
    """Claim posts and begin to decode them.

    A post that was begun before and never finished may have killed its worker: it goes alone, after
    all others and with nothing else in flight, so that it takes no innocent post down with it.
    """
    claimed_at = timezone.now()
    posts = _claim(Post.objects.waiting().filter(tagging_attempts=0), settings.TAGGER_BATCH, claimed_at)
    if not posts and not fresh_only:
        posts = _claim(Post.objects.waiting(), 1, claimed_at)
    if not posts:
        return None
    return _Batch(posts, claimed_at, [decoders.submit(_pixels, tagger.predictor, post) for post in posts])


def _claim(waiting: QuerySet[Post], number: int, claimed_at: datetime) -> list[Post]:
    with transaction.atomic():
        posts = list(waiting.select_for_update(skip_locked=True)[:number])
        Post.objects.filter(pk__in=[post.pk for post in posts]).update(
            tagging_state=TaggingState.TAGGING,
            tagging_attempts=F("tagging_attempts") + 1,
            tagging_started_at=claimed_at,
        )
    for post in posts:
        post.tagging_attempts += 1
    return posts


def _pixels(predictor: Predictor, post: Post) -> np.ndarray:
    with default_storage.open(post.file_path) as file, pictures.open_picture(file) as image:
        return predictor.prepare(pictures.upright(image))


def _tag(tagger: _Tagger, batch: _Batch) -> int:
    """Predict and store a batch; when that fails, each post by itself, so that one fails alone."""
    try:
        predictions = tagger.predictor.predict_prepared([pixels.result() for pixels in batch.pixels])
        return _store(tagger, batch.posts, predictions, batch.claimed_at)
    except Exception:
        logger.warning("A batch of %d failed: trying its posts one by one", len(batch.posts), exc_info=True)
    tagged = 0
    for post, pixels in zip(batch.posts, batch.pixels, strict=True):
        try:
            predictions = tagger.predictor.predict_prepared([pixels.result()])
            tagged += _store(tagger, [post], predictions, batch.claimed_at)
        except Exception as error:
            logger.warning("Post %s could not be tagged: %s", post.pk, error)
            _give_back(Post.objects.filter(pk=post.pk, tagging_started_at=batch.claimed_at), _reason(error))
    return tagged


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "The picture's file is missing from the storage."
    return str(error) or type(error).__name__


def _give_back(claimed: QuerySet[Post], reason: str) -> int:
    """Let claimed posts wait again; those that were tried often enough fail, with the reason."""
    claimed = claimed.filter(tagging_state=TaggingState.TAGGING)
    tired = claimed.filter(tagging_attempts__gte=settings.TAGGING_ATTEMPTS)
    failed = tired.update(tagging_state=TaggingState.FAILED, tagging_error=reason, tagging_started_at=None)
    return failed + claimed.update(tagging_state=TaggingState.WAITING, tagging_error=reason, tagging_started_at=None)


@transaction.atomic
def _store(
    tagger: _Tagger, posts: Sequence[Post], predictions: Sequence[tuple[np.ndarray, np.ndarray]], claimed_at: datetime
) -> int:
    """Write predictions of the posts that are still ours: the sweep may have given a slow one to another worker."""
    claimed = Post.objects.filter(
        pk__in=[post.pk for post in posts], tagging_state=TaggingState.TAGGING, tagging_started_at=claimed_at
    )
    ours = set(claimed.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))
    Prediction.objects.bulk_create(
        [_row(tagger, post, *found) for post, found in zip(posts, predictions, strict=True) if post.pk in ours],
        update_conflicts=True,
        unique_fields=["post", "release"],
        update_fields=["tag_ids", "confidences", "created_at"],
    )
    Post.objects.filter(pk__in=ours).update(
        tagging_state=TaggingState.TAGGED, tagging_attempts=0, tagging_error="", tagging_started_at=None
    )
    indexing.rebuild(ours)
    return len(ours)


def _row(tagger: _Tagger, post: Post, indices: np.ndarray, confidences: np.ndarray) -> Prediction:
    tag_ids = tagger.tag_ids[indices]
    order = np.argsort(tag_ids)
    return Prediction(
        post=post,
        release_id=tagger.release_id,
        tag_ids=tag_ids[order].tolist(),
        confidences=to_bytes(confidences[order]).tobytes(),
    )


def sweep() -> int:
    """Return posts whose worker died, finish runs, wake a worker if posts wait; returns how many posts hung."""
    now = timezone.now()
    stale = now - timedelta(seconds=settings.TAGGING_STALE_SECONDS)
    hung = _give_back(
        Post.objects.filter(tagging_started_at__lt=stale), "The tagger stopped while it worked on this picture."
    )
    finish_runs()
    busy = Post.objects.filter(
        tagging_state=TaggingState.TAGGING, tagging_started_at__gt=now - timedelta(seconds=_BUSY_SECONDS)
    )
    if Post.objects.waiting().exists() and Release.objects.filter(active=True).exists() and not busy.exists():
        wake()
    return hung


def finish_runs() -> None:
    """Close the runs of which no post waits or is being tagged any more."""
    for run in TaggingRun.objects.filter(state=TaggingRun.State.RUNNING):
        posts = run.posts.active()
        if not posts.filter(tagging_state__in=[TaggingState.WAITING, TaggingState.TAGGING]).exists():
            run.state, run.finished_at = TaggingRun.State.DONE, timezone.now()
            run.failed = posts.filter(tagging_state=TaggingState.FAILED).count()
            run.save(update_fields=["state", "finished_at", "failed"])
