"""What the index says of some posts, read once for all that a page shows of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from django.db import connection

from gallery.models import Category, Post, TagIndex
from gallery.profiles import Thresholds, on


class KnownTag(NamedTuple):
    id: int
    name: str
    category: int


@dataclass
class PageRows:
    """The posts, where each one's tags begin and end in `tag_ids` and `confidences` (uint8) of all of them, and the
    `tags` that may be on, by id, ratings among them.

    `shown` is kept for each profile: what shows a page asks more than once.
    """

    post_ids: list[int]
    offsets: np.ndarray
    tag_ids: np.ndarray
    confidences: np.ndarray
    tags: dict[int, KnownTag]
    _shown: dict[Thresholds, dict[int, list[KnownTag]]] = field(default_factory=dict)

    @classmethod
    def read(cls, post_ids: Iterable[int], thresholds: Thresholds) -> PageRows:
        rows = TagIndex.objects.filter(post_id__in=list(post_ids)).values_list("post_id", "tag_ids", "confidences")
        return cls._of(list(rows), thresholds)

    @classmethod
    def of_posts(cls, posts: Iterable[Post], thresholds: Thresholds) -> PageRows:
        """As `read`, of posts that were read together with their index rows: deleted ones have none."""
        rows = [getattr(post, "tag_index", None) for post in posts]
        return cls._of([(row.post_id, row.tag_ids, row.confidences) for row in rows if row], thresholds)

    @classmethod
    def _of(cls, rows: Sequence[tuple[int, list[int], bytes]], thresholds: Thresholds) -> PageRows:
        tag_ids = np.array([tag_id for _, ids, _ in rows for tag_id in ids], np.int64)
        confidences = np.frombuffer(b"".join(bytes(packed)[1:] for _, _, packed in rows), np.uint8)
        offsets = np.cumsum([0, *(len(ids) for _, ids, _ in rows)])
        least = min([thresholds.overall, *thresholds.by_category.values(), *thresholds.by_tag.values()])
        wanted = np.unique(tag_ids[confidences >= least]).tolist()
        return cls([row[0] for row in rows], offsets, tag_ids, confidences, _tags(wanted) if rows else {})

    def shown(self, thresholds: Thresholds) -> dict[int, list[KnownTag]]:
        """The tags of each post that are on, most confident first; posts without an index row are left out."""
        if thresholds not in self._shown:
            self._shown[thresholds] = self._on(thresholds)
        return self._shown[thresholds]

    def _on(self, thresholds: Thresholds) -> dict[int, list[KnownTag]]:
        tags = sorted(self.tags.values())
        known = np.array([tag.id for tag in tags], np.int64)
        places = np.searchsorted(known, self.tag_ids)
        there = np.flatnonzero(np.isin(self.tag_ids, known, kind="sort"))
        posts = np.repeat(np.arange(len(self.post_ids)), np.diff(self.offsets))[there]
        confidences, places = self.confidences[there], places[there]
        categories = np.array([tag.category for tag in tags], np.int64)[places]
        is_on = on(thresholds, self.tag_ids[there], confidences, categories)
        posts, confidences, places = posts[is_on], confidences[is_on], places[is_on]
        order = np.lexsort((-confidences.astype(int), posts))
        in_order = [tags[place] for place in places[order].tolist()]
        ends = np.searchsorted(posts, np.arange(len(self.post_ids) + 1)).tolist()
        return {post_id: in_order[ends[n] : ends[n + 1]] for n, post_id in enumerate(self.post_ids)}


def _tags(tag_ids: Sequence[int]) -> dict[int, KnownTag]:
    with connection.cursor() as cursor:
        # A post's rating shows at any confidence.
        cursor.execute(
            "select id, name, category from tag where id = any(%s::bigint[]) or category = %s",
            [array_text(tag_ids), int(Category.RATING)],
        )
        return {row[0]: KnownTag(*row) for row in cursor.fetchall()}


def array_text(numbers: Iterable[int]) -> str:
    """Whole numbers as the database reads an array: a thousand of them quicker than as a list."""
    return f"{{{','.join(map(str, numbers))}}}"
