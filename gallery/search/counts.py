"""How many posts a search finds: exactly where that is cheap, else estimated from the sample."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import NamedTuple

from gallery.index import histograms
from gallery.models import Tag
from gallery.profiles import Thresholds
from gallery.search.compiler import TIMEOUT_MS, Query, prepare, tag_names
from gallery.search.errors import SearchError
from gallery.search.estimating import Estimate, Histograms, asked_of_some, estimated, tags_to_put_right
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
_PATIENCE_WITHOUT_MS = 200
# With an estimate at hand, a page's posts and its count take so long together; the count has some at least.
_WHOLE_PAGE_MS = 150
_LEAST_PATIENCE_MS = 30
_PATIENCE_FOR_ALL = 1.0  # seconds after which several searches are no longer counted one by one, but estimated
_AT_ONCE = 1e6 * _PATIENCE_FOR_ALL  # microseconds that all of them may cost together


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
    (found,) = count_each([query], page.took_ms if page else 0)
    shown = len(page.post_ids) + bool(page.next) if page and not found.exact else 0
    return found._replace(number=max(found.number, shown))


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


class _Asked(NamedTuple):
    """A search with the plan for all its matches, and how many milliseconds an exact number may take, if any."""

    query: Query
    plan: Plan
    patience: int

    @property
    def cheap(self) -> bool:
        return self.plan.cost <= EXACT_COST


def count_each(queries: Sequence[Query], waited_ms: float = 0) -> list[Count]:
    """The counts of several searches: cheap ones in one message to the database, histograms in another, and exact
    numbers for what these don't tell well enough in a third. Their reader has waited `waited_ms` already.
    """
    asked = {
        n: _Asked(query, plan := query.plan(None), _patience(query, plan, waited_ms)) for n, query in enumerate(queries)
    }
    deadline = time.monotonic() + _PATIENCE_FOR_ALL
    found = _in_time({n: each for n, each in asked.items() if each.cheap}, deadline)
    known = Histograms({tag_id: row for query in queries for tag_id, row in query.names.histograms.items()})
    left = {n: each for n, each in asked.items() if n not in found}
    if len(left) > 1:  # one alone reads what it needs
        known.of(tag.tag_id for each in left.values() for tag in _putting_right(each.query))
    guesses = {n: _guess(each.query, each.plan, known) for n, each in left.items()}
    found |= _in_time({n: each for n, each in left.items() if not each.cheap and not guesses[n].sure}, deadline)
    about = {n: _of_some(left[n].query) for n in left if n not in found and time.monotonic() < deadline}
    return [Count(found[n], True) if n in found else about.get(n) or guesses[n].count for n in asked]


def _of_some(query: Query) -> Count | None:
    """An estimate for what the sample does not know; None where it does, or telling takes too long."""
    if query.masks is None or known_to_sample(query.predicate):
        return None
    number = asked_of_some(query.predicate, query.masks)
    return None if number is None else Count(round(number), False)


def _in_time(asked: Mapping[int, _Asked], deadline: float) -> dict[int, int]:
    """The exact numbers of these searches without those that take too long: a page never waits for its count."""
    found = {n: 0 for n, each in asked.items() if each.query.predicate == FALSE}
    tried = _cheapest({n: each for n, each in asked.items() if n not in found and each.patience})
    with suppress(SearchError):
        statements = [each.query.counting(each.plan) for each in tried.values()]
        rows = run_together(statements, max(each.patience for each in tried.values())) if tried else []
        return found | {n: number for n, [(number,)] in zip(tried, rows, strict=True)}
    if len(tried) > 1:  # one of them took too long, and with it the others were lost
        for n, each in tried.items():
            if time.monotonic() < deadline:
                with suppress(SearchError):
                    found[n] = each.query.count(each.plan, each.patience)
    return found


def _cheapest(asked: Mapping[int, _Asked]) -> dict[int, _Asked]:
    """As many of several searches as can be counted while a page waits."""
    ordered = sorted(asked, key=lambda n: asked[n].plan.cost)
    total = accumulate(asked[n].plan.cost for n in ordered)
    return {
        n: asked[n] for place, (n, cost) in enumerate(zip(ordered, total, strict=True)) if not place or cost <= _AT_ONCE
    }


class _Guess(NamedTuple):
    """A number that no post was looked at for; `sure` where asking for the exact one is not worth it."""

    count: Count
    sure: bool


def _guess(query: Query, plan: Plan, known: Histograms) -> _Guess:
    if plan.cost > EXACT_COST and (number := _kept(query.predicate, known)) is not None:
        return _Guess(Count(number, True), True)
    estimate = _estimate(query, plan, known)
    if estimate is None:
        return _Guess(Count(round(plan.matches), False), False)
    sure = estimate.error <= _SURE or plan.cost > _EXACT_COST_OF_UNSURE
    return _Guess(Count(round(estimate.number), False), sure)


def _putting_right(query: Query) -> list[On]:
    """The tags whose histograms are wanted for a guess."""
    return tags_to_put_right(query.predicate, query.masks.sample) if query.masks else []


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


def _patience(query: Query, plan: Plan, waited_ms: float) -> int:
    if plan.sample is None and not plan.matches:
        return TIMEOUT_MS  # of a small site nothing is known
    if plan.sample is None or not known_to_sample(query.predicate):
        return _PATIENCE_WITHOUT_MS
    left = min(_PATIENCE_MS, max(_LEAST_PATIENCE_MS, _WHOLE_PAGE_MS - round(waited_ms)))
    return left if plan.cost <= 1000 * left else 0
