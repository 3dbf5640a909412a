"""Which way a search is run: newest first until the page is full, or from the tags' index.

The database guesses the selectivity of arrays badly, so the choice is made here, from the sample.
The costs were measured at a million posts, in microseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from gallery.search.predicates import All, Any, Condition, On, Predicate, mask
from gallery.search.sample import Sample
from gallery.search.values import Sql

SMALL_SITE = 5_000  # up to this newest id every way is quick
_SCANNED = 0.45
_CANDIDATE = 1.4
_LISTED = 0.08
_GIN_START = 150.0


class Way(StrEnum):
    SCAN = "scan"
    GIN = "gin"
    FREE = "free"  # the database's own choice: a condition with an index of its own, or a small site


@dataclass(frozen=True)
class Plan:
    """`cover` is what GIN is asked: a superset of the matches."""

    way: Way
    cover: Sql | None = None
    cost: float = 0.0
    matches: float = 0.0


def choose(
    predicate: Predicate, sample: Sample | None, wanted: int | None, newest_first: bool, forced: Way | None = None
) -> Plan:
    """The plan for `wanted` rows (None: all of them). No sample means a small site."""
    cover = cover_of(predicate, sample)
    if forced is not None:
        return Plan(forced if cover or forced != Way.GIN else Way.SCAN, cover)
    if sample is None or has_index(predicate):
        return Plan(Way.FREE)
    found = mask(predicate, sample)
    matches = float(found.sum()) * sample.scale
    scan = _SCANNED * (_depth(found, wanted, sample) if newest_first and wanted else sample.total)
    if cover is not None and (gin := _gin_cost(predicate, sample)) < scan:
        return Plan(Way.GIN, cover, gin, matches)
    return Plan(Way.SCAN, None, scan, matches)


def has_index(predicate: Predicate) -> bool:
    """Whether a condition that must hold is selective by an index of its own."""
    if isinstance(predicate, All):
        return any(has_index(child) for child in predicate.children)
    return isinstance(predicate, Condition) and predicate.selective


def _depth(found: np.ndarray, wanted: int, sample: Sample) -> float:
    """How many of the newest posts hold `wanted` matches."""
    needed = max(1, math.ceil(wanted / sample.scale))
    places = np.flatnonzero(found)
    if len(places) < needed:
        return float(sample.total)
    # The needed-th match of the sample stands for `needed * scale` matches.
    return (int(places[needed - 1]) + 1) * sample.scale * wanted / (needed * sample.scale)


def _gin_cost(predicate: Predicate, sample: Sample) -> float:
    tags = _required(predicate) or _alternatives(predicate, sample) or []
    present = [sample.on(tag_id, 1) for tag_id in tags]
    combine = np.logical_and if _required(predicate) else np.logical_or
    candidates = float(combine.reduce(present).sum()) * sample.scale if present else sample.total
    lists = sum(sample.posts_with(tag_id) for tag_id in tags)
    return _GIN_START + _CANDIDATE * candidates + _LISTED * lists


def cover_of(predicate: Predicate, sample: Sample | None) -> Sql | None:
    """A condition that GIN can answer and every match fulfils, if there is one.

    `pg_catalog` is named because intarray has operators of the same names, which this index can't serve.
    """
    if tags := _required(predicate):
        return Sql("i.tag_ids OPERATOR(pg_catalog.@>) %s::int[]", (tuple(tags),))
    tags = _alternatives(predicate, sample)
    return Sql("i.tag_ids OPERATOR(pg_catalog.&&) %s::int[]", (tuple(tags),)) if tags else None


def _required(predicate: Predicate) -> list[int]:
    """Tags that every match holds."""
    children = predicate.children if isinstance(predicate, All) else (predicate,)
    return sorted({child.tag_id for child in children if isinstance(child, On)})


def _alternatives(predicate: Predicate, sample: Sample | None) -> list[int] | None:
    """Tags of which every match holds one: of several such groups, the rarest."""
    children = predicate.children if isinstance(predicate, All) else (predicate,)
    groups = [group for child in children if isinstance(child, Any) if (group := _one_of_each(child, sample))]
    if sample is None:
        return groups[0] if groups else None
    return min(groups, key=lambda group: sum(map(sample.posts_with, group)), default=None)


def _one_of_each(predicate: Any, sample: Sample | None) -> list[int] | None:
    """One tag (or one's alternatives) out of every branch; None when a branch has none."""
    tags: set[int] = set()
    for child in predicate.children:
        required = _required(child)
        if required and sample is not None:
            tags.add(min(required, key=sample.posts_with))
        elif required:
            tags.add(required[0])
        elif inner := _alternatives(child, sample):
            tags.update(inner)
        else:
            return None
    return sorted(tags)
