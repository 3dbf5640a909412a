"""`order:random` in lots, so that a page reads as many posts as it needs and no index.

Posts whose ids leave the same remainder make a lot, each as old and as new as the site. A seed shuffles the lots,
and the posts within each. A new post joins its lot and changes nobody else's place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django.db import connection

from gallery.search.values import Sql

LOTS = 4096


def keys(seed: int) -> tuple[Sql, Sql]:
    """What a shuffled list is sorted by: the lot's number, then the post's."""
    lot = Sql(f"hashint8extended(i.post_id & {LOTS - 1}, %s)", (seed,))
    return lot, Sql("hashint8extended(i.post_id, %s)", (seed,))


def lots(seed: int, beyond: tuple[Any, ...] | None, backwards: bool) -> tuple[int, ...]:
    """The lots that lie behind a row, or before it and nearest first, its own among them; all without one."""
    shuffled = _shuffled(seed)
    if beyond is None:
        return shuffled
    place = shuffled.index(beyond[0] & (LOTS - 1))
    return shuffled[place::-1] if backwards else shuffled[place:]


@lru_cache(256)
def _shuffled(seed: int) -> tuple[int, ...]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"select array_agg(lot order by hashint8extended(lot, %s)) from generate_series(0, {LOTS - 1}) lot", [seed]
        )
        return tuple(cursor.fetchone()[0])


def runs(order: Sequence[int], first: float) -> list[tuple[int, ...]]:
    """The lots in runs to be read one after the other: about `first` of them, then ever more."""
    found, begin, size = [], 0, max(1, math.ceil(first))
    while begin < len(order):
        found.append(tuple(order[begin : begin + size]))
        begin, size = begin + size, size * 2
    return found


def within(some: tuple[int, ...]) -> Sql:
    """The posts of these lots, by their ids."""
    newest = "(select max(post_id) from tag_index)"
    ids = f"select generate_series(lot, {newest}, {LOTS}) from unnest(%s::bigint[]) lot"
    return Sql(f"i.post_id = any(array({ids}))", (some,))
