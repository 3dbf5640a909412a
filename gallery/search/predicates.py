"""What a search asks of one post, with names and thresholds resolved to numbers.

Each predicate says the same thing twice: as SQL over `tag_index i` (and `post p`, where it speaks
of it), and as a mask over the sample that the planner keeps in memory. No SQL here is ever null,
so that negation is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gallery.search.values import ALWAYS, NEVER, Ranges, Sql, all_sql, any_sql

if TYPE_CHECKING:
    from gallery.search.sample import Sample

_UNRATED = -1


@dataclass(frozen=True)
class On:
    """The tag's byte reaches the threshold's. `idx` of an absent tag is 0 and reads the leading zero byte."""

    tag_id: int
    byte: int

    def sql(self, negated: bool = False) -> Sql:
        sign = "<" if negated else ">="
        return Sql(f"get_byte(i.confidences, idx(i.tag_ids, %s)) {sign} %s", (self.tag_id, self.byte))


@dataclass(frozen=True)
class Said:
    """What the release said of the tag, whatever people and thresholds say, lies in these ranges of bytes.

    The index row says it: its byte, unless that overruled the release's. `names` are all ids of the tag, those
    of tags now aliased to it included. `listed` is false where a prediction alone may keep the tag out of the index:
    of several ratings one stays, and deprecated tags are not predicted.
    """

    tag_id: int
    names: tuple[int, ...]
    ranges: Ranges
    listed: bool = True

    @property
    def at_least(self) -> float:
        """The least byte that any range lets through."""
        return min(0 if each.low is None else each.low for each in self.ranges)

    def sql(self) -> Sql:
        byte = "get_byte(i.confidences, idx(i.tag_ids, %s))"
        said = (
            f"(case when i.overruled is null then {byte} else"
            f" coalesce((select o & 255 from unnest(i.overruled) o where o >> 8 = %s), {byte}) end)"
        )
        parts = [each.sql(said) for each in self.ranges]
        # The expression's own parameters stand before each end of a range that it is compared with.
        ids = (self.tag_id,) * 3
        return any_sql([Sql(part.text, tuple(v for end in part.params for v in (*ids, end))) for part in parts])


@dataclass(frozen=True)
class Rated:
    """The post's one rating is among these; None is unrated."""

    ratings: frozenset[int | None]

    def sql(self) -> Sql:
        values = tuple(sorted(_UNRATED if rating is None else rating for rating in self.ratings))
        return Sql(f"coalesce(i.rating, {_UNRATED}) = any(%s)", (values,))


@dataclass(frozen=True)
class Condition:
    """Anything else that a field asks.

    `column` names the sample's column that `ranges` cut, if there is one. `selective` conditions have
    an index of their own, so that the database may start from them.
    """

    where: Sql
    column: str = ""
    ranges: Ranges = ()
    selective: bool = False

    def sql(self) -> Sql:
        return self.where


@dataclass(frozen=True)
class Neither:
    """The child does not hold."""

    child: Predicate

    def sql(self) -> Sql:
        if isinstance(self.child, On):
            return self.child.sql(negated=True)
        inner = self.child.sql()
        return Sql(f"not ({inner.text})", inner.params)


@dataclass(frozen=True)
class All:
    """Every child holds; with none, always true."""

    children: tuple[Predicate, ...]

    def sql(self) -> Sql:
        return all_sql([child.sql() for child in self.children])


@dataclass(frozen=True)
class Any:
    """Some child holds; with none, never true."""

    children: tuple[Predicate, ...]

    def sql(self) -> Sql:
        return any_sql([child.sql() for child in self.children])


Predicate = On | Said | Rated | Condition | Neither | All | Any
TRUE = All(())
FALSE = Any(())
NOTHING = Condition(NEVER)
EVERY_POST = Condition(ALWAYS)


def both(predicates: Iterable[Predicate]) -> Predicate:
    """The conjunction, shortened where a part is always or never true."""
    children = tuple(p for p in dict.fromkeys(map(simple, predicates)) if p != TRUE)
    ratings = [child.ratings for child in children if isinstance(child, Rated)]
    # A post has one rating: of two that exclude each other no post need be asked.
    if FALSE in children or (ratings and not frozenset.intersection(*ratings)):
        return FALSE
    return children[0] if len(children) == 1 else All(children)


def either(predicates: Iterable[Predicate]) -> Predicate:
    """The disjunction, shortened likewise."""
    children = tuple(p for p in dict.fromkeys(map(simple, predicates)) if p != FALSE)
    if TRUE in children:
        return TRUE
    return children[0] if len(children) == 1 else Any(children)


def neither(predicate: Predicate) -> Predicate:
    predicate = simple(predicate)
    if predicate in (TRUE, FALSE):
        return FALSE if predicate == TRUE else TRUE
    return Neither(predicate)


def simple(predicate: Predicate) -> Predicate:
    """TRUE and FALSE for conditions that a field answered without looking."""
    if isinstance(predicate, Condition):
        return {ALWAYS: TRUE, NEVER: FALSE}.get(predicate.where, predicate)
    return predicate


class Masks:
    """Which posts of the sample match, by predicate; each is worked out once."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self._known: dict[tuple[Predicate, bool], np.ndarray] = {}
        self._numbers: dict[Predicate, int] = {}

    def of(self, predicate: Predicate, unknown: bool = True) -> np.ndarray:
        """A bool array, not to be changed. What the sample can't tell is assumed to be `unknown`."""
        key = (predicate, unknown)
        if key not in self._known:
            self._known[key] = self._of(predicate, unknown)
        return self._known[key]

    def _of(self, predicate: Predicate, unknown: bool) -> np.ndarray:
        sample = self.sample
        if isinstance(predicate, On):
            return sample.on(predicate.tag_id, predicate.byte)
        if isinstance(predicate, Said):
            return sample.within(predicate.tag_id, predicate.ranges)
        if isinstance(predicate, Rated):
            return sample.rated(_UNRATED if rating is None else rating for rating in predicate.ratings)
        if isinstance(predicate, Neither):
            return ~self.of(predicate.child, not unknown)  # the assumption turns round under a negation
        if isinstance(predicate, Condition):
            if not predicate.column:
                return np.full(sample.size, unknown)
            return np.logical_or.reduce([each.mask(sample.column(predicate.column)) for each in predicate.ranges])
        if isinstance(predicate, Any):
            found = sample.any_on((child.tag_id, child.byte) for child in predicate.children if isinstance(child, On))
            for child in predicate.children:
                if not isinstance(child, On):
                    found |= self.of(child, unknown)
            return found
        found = np.ones(sample.size, bool)
        for child in predicate.children:
            found &= self.of(child, unknown)
        return found

    def sorted(self, predicate: Predicate) -> Predicate:
        """The same, with what decides soonest first: in a conjunction what seldom holds, else what often does."""
        if isinstance(predicate, Neither):
            return Neither(self.sorted(predicate.child))
        if not isinstance(predicate, All | Any):
            return predicate
        often = isinstance(predicate, Any)
        return type(predicate)(tuple(map(self.sorted, sorted(predicate.children, key=self._matches, reverse=often))))

    def effort(self, predicate: Predicate) -> float:
        """How many tests one post takes on average, for a predicate that is `sorted`."""
        if isinstance(predicate, Neither):
            return self.effort(predicate.child)
        if not isinstance(predicate, All | Any):
            return 3.0 if isinstance(predicate, Said) else 1.0
        total, goes_on = 0.0, 1.0
        for child in predicate.children:
            total += goes_on * self.effort(child)
            share = self._matches(child) / max(1, self.sample.size)
            goes_on *= share if isinstance(predicate, All) else 1 - share
        return total

    def _matches(self, predicate: Predicate) -> int:
        if predicate not in self._numbers:
            by_tag = isinstance(predicate, On)
            self._numbers[predicate] = (
                self.sample.count_on(predicate.tag_id, predicate.byte)
                if by_tag
                else int(np.count_nonzero(self.of(predicate)))
            )
        return self._numbers[predicate]


def mask(predicate: Predicate, sample: Sample) -> np.ndarray:
    """Which posts of the sample match, bool; what the sample can't tell counts as a match."""
    return Masks(sample).of(predicate)


def known_to_sample(predicate: Predicate) -> bool:
    """Whether `mask` is the whole truth."""
    if isinstance(predicate, Neither):
        return known_to_sample(predicate.child)
    if isinstance(predicate, All | Any):
        return all(known_to_sample(child) for child in predicate.children)
    return not isinstance(predicate, Condition) or bool(predicate.column)
