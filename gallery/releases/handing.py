"""Hand the posts of a run to the tagger, or take them back: in a worker, few at a time, going on after any end.

Whoever says yes or no to a post's tag waits while it is handed over, so few go in one transaction; they are locked in
order of id, as everybody does, so that no two wait for each other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from django.core.cache import cache
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from gallery import search, tagging
from gallery.models import Post, Prediction, Release, TaggingRun, TaggingState
from gallery.profiles import Thresholds
from gallery.worker.sweeping import filling, finish

logger = logging.getLogger(__name__)

_SETTLED = (TaggingState.TAGGED, TaggingState.FAILED)
_CHUNK = 5000
_PACE_SECONDS = 60  # so long a pace counts after it was measured


def go_on(run_id: int) -> None:
    """What the worker does with a run: get it ready, or give back what it has not taken; nothing when another does."""
    run = TaggingRun.objects.select_related("release").defer(*Release.bulk("release__")).filter(pk=run_id).first()
    if run is None:
        return
    with filling(run) as ours:
        if not ours:
            return
        run.refresh_from_db(fields=["state", "handed_to", "wanted", "total"])
        if run.state == TaggingRun.State.PREPARING:
            _get_ready(run)
        if run.state in TaggingRun.ENDED_EARLY:
            take_back(run)


def settled(scope: str, release: Release) -> QuerySet[Post]:
    """The posts that a scope may take. What waits already is left alone: it will be tagged anyway."""
    return of_scope(scope, release).filter(tagging_state__in=_SETTLED)


def of_scope(scope: str, release: Release) -> QuerySet[Post]:
    """The posts that a scope is about, those of a search aside, whether they wait or not."""
    posts = Post.objects.active()
    if scope != "older":
        return posts
    return posts.exclude(Exists(Prediction.objects.filter(post=OuterRef("pk"), release=release)))


def _get_ready(run: TaggingRun) -> None:
    """Hand out all that is still to be handed out, and set it running; one that was ended stays so."""
    try:
        for posts, last in _parts(run):
            if not _is_still_wanted(run) or not _let_wait(run, posts, last):
                break
    except search.SearchError as error:
        fail(run, f"The search can't be asked any more. {error.message}")
    except (OperationalError, InterfaceError):
        raise  # the database was away or busy: the sweep has another worker go on
    except Exception as error:
        fail(run, f"Getting it ready broke off: {error}. Start it again.")
        logger.exception("Run %s broke off while it got ready.", run.pk)
    ready = TaggingRun.objects.filter(pk=run.pk, state=TaggingRun.State.PREPARING)
    if ready.update(state=TaggingRun.State.RUNNING):
        finish(run)  # in case all that it was handed is done already
        tagging.wake()
    run.state = TaggingRun.objects.filter(pk=run.pk).values_list("state", flat=True).first() or run.state


def _is_still_wanted(run: TaggingRun) -> bool:
    """Workers tag with the release that is active: the posts of a run that was planned with another are not for it."""
    active = Release.objects.filter(active=True).values_list("pk", "title").first()
    if active and active[0] == run.release_id:
        return True
    other = f"{active[1]} was" if active else "another release was"
    fail(run, f"While it got ready, {other} activated: start it again, with that one.")
    return False


def _parts(run: TaggingRun) -> Iterator[tuple[QuerySet[Post], int | None]]:
    """Posts for one transaction each, with the id that they go to, None where the rows say so."""
    posts = settled(run.scope, run.release).filter(created_at__lte=run.created_at)
    if run.scope != "search":
        _note_wanted(run, lambda: posts.count())
        while True:
            yield posts.filter(pk__gt=run.handed_to), None
    if run.started_by is None and search.is_personal(search.parse(run.query)):
        raise search.SearchError(
            "It asks for saved searches or file names of somebody who has no account any more:"
            " start one without search: and filename:."
        )
    found = search.matching_ids(run.query, _thresholds(run), viewer=run.started_by, in_order=False)
    ids = sorted(post_id for post_id in found if post_id > run.handed_to)
    _note_wanted(run, lambda: len(ids))
    for start in range(0, len(ids), _CHUNK):
        part = ids[start : start + _CHUNK]
        yield posts.filter(pk__in=part), part[-1]


def _thresholds(run: TaggingRun) -> Thresholds:
    said = run.thresholds
    by_category, by_tag = ({int(key): byte for key, byte in said[name].items()} for name in ("by_category", "by_tag"))
    return Thresholds(said["overall"], by_category, by_tag)


def _note_wanted(run: TaggingRun, count: Callable[[], int]) -> None:
    if not run.wanted:
        run.wanted = count()
        run.save(update_fields=["wanted"])


@transaction.atomic
def _let_wait(run: TaggingRun, posts: QuerySet[Post], last: int | None) -> bool:
    """Hand the next posts to the tagger; False when there are none, or the run was cancelled."""
    began = time.monotonic()
    state = TaggingRun.objects.filter(pk=run.pk, state=TaggingRun.State.PREPARING).select_for_update(no_key=True)
    if state.first() is None:
        return False
    ids = list(posts.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True)[:_CHUNK])
    Post.objects.filter(pk__in=ids).update(
        tagging_state=TaggingState.WAITING,
        tagging_attempts=0,
        tagging_error="",
        priority=Post.RERUN_PRIORITY,
        tagging_run=run,
    )
    if not run.total and ids:
        transaction.on_commit(tagging.wake, robust=True)
    run.total += len(ids)
    run.handed_to = last or (ids[-1] if ids else run.handed_to)
    run.save(update_fields=["total", "handed_to"])
    _note_pace(run, len(ids) / max(time.monotonic() - began, 0.001))
    return bool(ids or last)


def _note_pace(run: TaggingRun, posts_a_second: float) -> None:
    try:
        cache.set(_pace_key(run), posts_a_second, _PACE_SECONDS)
    except Exception as error:  # a cache that is down keeps no post from being tagged
        logger.warning("How fast run %s gets ready could not be noted: %s", run.pk, error)


def _pace_key(run: TaggingRun) -> str:
    return f"run-pace:{run.pk}"


def seconds_to_ready(run: TaggingRun) -> int | None:
    """How long handing out the rest takes; None where nobody measured it in the last minute."""
    try:
        pace = cache.get(_pace_key(run))
    except Exception:
        pace = None
    return round(max(0, run.wanted - run.total) / pace) if pace else None


def end(run: TaggingRun, state: TaggingRun.State, error: str = "") -> None:
    """Let nothing be handed to a run that is under way from here on."""
    under_way = TaggingRun.objects.filter(pk=run.pk, state__in=TaggingRun.UNDER_WAY)
    under_way.update(state=state, error=error, finished_at=timezone.now())
    run.refresh_from_db(fields=["state", "error", "finished_at"])


def fail(run: TaggingRun, sentence: str) -> None:
    """End a run with what was the matter; its worker gives back what it had."""
    logger.warning("Run %s: %s", run.pk, sentence)
    end(run, TaggingRun.State.FAILED, sentence)


def take_back(run: TaggingRun, most: int | None = None) -> bool:
    """Give back the posts of an ended run that wait, in so many steps at most; returns whether some may be left."""
    steps = 0
    while most is None or steps < most:
        if _give_back(run) < _CHUNK:
            return False
        steps += 1
    return True


@transaction.atomic
def _give_back(run: TaggingRun) -> int:
    """Posts that were tagged before keep these tags, the others wait as uploads; returns how many they were."""
    row = TaggingRun.objects.select_for_update(no_key=True).filter(pk=run.pk).first()
    if row is None:  # with its release: its posts go on waiting without it
        return 0
    waiting = run.posts.filter(tagging_state=TaggingState.WAITING).order_by("pk").select_for_update(no_key=True)
    ids = list(waiting.values_list("pk", flat=True)[:_CHUNK])
    posts = Post.objects.filter(pk__in=ids)
    seen = Exists(Prediction.objects.filter(post=OuterRef("pk")))
    posts.filter(seen).update(tagging_state=TaggingState.TAGGED, tagging_run=None)
    posts.filter(tagging_run=run).update(priority=Post.UPLOAD_PRIORITY, tagging_run=None)
    row.left += len(ids)
    row.save(update_fields=["left"])
    return len(ids)
