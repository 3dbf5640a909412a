"""How many posts a search finds, from the sample and what is known of its tags exactly.

The share of the sample that matches is off by chance. So are the shares of the search's own tags, and how far these
are off is known from the tags' histograms: what goes along with them is put right (a regression estimate).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from gallery.models import Tag
from gallery.search.predicates import All, Any, Neither, On, Predicate
from gallery.search.sample import Sample

_TAGS = 12  # that put an estimate right: the most frequent ones
_FEWEST = 100  # matches in the sample, under which chance has too large a part


class Histograms:
    """Posts of tags by confidence byte, each tag's read once; None where there are none yet."""

    def __init__(self) -> None:
        self._read: dict[int, list[int] | None] = {}

    def of(self, tag_ids: Iterable[int]) -> dict[int, list[int] | None]:
        wanted = set(tag_ids)
        if missing := wanted - self._read.keys():
            rows = Tag.objects.filter(pk__in=missing).values_list("pk", "histogram")
            self._read |= dict.fromkeys(missing) | dict(rows)
        return {tag_id: self._read[tag_id] for tag_id in wanted}


class Estimate(NamedTuple):
    """A number of posts, and its standard error as a share of it."""

    number: float
    error: float


def estimated(predicate: Predicate, found: np.ndarray, sample: Sample, known: Histograms | None = None) -> Estimate:
    """The number for a predicate that matches `found` of the sample (bool); `known` are histograms read already."""
    matches = int(np.count_nonzero(found))
    if matches == sample.size or not matches or sample.scale <= 1:
        return Estimate(matches * sample.scale, 0.0 if sample.scale <= 1 or matches else math.inf)
    share = matches / sample.size
    spread = share * (1 - share)
    if matches >= _FEWEST:
        change, spread = _put_right(found, share, _most_frequent(predicate, sample), sample, known)
        share += change
    if share <= 0:
        return Estimate(matches * sample.scale, math.inf)
    unseen = 1 - sample.size / sample.total
    return Estimate(share * sample.total, math.sqrt(max(spread, 0) * unseen / sample.size) / share)


def _put_right(
    found: np.ndarray, share: float, tags: list[On], sample: Sample, histograms: Histograms | None
) -> tuple[float, float]:
    """What to add to the share that matches, and the variance that is left of a post's match."""
    known = _shares(tags, sample.total, histograms or Histograms())
    tags = [tag for tag in tags if tag in known]
    masks = np.stack([np.ones(sample.size, bool), *(sample.on(tag.tag_id, tag.byte) for tag in tags)])
    on = masks.astype(np.float32)
    means = on.mean(axis=1)
    together = (on @ on.T).astype(np.float64) / sample.size - np.outer(means, means)
    with_found = on @ found.astype(np.float32) / sample.size - means * share
    slopes = np.linalg.lstsq(together, with_found.astype(np.float64), rcond=1e-6)[0]
    off = np.array([1.0, *(known[tag] for tag in tags)]) - means
    return float(slopes @ off), share * (1 - share) - float(slopes @ with_found)


def _most_frequent(predicate: Predicate, sample: Sample) -> list[On]:
    tags = list(dict.fromkeys(tags_of(predicate)))
    return sorted(tags, key=lambda tag: -sample.count_on(tag.tag_id, tag.byte))[:_TAGS]


def tags_of(predicate: Predicate) -> Iterator[On]:
    """The tags that a search asks for or against."""
    if isinstance(predicate, On):
        yield predicate
    elif isinstance(predicate, Neither):
        yield from tags_of(predicate.child)
    elif isinstance(predicate, All | Any):
        for child in predicate.children:
            yield from tags_of(child)


def _shares(tags: list[On], posts: int, histograms: Histograms) -> dict[On, float]:
    """On which part of all posts each tag is, by its histogram; tags without one are left out."""
    rows = histograms.of(tag.tag_id for tag in tags)
    return {tag: sum(rows[tag.tag_id][tag.byte :]) / posts for tag in tags if rows.get(tag.tag_id)}
