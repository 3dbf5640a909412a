"""What the index says of some posts, read once for all that a page shows of them, in two queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from django.db import connection

from gallery.models import Category, TagIndex
from gallery.profiles import Thresholds, on


class KnownTag(NamedTuple):
    id: int
    name: str
    category: int


@dataclass
class PageRows:
    """`tag_ids` and `confidences` (uint8) of each post; `tags` are those that may be on, and the ratings."""

    tag_ids: dict[int, np.ndarray]
    confidences: dict[int, np.ndarray]
    tags: dict[int, KnownTag]

    @classmethod
    def read(cls, post_ids: Iterable[int], thresholds: Thresholds) -> PageRows:
        rows = TagIndex.objects.filter(post_id__in=list(post_ids)).values_list("post_id", "tag_ids", "confidences")
        tag_ids, confidences = {}, {}
        least = min([thresholds.overall, *thresholds.by_category.values(), *thresholds.by_tag.values()])
        wanted: set[int] = set()
        for post_id, ids, packed in rows:
            tag_ids[post_id] = np.array(ids, np.int64)
            confidences[post_id] = np.frombuffer(bytes(packed)[1:], np.uint8)
            wanted.update(tag_ids[post_id][confidences[post_id] >= least].tolist())
        return cls(tag_ids, confidences, _tags(wanted))

    def on(self, post_id: int, thresholds: Thresholds) -> list[KnownTag]:
        """The post's tags that are on, most confident first."""
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
