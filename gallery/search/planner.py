"""Which way a search is run: newest first until the page is full, from the tags' index, or along another order.

The database guesses the selectivity of arrays badly, so the choice is made here, from the sample, and for each
partition of the tag index by itself: a tag that lives in one era is dense there and absent elsewhere.
The costs were measured at a million posts, in microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from gallery.index.partitions import SIZE
from gallery.search import shuffling
from gallery.search.predicates import All, Any, Condition, Masks, On, Predicate, Said, known_to_sample
from gallery.search.sample import Sample
from gallery.search.values import Sql

_SCANNED = 0.3
_CANDIDATE = 1.25
_TESTED = 0.15  # one tag of one post
_LISTED = 0.08
_SKIPPED = 1.0  # what a long list costs for each entry of a short one that it is intersected with
_GIN_START = 100.0  # of each partition
_SORTED = 4.0  # a match that is joined with its post, and sorted
ALONG_POSTS = 6.0  # a post read along an index of the posts, and its row of the tag index
ALONG_INDEX = 3.0  # a row read along an index of the tag index
_LOOKED_UP = 2.0  # a row by its post's id
MOST_WEIGHED = 2_000  # matches whose place takes counting: no more than about so many, the newest, are put in order
_WIDEST = 5  # required tags that GIN is asked for at most: the rows tell the rest


class Way(StrEnum):
    SCAN = "scan"
    GIN = "gin"
    ALONG = "along"  # in the order of an index
    LOTS = "lots"  # of a shuffled list, one after the other
    FREE = "free"  # the database's own choice: a condition with an index of its own, or a small site


@dataclass(frozen=True)
class Cover:
    """What GIN is asked, a superset of the matches: posts with every one of these tags, or with any.

    `or_rejected` are tags of which a person's no counts, too: the index does not have it.
    """

    tags: tuple[int, ...]
    every: bool
    or_rejected: tuple[int, ...] = ()

    def sql(self) -> Sql:
        # `pg_catalog` is named: intarray has operators of the same names, which this index can't serve.
        sign = "@>" if self.every else "&&"
        text = f"i.tag_ids OPERATOR(pg_catalog.{sign}) %s::int[]"
        if not self.or_rejected:
            return Sql(text, (self.tags,))
        rejected = "array(select v.post_id from verdict v where v.tag_id = any(%s) and not v.answer)"
        return Sql(f"({text} or i.post_id = any({rejected}))", (self.tags, self.or_rejected))

    def costs(self, masks: Masks, parts: Sequence[slice], tests: float, most: np.ndarray | float) -> np.ndarray:
        """Microseconds in each part of the sample; a candidate takes so many `tests` of tags.

        Not worked out further where it is more than `most` in any case.
        """
        scale = masks.sample.scale
        lists = np.array([masks.sample.holding(tag_id, parts) * scale for tag_id in self.tags])
        listed = _LISTED * lists
        if self.every:
            listed = np.minimum(listed, (_LISTED + _SKIPPED) * lists.min(axis=0))
        reading = _GIN_START + listed.sum(axis=0)
        if np.all(reading >= most):
            return reading
        tags = tuple(On(tag_id, 1) for tag_id in self.tags)
        candidates = masks.of(All(tags) if self.every else Any(tags))
        return reading + (_CANDIDATE + _TESTED * tests) * scale * _sums(candidates, parts)


@dataclass(frozen=True)
class Stretch:
    """Post ids from `low` to below `high`, None being open, that one statement reads one way."""

    way: Way
    cover: Cover | None = None
    low: int | None = None
    high: int | None = None
    lots: tuple[int, ...] = ()

    def sql(self) -> list[Sql]:
        bounds = [Sql(f"i.post_id >= {self.low}")] if self.low is not None else []
        bounds += [Sql(f"i.post_id < {self.high}")] if self.high is not None else []
        bounds += [shuffling.within(self.lots)] if self.lots else []
        return [*bounds, self.cover.sql()] if self.cover else bounds


@dataclass(frozen=True)
class Plan:
    """What to read, in order, until there is enough; `cost` in microseconds and `matches` are estimates.

    `predicate` is what was asked, with what decides soonest first; `sample` is what told it, for all matches.
    """

    stretches: tuple[Stretch, ...]
    predicate: Predicate
    cost: float = 0.0
    matches: float = 0.0
    few: bool = False  # no more matches than can be put in an order that takes counting,
    cut: bool = False  # because only the newest are read
    sample: Sample | None = field(default=None, repr=False, compare=False)

    @property
    def way(self) -> Way:
        return self.stretches[0].way


@dataclass(frozen=True)
class Walk:
    """Reading posts until `wanted` are found: by id, down from `start` or up, or in another order.

    `along` is what a post costs that is read along that order's index; `lots` are those of a shuffled list;
    `weighed` says that the place of each match has to be counted out.
    """

    wanted: int
    descending: bool = True
    start: int | None = None
    along: float = 0.0
    lots: tuple[int, ...] = ()
    weighed: bool = False

    @property
    def by_id(self) -> bool:
        return not (self.along or self.lots or self.weighed)


def choose(predicate: Predicate, masks: Masks | None, walk: Walk | None, forced: Way | None = None) -> Plan:
    """The plan for a walk, or for all matches (None). No masks of a sample mean a small site."""
    if forced is not None:
        return Plan(_forced(forced, predicate, walk), predicate)
    if masks is None:
        return Plan((Stretch(Way.FREE),), predicate)
    sample, found = masks.sample, masks.of(predicate)
    matches = float(np.count_nonzero(found)) * sample.scale
    predicate = masks.sorted(predicate)
    if has_index(predicate):
        return Plan((Stretch(Way.FREE),), predicate, 0.0, matches)
    tests = masks.effort(predicate)
    if walk and walk.weighed and known_to_sample(predicate):
        if matches > MOST_WEIGHED:
            return _of_the_newest(predicate, masks, found, matches, tests)
        return replace(_all_matches(predicate, masks, walk, matches, tests), few=True)
    if walk is None or not walk.by_id:
        whole = _all_matches(predicate, masks, walk, matches, tests)
        return replace(whole, sample=sample)
    stretches, cost = _by_partition(predicate, masks, walk, found, tests)
    return Plan(stretches, predicate, cost, matches)


def _forced(way: Way, predicate: Predicate, walk: Walk | None) -> tuple[Stretch, ...]:
    """Everything in one way, or by a scan where there is no such way."""
    if way == Way.LOTS and walk and walk.lots:
        return _by_lots(walk.lots, 1)
    cover = next(covers(predicate), None) if way == Way.GIN else None
    lacking = {Way.GIN: not cover, Way.ALONG: not (walk and walk.along), Way.LOTS: True}.get(way)
    return (Stretch(Way.SCAN if lacking else way, cover),)


def _by_lots(lots: tuple[int, ...], first: float) -> tuple[Stretch, ...]:
    return tuple(Stretch(Way.LOTS, lots=run) for run in shuffling.runs(lots, first))


def _all_matches(predicate: Predicate, masks: Masks, walk: Walk | None, matches: float, tests: float) -> Plan:
    """One statement over everything, or in the order that is asked for until there are enough."""
    sample = masks.sample
    scan = (_SCANNED + _TESTED * tests) * sample.total
    ways = [(scan, Stretch(Way.SCAN)), *_from_gin(predicate, masks, slice(0, sample.size), tests, scan)]
    if walk:
        # All matches have to be joined and sorted, unless the order's index gives them one by one.
        ways = [(cost + _SORTED * matches, stretch) for cost, stretch in ways]
        read = min(sample.total, walk.wanted * sample.total / max(matches, 1))
        if walk.along:
            ways.append(((walk.along + _TESTED * tests) * read, Stretch(Way.ALONG)))
    cost, stretch = min(ways, key=lambda way: way[0])
    if walk and walk.lots:
        needed = 1 + 1.2 * read * shuffling.LOTS / sample.total
        # Ids that no post has are looked up, too.
        by_lots = needed * (_LOOKED_UP * sample.newest + _TESTED * tests * sample.total) / shuffling.LOTS
        if by_lots < cost:
            return Plan(_by_lots(walk.lots, needed), predicate, by_lots, matches)
    return Plan((stretch,), predicate, cost, matches)


def _from_gin(
    predicate: Predicate, masks: Masks, part: slice, tests: float, most: float, low: int | None = None
) -> list[tuple[float, Stretch]]:
    """What the covers cost that are offered, each in one statement down to `low`."""
    offered = covers(predicate, masks.sample)
    return [(float(cover.costs(masks, [part], tests, most)[0]), Stretch(Way.GIN, cover, low)) for cover in offered]


def _of_the_newest(predicate: Predicate, masks: Masks, found: np.ndarray, matches: float, tests: float) -> Plan:
    """As many of the newest matches as can be put in an order that takes counting."""
    sample = masks.sample
    last = int(np.flatnonzero(found)[int(MOST_WEIGHED / sample.scale)])
    low = int(sample.column("id")[last])
    scan = (_SCANNED + _TESTED * tests) * (last + 1) * sample.scale
    from_gin = _from_gin(predicate, masks, slice(0, last + 1), tests, scan, low)
    cost, stretch = min([(scan, Stretch(Way.SCAN, low=low)), *from_gin], key=lambda way: way[0])
    return Plan((stretch,), predicate, cost, matches, few=True, cut=True)


def _by_partition(
    predicate: Predicate, masks: Masks, walk: Walk, found: np.ndarray, tests: float
) -> tuple[tuple[Stretch, ...], float]:
    """The cheapest way through each partition on the walk, neighbours of one way in one statement."""
    bounds, parts = _partitions(masks.sample, walk)
    matches = _sums(found, parts) * masks.sample.scale
    depths = [
        _depth(found[part], walk, before, masks.sample.scale)
        for part, before in zip(parts, np.cumsum(matches) - matches, strict=True)
    ]
    scans = (_SCANNED + _TESTED * tests) * np.array(depths)
    offered = list(covers(predicate, masks.sample))
    gin = np.array([cover.costs(masks, parts, tests, scans) for cover in offered]).reshape(len(offered), len(parts))
    stretches: list[Stretch] = []
    total, expected, in_stretch = 0.0, 0.0, 0.0
    for number, (low, high) in enumerate(bounds):
        best = int(gin[:, number].argmin()) if offered else 0
        way, cover, cost = Way.SCAN, None, float(scans[number])
        if offered and gin[best, number] < cost:
            way, cover, cost = Way.GIN, offered[best], float(gin[best, number])
        last = stretches[-1] if stretches else None
        # A statement from GIN sorts all that it finds: it ends where there should be enough.
        # A scan of the open end is not continued: with rows of no partition yet, it has to look at all at once.
        goes_on = in_stretch < 2 * walk.wanted if way == Way.GIN else last and None not in (last.high, high)
        if last and goes_on and (last.way, last.cover) == (way, cover):
            stretches[-1] = Stretch(way, cover, *((low, last.high) if walk.descending else (last.low, high)))
            in_stretch += matches[number]
        else:
            stretches.append(Stretch(way, cover, low, high))
            in_stretch = matches[number]
        if expected < walk.wanted:
            total += cost
        expected += matches[number]
    return tuple(stretches), total


def _partitions(sample: Sample, walk: Walk) -> tuple[list[tuple[int, int | None]], list[slice]]:
    """Bounds of the partitions on the walk, in reading order, the newest open, and their parts of the sample."""
    # What lies between partitions of which the sample has posts goes with the lower one: ids may be far apart.
    numbers, bounds, parts = sample.partitions, [], []
    for number, above in zip(numbers, [None, *numbers], strict=False):
        low, high = number * SIZE if number != numbers[-1] else 0, None if above is None else above * SIZE
        if walk.start is not None and (0 < walk.start <= low if walk.descending else high and walk.start >= high - 1):
            continue
        begin = 0 if high is None else np.searchsorted(sample.ages, 1 - high)
        end = np.searchsorted(sample.ages, -low, "right")
        if walk.start is not None and walk.descending:
            begin = max(begin, np.searchsorted(sample.ages, -walk.start, "right"))
        elif walk.start is not None:
            end = min(end, np.searchsorted(sample.ages, -walk.start))
        bounds.append((low, high))
        parts.append(slice(int(begin), int(max(begin, end))))
    return (bounds, parts) if walk.descending else (bounds[::-1], parts[::-1])


def _sums(found: np.ndarray, parts: Sequence[slice]) -> np.ndarray:
    return np.array([np.count_nonzero(found[part]) for part in parts], np.float64)


def has_index(predicate: Predicate) -> bool:
    """Whether a condition that must hold is selective by an index of its own."""
    if isinstance(predicate, All):
        return any(has_index(child) for child in predicate.children)
    return isinstance(predicate, Condition) and predicate.selective


def _depth(found: np.ndarray, walk: Walk, before: float, scale: float) -> float:
    """How many posts are read in a partition until there are enough; all, if they don't suffice.

    Where there should be enough `before`, half a page may still be missing.
    """
    wanted = max(walk.wanted / 2, walk.wanted - before)
    needed = max(1, math.ceil(wanted / scale))
    places = np.flatnonzero(found if walk.descending else found[::-1])
    if len(places) < needed:
        return len(found) * scale
    # The needed-th match of the sample stands for `needed * scale` matches.
    return (int(places[needed - 1]) + 1) * wanted / needed


def covers(predicate: Predicate, sample: Sample | None = None) -> Iterator[Cover]:
    """Every cover that the predicate offers, those of required tags first: of all, then of the rarest few."""
    children = predicate.children if isinstance(predicate, All) else (predicate,)
    # What the release said of a tag, the index has unless a person said no to it.
    names = {each.tag_id: each.names for each in children if isinstance(each, Said) and each.listed and each.at_least}
    names |= {each.tag_id: () for each in children if isinstance(each, On)}
    required = list(names)
    if sample:
        required.sort(key=sample.posts_with)
        required = required[:_WIDEST]
    for number in range(len(required), 0, -1):
        tags = sorted(required[:number])
        yield Cover(tuple(tags), True, tuple(name for tag in tags for name in names[tag]))
    for child in children:
        if isinstance(child, Any) and (tags := _one_of_each(child, sample)):
            yield Cover(tuple(sorted(tags)), False)


def _one_of_each(predicate: Predicate, sample: Sample | None) -> frozenset[int]:
    """The fewest posts' tags of which every match holds one; none when there are no such tags."""

    def posts(tags: frozenset[int]) -> float:
        return sum(map(sample.posts_with, tags)) if sample else len(tags)

    if isinstance(predicate, On):
        return frozenset({predicate.tag_id})
    if isinstance(predicate, All):
        return min(
            filter(None, (_one_of_each(child, sample) for child in predicate.children)), key=posts, default=frozenset()
        )
    if isinstance(predicate, Any):
        branches = [_one_of_each(child, sample) for child in predicate.children]
        return frozenset().union(*branches) if all(branches) else frozenset()
    return frozenset()
