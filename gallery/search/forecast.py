"""How many posts each of several near searches would find, quick enough to ask while somebody types.

Estimated from the sample in memory; what the sample is too coarse for is counted, where a rare tag makes
that cheap. Numbers under a dozen of a million posts come out right, and none takes more than some milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gallery.search import sample as samples
from gallery.search.counts import Count
from gallery.search.errors import SearchTimeout
from gallery.search.planner import Cover, Way
from gallery.search.predicates import (
    FALSE,
    TRUE,
    All,
    Any,
    Masks,
    Neither,
    On,
    Predicate,
    Said,
    both,
    known_to_sample,
)
from gallery.search.running import Planned, run
from gallery.search.sample import Sample
from gallery.search.values import Sql, all_sql

_SURE = 30  # matches in the sample from which its estimate is good enough
_CHEAP_POSTS = 2_000  # posts that one exact count may look at
_POSTS_AT_ONCE = 5_000  # and all of them together
_TIMEOUT_MS = 60


def forecast(predicates: Sequence[Predicate]) -> list[Count | None]:
    """The counts of these searches; None where nothing can be said in time."""
    seen = samples.current()
    if seen is None:
        different = list(dict.fromkeys(predicates))
        found = dict(zip(different, _all_counted(different), strict=False))  # none of them in time, or all
        return [found.get(predicate) for predicate in predicates]
    masks = Masks(seen)
    estimates = [_estimate(predicate, masks) for predicate in predicates]
    unsure = {
        each: posts
        for each, estimate in zip(predicates, estimates, strict=True)
        if (posts := _to_count(each, estimate, seen))
    }
    counted = _counted(_cheapest(unsure))
    return [counted.get(each, estimate) for each, estimate in zip(predicates, estimates, strict=True)]


def _estimate(predicate: Predicate, masks: Masks) -> Count | None:
    if predicate == FALSE:
        return Count(0, True)
    if not known_to_sample(predicate):
        return None
    number, scale = int(np.count_nonzero(masks.of(predicate))), masks.sample.scale
    return Count(round(number * scale), scale == 1 and not _asks_the_release(predicate))


def _asks_the_release(predicate: Predicate) -> bool:
    """Whether the sample, which holds what people made of it, tells only about what is asked."""
    if isinstance(predicate, Neither):
        return _asks_the_release(predicate.child)
    if isinstance(predicate, All | Any):
        return any(map(_asks_the_release, predicate.children))
    return isinstance(predicate, Said)


def _to_count(predicate: Predicate, estimate: Count | None, seen: Sample) -> float:
    """How many posts an exact count would look at, if the sample is unsure and that is cheap; else 0."""
    # A sample of all posts is some minutes old, too: what it has next to none of may have come since.
    if predicate == FALSE or (estimate and estimate.number >= _SURE * seen.scale):
        return 0
    rarest = _rarest(predicate, seen)
    # A tag that the sample has never seen is on a few posts all the same.
    posts = max(seen.posts_with(rarest), seen.scale) if rarest else _CHEAP_POSTS + 1
    return posts if posts <= _CHEAP_POSTS else 0


def _rarest(predicate: Predicate, seen: Sample) -> int | None:
    """The rarest tag that every match has."""
    children = predicate.children if isinstance(predicate, All) else (predicate,)
    return min((child.tag_id for child in children if isinstance(child, On)), key=seen.posts_with, default=None)


def _cheapest(posts: dict[Predicate, float]) -> list[Predicate]:
    """As many as may be counted at once, the cheapest first."""
    chosen, total = [], 0.0
    for predicate in sorted(posts, key=lambda each: posts[each]):
        total += posts[predicate]
        if total > _POSTS_AT_ONCE:
            break
        chosen.append(predicate)
    return chosen


def _counted(predicates: list[Predicate]) -> dict[Predicate, Count]:
    """Exact numbers from the tags' index, all asked in one statement."""
    seen = samples.current()
    if not predicates or seen is None:
        return {}
    parts = []
    for predicate in predicates:
        cover = Cover((_rarest(predicate, seen),), True)
        where = all_sql([cover.sql(), predicate.sql()])
        parts.append(Sql(f"(select count(*) from {_source(where)} where {where.text})", where.params))
    statement = Sql(f"select {', '.join(part.text for part in parts)}", tuple(v for part in parts for v in part.params))
    try:
        (row,) = run(Planned(statement, Way.GIN, False), _TIMEOUT_MS)
    except SearchTimeout:
        return {}
    return {predicate: Count(number, True) for predicate, number in zip(predicates, row, strict=True)}


def _all_counted(predicates: list[Predicate]) -> list[Count]:
    """Exact numbers on a small site: one reading of what all of the searches have in common."""
    parts = [predicate.children if isinstance(predicate, All) else (predicate,) for predicate in predicates]
    common = [child for child in parts[0] if all(child in part for part in parts)] if parts else []
    own = [both(child for child in part if child not in common) for part in parts]
    filters = [Sql(f"count(*) filter (where {sql.text})", sql.params) for sql in (_sql(each) for each in own)]
    where = _sql(both(common))
    columns = Sql(", ".join(each.text for each in filters), tuple(v for each in filters for v in each.params))
    source = _source(Sql(columns.text + where.text))
    try:
        statement = Sql(f"select {columns.text} from {source} where {where.text}", columns.params + where.params)
        (row,) = run(Planned(statement, Way.FREE, False), _TIMEOUT_MS)
    except (SearchTimeout, ValueError):
        return []
    return [Count(number, True) for number in row]


def _sql(predicate: Predicate) -> Sql:
    if predicate in (TRUE, FALSE):
        return Sql("true" if predicate == TRUE else "false")
    return predicate.sql()


def _source(where: Sql) -> str:
    return "tag_index i join post p on p.id = i.post_id" if "p." in where.text else "tag_index i"
