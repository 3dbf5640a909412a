"""Orders by how many tags are on, worked out here: the database would look up the category of each tag of each post.

Only for as many posts as `planner.MOST_WEIGHED`; the order is that of `tagcounts.on_count_sql`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from django.db import connection

from gallery.index.histograms import unpacked
from gallery.models import Category
from gallery.profiles import Thresholds
from gallery.search.values import Sql

COLUMNS = Sql("i.post_id, array_send(i.tag_ids), i.confidences")
_STALE_SECONDS = 300
_NONE = 256  # a byte that no tag reaches


class _Categories(NamedTuple):
    of: np.ndarray  # by tag id, -1 where there is no such tag
    read_at: float


_known = _Categories(np.zeros(0, np.int8), 0.0)


def counted(
    rows: Sequence[tuple[int, bytes, bytes]], categories: Sequence[Category], thresholds: Thresholds
) -> list[tuple[int, int]]:
    """Each post of `COLUMNS` with how many of its tags in these categories are on."""
    tag_ids, lengths, confidences = unpacked([row[1] for row in rows], [row[2] for row in rows])
    on = confidences >= _least(int(tag_ids.max(initial=0)), categories, thresholds)[tag_ids]
    places = np.repeat(np.arange(len(rows)), lengths)
    numbers = np.bincount(places[on], minlength=len(rows))
    return [(row[0], int(number)) for row, number in zip(rows, numbers, strict=True)]


def _least(newest: int, categories: Sequence[Category], thresholds: Thresholds) -> np.ndarray:
    """The byte from which each tag is on, by tag id."""
    of = _categories(newest)
    least = np.full(len(of), _NONE, np.int64)
    for category in categories:
        least[of == category] = thresholds.byte(0, category)
    for tag_id, byte in thresholds.by_tag.items():
        if tag_id < len(of) and of[tag_id] in categories:
            least[tag_id] = byte
    return least


def _categories(newest: int) -> np.ndarray:
    global _known
    now = time.monotonic()
    if newest >= len(_known.of) or now - _known.read_at > _STALE_SECONDS:
        with connection.cursor() as cursor:
            cursor.execute("select coalesce(max(id), 0) from tag")
            of = np.full(max(cursor.fetchone()[0], newest) + 1, -1, np.int8)
            cursor.execute("select array_agg(id), array_agg(category) from tag")
            ids, numbers = cursor.fetchone()
        of[ids or []] = numbers or []
        _known = _Categories(of, now)
    return _known.of
