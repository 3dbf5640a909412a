"""Which tags to ask people about next: those the tagger is least sure of, or has most often been wrong about.

A tag is in doubt when its confidence is near its threshold: whichever side it lies on, the other is likely too. What
people said of the same tag on other posts counts as well: a tag that was rejected three times where it was on is in
doubt on the next post, however sure the tagger is. But the tenth answer to the same question teaches less than the
first, so the more of them there are, the less it is worth to ask again: an hour of answers covers many tags instead of
the few that are always wrong. Asked are tags of the newest posts, or of a search's first ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice

import numpy as np
from django.contrib.auth.models import AbstractBaseUser

from gallery import search
from gallery.models import Category, Post, Tag, TagIndex, Verdict
from gallery.profiles import HUMAN_YES, SCALE, Thresholds

POSTS = 500  # looked at for one list of questions
VERDICTS = 20_000  # the newest that count
WIDTH = 0.15  # distance from the threshold, as a confidence, at which doubt has fallen to a third of one half
WEIGHT = 4.0  # verdicts that count as much as the distance does
REPEATED = 0.9  # a tag asked about again in one list is that much less worth asking
ENOUGH = 5.0  # verdicts on a tag, on this side of its threshold, that halve what another one is worth

_NOT_ASKED = (Category.RATING, Category.YEAR)
Pair = tuple[int, int]  # post id, tag id


@dataclass(frozen=True)
class Question:
    """Whether a tag is right on a post; `doubt` is how likely the tagger's answer is wrong."""

    post_id: int
    tag_id: int
    byte: int
    limit: int
    doubt: float

    @property
    def pair(self) -> Pair:
        return self.post_id, self.tag_id

    @property
    def on(self) -> bool:
        return self.byte >= self.limit


def questions(
    thresholds: Thresholds,
    text: str = "",
    *,
    limit: int = 20,
    without: Collection[Pair] = (),
    viewer: AbstractBaseUser | None = None,
    posts: int = POSTS,
    visible: Callable[[list[int]], list[int]] | None = None,
) -> list[Question]:
    """The questions most worth asking, best first, none about a tag that somebody judged. Raises SearchError.

    `visible` picks the posts that may be asked about.
    """
    ids = _post_ids(text, thresholds, viewer, posts)
    cells = _cells(visible(ids) if visible else ids, thresholds, set(without))
    if not len(cells.tag):
        return []
    wrong, said = history(cells, thresholds)
    doubt = doubts(cells, wrong, said)
    worth = doubt * REPEATED ** ranks(cells, doubt) / (1 + said / ENOUGH)
    best = np.lexsort((cells.tag, -cells.post, -worth))[:limit]
    return [
        Question(*(int(column[at]) for column in (cells.post, cells.tag, cells.byte, cells.limit)), float(doubt[at]))
        for at in best
    ]


@dataclass(frozen=True)
class Cells:
    """Tags that a tagger named and nobody judged, in arrays of one length."""

    post: np.ndarray
    tag: np.ndarray
    byte: np.ndarray
    limit: np.ndarray


def _post_ids(text: str, thresholds: Thresholds, viewer: AbstractBaseUser | None, count: int) -> list[int]:
    if text.strip():
        return list(islice(search.matching_ids(text, thresholds, viewer=viewer), count))
    return list(
        Post.objects.active().filter(tag_index__isnull=False).order_by("-pk").values_list("pk", flat=True)[:count]
    )


def _cells(post_ids: list[int], thresholds: Thresholds, without: set[Pair]) -> Cells:
    """Ratings are left out, as one of them is always on and the post page asks for it; and years, which few can see."""
    rows = list(TagIndex.objects.filter(post_id__in=post_ids).values_list("post_id", "tag_ids", "confidences"))
    post = np.repeat(np.array([row[0] for row in rows], np.int64), [len(row[1]) for row in rows])
    tag = np.array([tag_id for row in rows for tag_id in row[1]], np.int64)
    byte = np.frombuffer(b"".join(bytes(row[2])[1:] for row in rows), np.uint8).astype(np.int64)
    known, place = np.unique(tag, return_inverse=True)
    tags = Tag.objects.filter(id__in=known.tolist(), deprecated=False).exclude(category__in=_NOT_ASKED)
    category_of = dict(tags.values_list("id", "category"))
    limits = [thresholds.byte(tag_id, category_of[tag_id]) if tag_id in category_of else 0 for tag_id in known.tolist()]
    limit = np.array(limits, np.int64)[place] if len(known) else np.zeros(0, np.int64)
    asked = np.array([pair in without for pair in zip(post.tolist(), tag.tolist(), strict=True)], bool)
    kept = (byte < HUMAN_YES) & (limit > 0) & ~asked
    return Cells(post[kept], tag[kept], byte[kept], limit[kept])


def history(cells: Cells, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]:
    """Of each cell's tag, on the cell's side of the threshold: how often the tagger was wrong, of how many verdicts."""
    limits = dict(zip(cells.tag.tolist(), cells.limit.tolist(), strict=True))
    rows = Verdict.objects.filter(tag_id__in=list(limits), confidence__isnull=False).order_by("-pk")
    found: dict[tuple[int, bool], tuple[int, int]] = {}
    for tag_id, byte, answer in rows.values_list("tag_id", "confidence", "answer")[:VERDICTS]:
        on = byte >= limits[tag_id]
        wrong, count = found.get((tag_id, on), (0, 0))
        found[tag_id, on] = wrong + (answer != on), count + 1
    sides = zip(cells.tag.tolist(), (cells.byte >= cells.limit).tolist(), strict=True)
    counts = np.array([found.get(side, (0, 0)) for side in sides], float).reshape(-1, 2)
    return counts[:, 0], counts[:, 1]


def doubts(cells: Cells, wrong: np.ndarray, said: np.ndarray) -> np.ndarray:
    """How likely each cell's side of its threshold is the wrong one, float from 0 to 1."""
    distance = np.abs(cells.byte - cells.limit) / SCALE
    near = 0.5 * np.exp(-distance / WIDTH)
    return (wrong + WEIGHT * near) / (said + WEIGHT)


def ranks(cells: Cells, doubt: np.ndarray) -> np.ndarray:
    """Of each cell, how many of the same tag are more in doubt, or equally on newer posts."""
    order = np.lexsort((-cells.post, -doubt, cells.tag))
    tag = cells.tag[order]
    starts = np.flatnonzero(np.r_[True, tag[1:] != tag[:-1]])
    rank = np.empty(len(tag), np.int64)
    rank[order] = np.arange(len(tag)) - np.repeat(starts, np.diff(np.r_[starts, len(tag)]))
    return rank
