"""What pictures are called for people who can't see them, or not yet: their tags, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gallery import profiles
from gallery.models import Category, Tag, TagIndex

# Who and what first, in the order one would say it.
_SPOKEN = (Category.CHARACTER, Category.COPYRIGHT, Category.GENERAL, Category.ARTIST)
_ALT_TAGS = 15


@dataclass(frozen=True)
class Caption:
    """`alt` is read aloud; `title` lists all tags that are on, as one would type them."""

    alt: str
    title: str


def captions(post_ids: Iterable[int], thresholds: profiles.Thresholds) -> dict[int, Caption]:
    """A caption for each of these posts, in two queries."""
    wanted = list(post_ids)
    rows = {row.post_id: row for row in TagIndex.objects.filter(post_id__in=wanted)}
    known = {tag.id: tag for tag in Tag.objects.filter(id__in={i for row in rows.values() for i in row.tag_ids})}
    return {pk: _caption(pk, _tags_on(rows[pk], known, thresholds) if pk in rows else []) for pk in wanted}


def _tags_on(row: TagIndex, known: dict[int, Tag], thresholds: profiles.Thresholds) -> list[Tag]:
    """The post's tags that are on, most confident first."""
    tag_ids = np.array(row.tag_ids, np.int64)
    confidences = np.frombuffer(bytes(row.confidences)[1:], np.uint8)
    categories = np.array([known[i].category for i in row.tag_ids], np.int64)
    on = np.flatnonzero(profiles.on(thresholds, tag_ids, confidences, categories))
    return [known[row.tag_ids[i]] for i in on[np.argsort(-confidences[on].astype(np.int64), kind="stable")]]


def _caption(post_id: int, tags: list[Tag]) -> Caption:
    spoken = [tag for category in _SPOKEN for tag in tags if tag.category == category]
    words = ", ".join(tag.name.replace("_", " ") for tag in spoken[:_ALT_TAGS])
    return Caption(alt=f"Post {post_id}: {words}" if words else f"Post {post_id}", title=" ".join(t.name for t in tags))
