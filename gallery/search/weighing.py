"""Orders by how many tags are on, worked out here: the database would count tag by tag.

Only for as many posts as `planner.MOST_WEIGHED`; the order is that of `tagcounts.on_count`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gallery.index.histograms import unpacked
from gallery.models import Category
from gallery.profiles import Thresholds
from gallery.search.tagcounts import least_bytes
from gallery.search.values import Sql

COLUMNS = Sql("i.post_id, array_send(i.tag_ids), i.confidences")


def counted(
    rows: Sequence[tuple[int, bytes, bytes]], categories: Sequence[Category], thresholds: Thresholds
) -> list[tuple[int, int]]:
    """Each post of `COLUMNS` with how many of its tags in these categories are on."""
    tag_ids, lengths, confidences = unpacked([row[1] for row in rows], [row[2] for row in rows])
    on = confidences >= least_bytes(int(tag_ids.max(initial=0)), categories, thresholds)[tag_ids]
    places = np.repeat(np.arange(len(rows)), lengths)
    numbers = np.bincount(places[on], minlength=len(rows))
    return [(row[0], int(number)) for row, number in zip(rows, numbers, strict=True)]
