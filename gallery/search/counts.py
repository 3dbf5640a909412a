"""How many posts a search finds: exactly where that is cheap, else estimated from the sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gallery.models import Tag
from gallery.profiles import Thresholds
from gallery.search.compiler import Query, prepare
from gallery.search.errors import SearchError
from gallery.search.planner import Plan
from gallery.search.predicates import On, known_to_sample

EXACT_COST = 30_000.0  # microseconds that an exact count may cost
_TIMEOUT_MS = 1000


class Count(NamedTuple):
    """`number` posts, or about so many."""

    number: int
    exact: bool


def count(text: str, thresholds: Thresholds) -> Count:
    """How many posts a search finds under these thresholds; raises SearchError."""
    query = prepare(text, thresholds)
    plan = query.plan(None)
    cheap = plan.cost <= EXACT_COST
    if not cheap and isinstance(query.predicate, On) and (number := _from_histogram(query.predicate)) is not None:
        return Count(number, False)
    if (cheap or not known_to_sample(query.predicate)) and (number := _in_time(query, plan)) is not None:
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


def _in_time(query: Query, plan: Plan) -> int | None:
    """The exact number, unless it takes too long: a page never waits for its count."""
    try:
        return query.count(plan, _TIMEOUT_MS)
    except SearchError:
        return None
