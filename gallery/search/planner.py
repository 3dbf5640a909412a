"""Which way a search is run: newest first until the page is full, or from the tags' index.

The database guesses the selectivity of arrays badly, so the choice is made here, from the sample.
The costs were measured at a million posts, in microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from gallery.search.predicates import All, Any, Condition, On, Predicate, mask
from gallery.search.sample import Sample
from gallery.search.values import Sql

_SCANNED = 0.45
_CANDIDATE = 1.4
_LISTED = 0.08
_GIN_START = 150.0


class Way(StrEnum):
    SCAN = "scan"
    GIN = "gin"
    FREE = "free"  # the database's own choice: a condition with an index of its own, or a small site


@dataclass(frozen=True)
class Cover:
    """What GIN is asked, a superset of the matches: posts with every one of these tags, or with any."""

    tags: tuple[int, ...]
    every: bool

    def sql(self) -> Sql:
        # `pg_catalog` is named: intarray has operators of the same names, which this index can't serve.
        sign = "@>" if self.every else "&&"
        return Sql(f"i.tag_ids OPERATOR(pg_catalog.{sign}) %s::int[]", (self.tags,))

    def cost(self, sample: Sample) -> float:
        present = [sample.on(tag_id, 1) for tag_id in self.tags]
        combine = np.logical_and if self.every else np.logical_or
        candidates = float(combine.reduce(present).sum()) * sample.scale
        return _GIN_START + _CANDIDATE * candidates + _LISTED * sum(map(sample.posts_with, self.tags))


@dataclass(frozen=True)
class Plan:
    """A way to run a search; `cost` in microseconds and `matches` are estimates."""

    way: Way
    cover: Cover | None = None
    cost: float = 0.0
    matches: float = 0.0


@dataclass(frozen=True)
class Walk:
    """Reading posts by id until `wanted` are found, down from `start` or up; None starts at the end."""

    wanted: int
    descending: bool = True
    start: int | None = None

    def along(self, found: np.ndarray, sample: Sample) -> np.ndarray:
        """The part of a mask over the sample that is still to be read, in reading order."""
        ids = sample.column("id")  # newest first
        if self.descending:
            return found if self.start is None else found[np.searchsorted(-ids, -self.start, "right") :]
        return (found if self.start is None else found[: np.searchsorted(-ids, -self.start)])[::-1]


def choose(predicate: Predicate, sample: Sample | None, walk: Walk | None, forced: Way | None = None) -> Plan:
    """The plan for a walk, or for all matches (None). No sample means a small site."""
    if forced is not None:
        cover = next(covers(predicate, sample), None) if forced == Way.GIN else None
        return Plan(forced if cover or forced != Way.GIN else Way.SCAN, cover)
    if sample is None:
        return Plan(Way.FREE)
    found = mask(predicate, sample)
    matches = float(found.sum()) * sample.scale
    if has_index(predicate):
        return Plan(Way.FREE, None, 0.0, matches)
    scan = _SCANNED * (_depth(walk.along(found, sample), walk.wanted, sample.scale) if walk else sample.total)
    cheapest = min(((cover.cost(sample), n, cover) for n, cover in enumerate(covers(predicate, sample))), default=None)
    if cheapest and cheapest[0] < scan:
        return Plan(Way.GIN, cheapest[2], cheapest[0], matches)
    return Plan(Way.SCAN, None, scan, matches)


def has_index(predicate: Predicate) -> bool:
    """Whether a condition that must hold is selective by an index of its own."""
    if isinstance(predicate, All):
        return any(has_index(child) for child in predicate.children)
    return isinstance(predicate, Condition) and predicate.selective


def _depth(found: np.ndarray, wanted: int, scale: float) -> float:
    """How many posts are read until `wanted` matches; all that `found` stands for, if they don't suffice."""
    needed = max(1, math.ceil(wanted / scale))
    places = np.flatnonzero(found)
    if len(places) < needed:
        return len(found) * scale
    # The needed-th match of the sample stands for `needed * scale` matches.
    return (int(places[needed - 1]) + 1) * wanted / needed


def covers(predicate: Predicate, sample: Sample | None = None) -> Iterator[Cover]:
    """Every cover that the predicate offers, the one of all required tags first."""
    children = predicate.children if isinstance(predicate, All) else (predicate,)
    if required := {child.tag_id for child in children if isinstance(child, On)}:
        yield Cover(tuple(sorted(required)), True)
    for child in children:
        if isinstance(child, Any) and (tags := _one_of_each(child, sample)):
            yield Cover(tuple(sorted(tags)), False)


def _one_of_each(predicate: Any, sample: Sample | None) -> set[int] | None:
    """Tags of which every match holds one: the rarest out of each branch; None when a branch has none."""
    found: set[int] = set()
    for child in predicate.children:
        cover = next(covers(child, sample), None)
        if cover is None:
            return None
        if cover.every:
            found.add(min(cover.tags, key=sample.posts_with if sample else None))
        else:
            found.update(cover.tags)
    return found
