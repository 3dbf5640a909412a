"""How many posts a search finds: exactly where that is cheap, else estimated from the sample."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from gallery.index import histograms
from gallery.models import Tag
from gallery.profiles import Thresholds
from gallery.search.compiler import TIMEOUT_MS, Query, prepare, tag_names
from gallery.search.errors import SearchError
from gallery.search.estimating import Estimate, Histograms, estimated, tags_of
from gallery.search.listing import Page
from gallery.search.names import Names
from gallery.search.parser import parse
from gallery.search.planner import Plan
from gallery.search.predicates import FALSE, TRUE, Neither, On, Predicate, known_to_sample
from gallery.search.running import run_together
from gallery.search.scopes import Viewer
from gallery.search.values import BadValue

EXACT_COST = 15_000.0  # microseconds that an exact count may cost,
_EXACT_COST_OF_UNSURE = 75_000.0  # and where an estimate is unsure
_SURE = 0.025  # standard error of a good estimate: nineteen of twenty are less than twice as far off
# Milliseconds that a page waits for an exact count where the machine is busy: with an estimate at hand, or without.
_PATIENCE_MS = 100
_PATIENCE_WITHOUT_MS = 300
_PATIENCE_FOR_ALL = 1.0  # seconds after which several searches are no longer counted one by one, but estimated


class Count(NamedTuple):
    """`number` posts, or about so many."""

    number: int
    exact: bool


def count(text: str, thresholds: Thresholds, *, viewer: Viewer = None, page: Page | None = None) -> Count:
    """How many posts a search finds under these thresholds; raises SearchError.

    `page` is what `find` answered to the same search: then nothing is asked of the database twice.
    """
    if page and page.query:
        if page.whole:
            return Count(len(page.post_ids), True)
        query = page.query
    else:
        query = prepare(text, thresholds, viewer=viewer)
    return _counted(query, query.plan(None), Histograms())


def count_texts(texts: Sequence[str], thresholds: Thresholds, *, viewer: Viewer = None) -> list[Count | SearchError]:
    """How many posts each of several searches finds, or why it can't be answered; their names are read together."""
    wanted: set[str] = set()
    for text in texts:
        with suppress(SearchError, BadValue):  # answered below, beside the others
            wanted.update(tag_names(parse(text)))
    names = Names.load(wanted).quietly()
    asked = [_prepared(text, thresholds, viewer, names) for text in texts]
    counts = iter(count_each([query for query in asked if isinstance(query, Query)]))
    return [next(counts) if isinstance(query, Query) else query for query in asked]


def _prepared(text: str, thresholds: Thresholds, viewer: Viewer, names: Names) -> Query | SearchError:
    try:
        return prepare(text, thresholds, viewer=viewer, names=names)
    except SearchError as error:
        return error


def count_each(queries: Sequence[Query]) -> list[Count]:
    """The counts of several searches: cheap ones in one message to the database, histograms for all in another."""
    plans = [query.plan(None) for query in queries]
    cheap = [n for n, plan in enumerate(plans) if plan.cost <= EXACT_COST and queries[n].predicate != FALSE]
    patience = max((_patience(queries[n], plans[n]) for n in cheap), default=0)
    try:
        rows = run_together([queries[n].counting(plans[n]) for n in cheap], patience) if cheap else []
        found = {n: Count(number, True) for n, [(number,)] in zip(cheap, rows, strict=True)}
    except SearchError:
        found = {}
    known, others = Histograms(), [n for n in range(len(queries)) if n not in found]
    if dear := [n for n in others if plans[n].cost > EXACT_COST]:
        known.of(tag.tag_id for n in dear for tag in tags_of(queries[n].predicate))
    deadline = time.monotonic() + _PATIENCE_FOR_ALL
    return [
        found.get(n) or _counted(query, plans[n], known, wait=time.monotonic() < deadline)
        for n, query in enumerate(queries)
    ]


def _counted(query: Query, plan: Plan, known: Histograms, *, wait: bool = True) -> Count:
    """`wait` for an exact number where the estimate is unsure."""
    cheap = plan.cost <= EXACT_COST
    if not cheap and (number := _kept(query.predicate, known)) is not None:
        return Count(number, True)
    estimate = None if cheap else _estimate(query, plan, known)
    unsure = estimate is None or (estimate.error > _SURE and plan.cost <= _EXACT_COST_OF_UNSURE)
    if unsure and wait and (number := _in_time(query, plan)) is not None:
        return Count(number, True)
    estimate = estimate or _estimate(query, plan, known)
    return Count(round(estimate.number if estimate else plan.matches), False)


def _estimate(query: Query, plan: Plan, known: Histograms) -> Estimate | None:
    """None where the sample does not know what is asked."""
    if plan.sample is None or query.masks is None or not known_to_sample(query.predicate):
        return None
    return estimated(query.predicate, query.masks, known)


def count_of(tag: Tag, thresholds: Thresholds) -> int:
    """Posts on which a tag is on, from its histogram: a refresh behind at most."""
    return upper_count(tag.histogram, tag.post_count, thresholds.byte(tag.pk, tag.category))


def upper_count(histogram: Sequence[int] | None, posts: int, byte: int) -> int:
    """The part of a histogram that reaches a byte; all posts while there is none."""
    return sum(histogram[byte:]) if histogram else posts


def _kept(predicate: Predicate, known: Histograms) -> int | None:
    """The number that is kept for all posts, and for one tag at any threshold; at most a minute old."""
    if predicate == TRUE:
        return histograms.indexed_posts()
    if isinstance(predicate, Neither) and isinstance(predicate.child, On):
        with_it, posts = _kept(predicate.child, known), histograms.indexed_posts()
        return None if with_it is None or posts is None else max(0, posts - with_it)
    if not isinstance(predicate, On):
        return None
    histogram = known.of([predicate.tag_id])[predicate.tag_id]
    return sum(histogram[predicate.byte :]) if histogram else None


def _in_time(query: Query, plan: Plan) -> int | None:
    """The exact number, unless it takes too long: a page never waits for its count."""
    try:
        return query.count(plan, _patience(query, plan))
    except SearchError:
        return None


def _patience(query: Query, plan: Plan) -> int:
    if plan.sample is not None:
        return _PATIENCE_MS if known_to_sample(query.predicate) else _PATIENCE_WITHOUT_MS
    return _PATIENCE_WITHOUT_MS if plan.matches else TIMEOUT_MS  # of a small site nothing is known
