"""Tag posts again with the active release: say how many, start, follow, cancel."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from gallery import search, tagging
from gallery.models import Post, Prediction, Release, TaggingRun, TaggingState
from gallery.profiles import Thresholds
from gallery.worker.sweeping import filling

SCOPES = ("all", "search", "older")
_SETTLED = (TaggingState.TAGGED, TaggingState.FAILED)
_UNDER_WAY = (TaggingState.WAITING, TaggingState.TAGGING)
_CHUNK = 5000
_USUAL_SPEED = 10.0  # posts a second, before anything was measured here
_PAUSE_SECONDS = 5.0  # a longer gap between two predictions is idleness, not work


class RetaggingError(ValueError):
    """A run that can't be started; the text is one sentence for the person."""


@dataclass(frozen=True)
class Plan:
    total: int
    seconds_estimate: int


@dataclass(frozen=True)
class Progress:
    total: int
    done: int
    failed: int
    seconds_left: int


def plan(scope: str, query: str, thresholds: Thresholds, user: AbstractBaseUser | None = None) -> Plan:
    """How many posts a run would touch and about how long it takes. Raises RetaggingError or SearchError."""
    release = _active_release()
    total = sum(posts.count() for posts in _scopes(scope, query, thresholds, release, user))
    return Plan(total, round(total / _speed(release)))


def start(scope: str, query: str, user: AbstractBaseUser | None, thresholds: Thresholds) -> TaggingRun:
    """Let the posts of a scope wait for the tagger again, after all uploads. Raises RetaggingError or SearchError.

    Broken off, it is a run of the posts that it was handed.
    """
    release = _active_release()
    scopes = _scopes(scope, query, thresholds, release, user)
    with ExitStack() as held:
        with transaction.atomic():  # so that nobody ends it before it is held
            run = TaggingRun.objects.create(release=release, started_by=user, scope=scope, query=query, total=0)
            held.enter_context(filling(run))
        for posts in scopes:
            last = 0
            while last is not None:
                last = _let_wait(posts.filter(created_at__lte=run.created_at, pk__gt=last), run)
    if not run.total:
        run.delete()
        raise RetaggingError("No post would be tagged again: choose another search, or all posts.")
    transaction.on_commit(tagging.wake, robust=True)
    return run


@transaction.atomic
def _let_wait(posts: QuerySet[Post], run: TaggingRun) -> int | None:
    """Hand the next posts to the tagger, none when the run was cancelled; returns the last one's id.

    Few at a time, because whoever says yes or no to one of their tags waits meanwhile; locked in order of id, as
    everybody does, so that no two wait for each other.
    """
    running = TaggingRun.objects.filter(pk=run.pk, state=TaggingRun.State.RUNNING)
    if running.select_for_update(no_key=True).first() is None:
        return None
    ids = list(posts.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True)[:_CHUNK])
    Post.objects.filter(pk__in=ids).update(
        tagging_state=TaggingState.WAITING,
        tagging_attempts=0,
        tagging_error="",
        priority=Post.RERUN_PRIORITY,
        tagging_run=run,
    )
    run.total += len(ids)
    run.save(update_fields=["total"])
    return ids[-1] if ids else None


def progress(run: TaggingRun) -> Progress:
    """How far a run is, read from its posts."""
    posts = run.posts.active()
    running = run.state == TaggingRun.State.RUNNING
    left = posts.filter(tagging_state__in=_UNDER_WAY).count() if running else run.left
    failed = posts.filter(tagging_state=TaggingState.FAILED).count()
    return Progress(run.total, max(0, run.total - left), failed, round(left / _speed(run.release)) if running else 0)


@transaction.atomic
def cancel(run: TaggingRun) -> None:
    """Stop a run: posts not yet taken keep the tags they have; those never tagged go on waiting as uploads."""
    TaggingRun.objects.select_for_update(no_key=True).get(pk=run.pk)  # nothing is handed to it from here on
    waiting = run.posts.filter(tagging_state=TaggingState.WAITING)
    seen = Exists(Prediction.objects.filter(post=OuterRef("pk")))
    left = waiting.filter(seen).update(tagging_state=TaggingState.TAGGED, tagging_run=None)
    left += waiting.update(priority=Post.UPLOAD_PRIORITY, tagging_run=None)
    TaggingRun.objects.filter(pk=run.pk, state=TaggingRun.State.RUNNING).update(
        state=TaggingRun.State.CANCELLED, finished_at=timezone.now(), left=left
    )
    run.refresh_from_db()


def retry(posts: QuerySet[Post]) -> int:
    """Let failed posts wait again, with all their tries; returns how many."""
    number = posts.filter(tagging_state=TaggingState.FAILED).update(
        tagging_state=TaggingState.WAITING, tagging_attempts=0, tagging_error=""
    )
    if number:
        transaction.on_commit(tagging.wake, robust=True)
    return number


def _active_release() -> Release:
    release = Release.objects.filter(active=True).defer(*Release.bulk()).first()
    if release is None:
        raise RetaggingError("No release is active: activate one first.")
    return release


def _scopes(
    scope: str, query: str, thresholds: Thresholds, release: Release, user: AbstractBaseUser | None
) -> list[QuerySet[Post]]:
    """The posts of a scope, in querysets of which none is too long for one statement.

    What waits already is left alone: it will be tagged anyway.
    """
    settled = Post.objects.active().filter(tagging_state__in=_SETTLED)
    if scope == "all":
        return [settled]
    if scope == "older":
        return [settled.exclude(Exists(Prediction.objects.filter(post=OuterRef("pk"), release=release)))]
    if scope != "search":
        raise RetaggingError(f"The scope {scope} is not known: choose all, search or older.")
    ids = list(search.matching_ids(query, thresholds, viewer=user, in_order=False))
    return [settled.filter(pk__in=ids[start : start + _CHUNK]) for start in range(0, len(ids), _CHUNK)]


def _speed(release: Release) -> float:
    return speed(release)[0]


def speed(release: Release) -> tuple[float, bool]:
    """Posts a second, and whether that was measured: by the newest predictions, without the pauses between them."""
    times = list(
        Prediction.objects.filter(release=release).order_by("-created_at").values_list("created_at", flat=True)[:200]
    )
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(times)]
    working = [gap for gap in gaps if gap < _PAUSE_SECONDS]
    if len(working) < 20 or sum(working) <= 0:
        return _USUAL_SPEED, False
    return len(working) / sum(working), True
