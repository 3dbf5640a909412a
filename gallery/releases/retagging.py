"""Tag posts again with the active release: say how many, start, follow, cancel. `handing` does it, in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Count, QuerySet

from gallery import search, tagging
from gallery.models import Post, Prediction, Release, TaggingRun, TaggingState
from gallery.profiles import Thresholds
from gallery.releases import handing
from gallery.search import nodes

SCOPES = ("all", "search", "older")
_UNDER_WAY = (TaggingState.WAITING, TaggingState.TAGGING)
_COUNTED = 5000  # posts of a search that are counted one by one
_COUNTED_A_SECOND = 50_000  # posts of a run that its page may have counted
_USUAL_SPEED = 10.0  # posts a second, before anything was measured here
_PAUSE_SECONDS = 5.0  # a longer gap between two predictions is idleness, not work


class RetaggingError(ValueError):
    """A run that can't be started; the text is one sentence for the person."""


@dataclass(frozen=True)
class Plan:
    """`waiting` are posts of the scope that are left out as they wait already; counted where nothing else is in it.

    `query` is the search to start it with, in which nothing is left to chance; `limited` says that it has a `limit:`,
    which a run does not heed.
    """

    total: int
    seconds_estimate: int
    exact: bool = True
    waiting: int = 0
    query: str = ""
    limited: bool = False


@dataclass(frozen=True)
class Progress:
    """Posts of a run; `seconds_to_ready` until all are handed to it, None where that can't be said."""

    total: int
    done: int
    failed: int
    seconds_left: int
    seconds_to_ready: int | None = None
    seconds_to_next: int = 1  # when it is worth asking again


def plan(scope: str, query: str, thresholds: Thresholds, user: AbstractBaseUser | None = None) -> Plan:
    """How many posts a run would touch and about how long it takes. Raises RetaggingError or SearchError."""
    release = _active_release()
    query, said = _settled(scope, query, thresholds, user)
    total, exact, waiting = _size(scope, query, thresholds, release, user)
    if not total and not waiting:
        waiting = _waiting(scope, query, thresholds, release, user)
    limited = "limit" in said and "random" not in said
    return Plan(total, round(total / _speed(release)), exact, waiting, query, limited)


def _settled(scope: str, query: str, thresholds: Thresholds, user: AbstractBaseUser | None) -> tuple[str, set[str]]:
    """A search with nothing left to chance, and which metatags stand in it."""
    if scope != "search":
        return query, set()
    said = {node.name for node in nodes.top(search.parse(query)) if isinstance(node, nodes.Metatag)}
    return search.find(query, thresholds, viewer=user).text if "random" in said else query, said


def _waiting(scope: str, query: str, thresholds: Thresholds, release: Release, user: AbstractBaseUser | None) -> int:
    """How many posts of a scope the tagger will come to anyway."""
    posts = handing.of_scope(scope, release).filter(tagging_state__in=_UNDER_WAY)
    if scope == "search":
        posts = posts.filter(pk__in=list(search.matching_ids(query, thresholds, viewer=user, in_order=False)))
    return posts.count()


def _size(
    scope: str, query: str, thresholds: Thresholds, release: Release, user: AbstractBaseUser | None
) -> tuple[int, bool, int]:
    """How many posts a scope has, of a search that finds many about how many; and how many if all of these wait."""
    if scope not in SCOPES:
        raise RetaggingError(f"The scope {scope} is not known: choose all, search or older.")
    if scope != "search":
        return handing.settled(scope, release).count(), True, 0
    tree = search.parse(query)
    if not any(isinstance(node, nodes.Metatag) and node.name == "random" for node in nodes.top(tree)):
        found = search.count(query, thresholds, viewer=user)
        if not found.exact or found.number > _COUNTED:
            some = _has_settled(tree, thresholds, user)
            return (found.number, False, 0) if some else (0, False, found.number)
    ids = list(search.matching_ids(query, thresholds, viewer=user, in_order=False))
    return handing.settled(scope, release).filter(pk__in=ids).count(), True, 0


def _has_settled(tree: nodes.Node, thresholds: Thresholds, user: AbstractBaseUser | None) -> bool:
    """Whether a search finds a post that does not wait, as far as that can be told soon."""
    waits = [nodes.none_of(nodes.Metatag("is", state.value)) for state in _UNDER_WAY]
    try:
        text = search.to_text(nodes.all_of([search.without_shape(tree), *waits]))
        return bool(search.find(text, thresholds, viewer=user, limit=1).post_ids)
    except search.SearchError:  # it takes too long, or has as many terms as it may have
        return True


def start(scope: str, query: str, user: AbstractBaseUser | None, thresholds: Thresholds) -> TaggingRun:
    """Have a worker let the posts of a scope wait for the tagger again, after all uploads.

    Raises RetaggingError or SearchError.
    """
    release = _active_release()
    query, _ = _settled(scope, query, thresholds, user)
    if not _size(scope, query, thresholds, release, user)[0]:
        raise RetaggingError("No post would be tagged again: choose another search, or all posts.")
    said = {"overall": thresholds.overall, "by_category": thresholds.by_category, "by_tag": thresholds.by_tag}
    run = TaggingRun.objects.create(release=release, started_by=user, scope=scope, query=query, thresholds=said)
    transaction.on_commit(lambda: _send(run), robust=True)
    return run


def _send(run: TaggingRun) -> None:
    if not tagging.send("hand_out", run.pk):
        handing.fail(run, "No worker could be reached: see that Redis runs, then start it again.")


def progress(run: TaggingRun) -> Progress:
    """How far a run is, read from its posts."""
    not_done = run.posts.active().filter(tagging_state__in=[*_UNDER_WAY, TaggingState.FAILED])
    counts = dict(not_done.values_list("tagging_state").annotate(number=Count("pk")))
    preparing, running = run.state == TaggingRun.State.PREPARING, run.is_under_way
    left = sum(counts.get(state, 0) for state in _UNDER_WAY) if running else run.left
    if run.state in TaggingRun.ENDED_EARLY:  # what it has not given back yet
        left += counts.get(TaggingState.WAITING, 0)
    failed = counts.get(TaggingState.FAILED, 0)
    total = max(run.wanted, run.total) if preparing else run.total
    done = max(0, run.total - left)
    return Progress(
        total,
        done,
        failed,
        seconds_left=round((total - done) / _speed(run.release)) if running else 0,
        seconds_to_ready=handing.seconds_to_ready(run) if preparing else None,
        seconds_to_next=1 + (left + failed) // _COUNTED_A_SECOND,
    )


@transaction.atomic
def cancel(run: TaggingRun) -> None:
    """Stop a run: posts not yet taken keep the tags they have; those never tagged go on waiting as uploads.

    The first of them get so at once, the others by a worker. A run that is done stays so.
    """
    handing.end(run, TaggingRun.State.CANCELLED)
    if run.state in TaggingRun.ENDED_EARLY and handing.take_back(run, most=1):
        transaction.on_commit(lambda: tagging.send("hand_out", run.pk), robust=True)
    run.refresh_from_db()


def retry(posts: QuerySet[Post]) -> int:
    """Let failed posts wait again, with all their tries; returns how many."""
    failed = posts.filter(tagging_state=TaggingState.FAILED)
    failed.filter(tagging_run__state__in=TaggingRun.ENDED_EARLY).update(tagging_run=None)  # it takes nothing any more
    number = failed.update(tagging_state=TaggingState.WAITING, tagging_attempts=0, tagging_error="")
    if number:
        transaction.on_commit(tagging.wake, robust=True)
    return number


def _active_release() -> Release:
    release = Release.objects.filter(active=True).defer(*Release.bulk()).first()
    if release is None:
        raise RetaggingError("No release is active: activate one first.")
    return release


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
