"""How many posts a search finds: exactly where that is cheap, else estimated from the sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gallery.models import Tag
from gallery.profiles import Thresholds
from gallery.search.compiler import TIMEOUT_MS, Query, prepare
from gallery.search.errors import SearchError
from gallery.search.planner import Plan
from gallery.search.predicates import On, known_to_sample
from gallery.search.scopes import Viewer

EXACT_COST = 30_000.0  # microseconds that an exact count may cost
_DEAR_TIMEOUT_MS = 1000  # and milliseconds that one may take whose cost is not known


class Count(NamedTuple):
    """`number` posts, or about so many."""

    number: int
    exact: bool


def count(text: str, thresholds: Thresholds, *, viewer: Viewer = None) -> Count:
    """How many posts a search finds under these thresholds; raises SearchError."""
    query = prepare(text, thresholds, viewer=viewer)
    plan = query.plan(None)
    cheap = plan.cost <= EXACT_COST
    if not cheap and isinstance(query.predicate, On) and (number := _from_histogram(query.predicate)) is not None:
        return Count(number, False)
    if cheap or not known_to_sample(query.predicate):
        number = _in_time(query, plan, TIMEOUT_MS if cheap else _DEAR_TIMEOUT_MS)
        if number is not None:
            return Count(number, True)
    return Count(round(plan.matches), False)


def count_of(tag: Tag, thresholds: Thresholds) -> int:
    """Posts on which a tag is on, from its histogram: a refresh behind at most."""
    return upper_count(tag.histogram, tag.post_count, thresholds.byte(tag.pk, tag.category))


def upper_count(histogram: Sequence[int] | None, posts: int, byte: int) -> int:
    """The part of a histogram that reaches a byte; all posts while there is none."""
    return sum(histogram[byte:]) if histogram else posts


def _from_histogram(predicate: On) -> int | None:
    histogram = Tag.objects.filter(pk=predicate.tag_id).values_list("histogram", flat=True).first()
    return sum(histogram[predicate.byte :]) if histogram else None


def _in_time(query: Query, plan: Plan, timeout: int) -> int | None:
    """The exact number, unless it takes too long: a page never waits for its count."""
    try:
        return query.count(plan, timeout)
    except SearchError:
        return None
