"""What the index says of some posts, read once for all that a page shows of them."""

from __future__ import annotations

from collections.abc import Iterable
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
    """`tag_ids` and `confidences` (uint8) of each post; `tags` are those that may be on, and the ratings.

    `known` keeps what was asked of a post: what shows a page asks more than once.
    """

    tag_ids: dict[int, np.ndarray]
    confidences: dict[int, np.ndarray]
    tags: dict[int, KnownTag]
    known: dict[tuple[int, Thresholds], list[KnownTag]] = field(default_factory=dict)

    @classmethod
    def read(cls, post_ids: Iterable[int], thresholds: Thresholds) -> PageRows:
        rows = TagIndex.objects.filter(post_id__in=list(post_ids)).values_list("post_id", "tag_ids", "confidences")
        return cls._of(rows, thresholds)

    @classmethod
    def of_posts(cls, posts: Iterable[Post], thresholds: Thresholds) -> PageRows:
        """As `read`, of posts that were read together with their index rows: deleted ones have none."""
        rows = [getattr(post, "tag_index", None) for post in posts]
        return cls._of([(row.post_id, row.tag_ids, row.confidences) for row in rows if row], thresholds)

    @classmethod
    def _of(cls, rows: Iterable[tuple[int, list[int], bytes]], thresholds: Thresholds) -> PageRows:
        tag_ids, confidences = {}, {}
        least = min([thresholds.overall, *thresholds.by_category.values(), *thresholds.by_tag.values()])
        wanted: set[int] = set()
        for post_id, ids, packed in rows:
            tag_ids[post_id] = np.array(ids, np.int64)
            confidences[post_id] = np.frombuffer(bytes(packed)[1:], np.uint8)
            wanted.update(tag_ids[post_id][confidences[post_id] >= least].tolist())
        return cls(tag_ids, confidences, _tags(wanted) if tag_ids else {})

    def on(self, post_id: int, thresholds: Thresholds) -> list[KnownTag]:
        """The post's tags that are on, most confident first."""
        key = (post_id, thresholds)
        if key not in self.known:
            self.known[key] = self._on(post_id, thresholds)
        return self.known[key]

    def _on(self, post_id: int, thresholds: Thresholds) -> list[KnownTag]:
        if post_id not in self.tag_ids:
            return []
        ids, confidences = self.tag_ids[post_id], self.confidences[post_id]
        known = np.fromiter((tag_id in self.tags for tag_id in ids.tolist()), bool, len(ids))
        ids, confidences = ids[known], confidences[known]
        categories = np.array([self.tags[tag_id].category for tag_id in ids.tolist()], np.int64)
        shown = np.flatnonzero(on(thresholds, ids, confidences, categories))
        return [self.tags[tag_id] for tag_id in ids[shown[np.argsort(-confidences[shown].astype(int), kind="stable")]]]


def _tags(tag_ids: set[int]) -> dict[int, KnownTag]:
    with connection.cursor() as cursor:
        # A post's rating shows at any confidence.
        cursor.execute(
            "select id, name, category from tag where id = any(%s) or category = %s",
            [list(tag_ids), int(Category.RATING)],
        )
        return {row[0]: KnownTag(*row) for row in cursor.fetchall()}
