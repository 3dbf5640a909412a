"""How many posts a search finds, from the sample and what is known of its tags exactly.

The share of the sample that matches is off by chance. So are the shares of the search's own tags, and how far these
are off is known from the tags' histograms: what goes along with them is put right (a regression estimate).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gallery.models import Tag
from gallery.search.errors import SearchTimeout
from gallery.search.planner import Way
from gallery.search.predicates import All, Any, Masks, Neither, On, Predicate
from gallery.search.running import Planned, run
from gallery.search.sample import Sample
from gallery.search.values import Sql

_TAGS = 12  # that put an estimate right: the most frequent ones
_ASKED = ((100, 60), (1_000, 60), (4_000, 80))  # so many posts in so many milliseconds; more, if the fewer were quick
_FEWEST = 100  # matches in the sample, under which chance has too large a part


class Histograms:
    """Posts of tags by confidence byte, each tag's read once; None where there are none yet.

    `read` are those that came with the names of a search.
    """

    def __init__(self, read: Mapping[int, list[int] | None] | None = None) -> None:
        self._read = dict(read or {})

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


def estimated(predicate: Predicate, masks: Masks, known: Histograms | None = None) -> Estimate:
    """The number for a predicate; `known` are histograms read already."""
    sample, found = masks.sample, masks.of(predicate)
    matches = int(np.count_nonzero(found))
    if matches == sample.size or not matches or sample.scale <= 1:
        return Estimate(matches * sample.scale, 0.0 if sample.scale <= 1 or matches else math.inf)
    share = matches / sample.size
    spread = share * (1 - share)
    if matches >= _FEWEST:
        change, spread = _put_right(found, tags_to_put_right(predicate, sample), masks, known or Histograms())
        share += change
    if share <= 0:
        return Estimate(matches * sample.scale, math.inf)
    unseen = 1 - sample.size / sample.total
    return Estimate(share * sample.total, math.sqrt(max(spread, 0) * unseen / sample.size) / share)


def asked_of_some(predicate: Predicate, masks: Masks) -> float | None:
    """The number for what the sample does not know, which the database is asked about some of its posts; None where
    that takes too long.
    """
    sample, surely = masks.sample, masks.of(predicate, unknown=False)
    open_ = np.flatnonzero(masks.of(predicate) & ~surely)
    shuffled = np.random.default_rng(0).permutation(open_)  # the same again each time
    number, took = None, 0.0
    for most, timeout in _ASKED:
        if 3000 * took > timeout:
            break
        some = shuffled[:most]
        ids = tuple(sample.column("id")[some].astype(int).tolist())
        where = predicate.sql()
        text = (
            "select count(*) from unnest(%s::bigint[]) s (id) join tag_index i on i.post_id = s.id"
            f" join post p on p.id = s.id where {where.text}"
        )
        began = time.monotonic()
        try:
            [(found,)] = run(Planned(Sql(text, (ids, *where.params)), Way.ALONG, False), timeout)
        except SearchTimeout:
            break
        number = (np.count_nonzero(surely) + found * len(open_) / max(1, len(some))) * sample.scale
        took = time.monotonic() - began
    return number


def _put_right(found: np.ndarray, tags: list[On], masks: Masks, histograms: Histograms) -> tuple[float, float]:
    """What to add to the share that matches, and the variance that is left of a post's match."""
    known = _shares(tags, masks.sample.total, histograms)
    tags = [tag for tag in tags if tag in known]
    shared = _shared([found, *(masks.of(tag) for tag in tags)])
    means = shared.diagonal()
    covariance = shared - np.outer(means, means)
    slopes = np.linalg.lstsq(covariance[1:, 1:], covariance[1:, 0], rcond=1e-6)[0]
    off = np.array([known[tag] for tag in tags]) - means[1:]
    return float(slopes @ off), float(covariance[0, 0] - slopes @ covariance[1:, 0])


def _shared(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Of which part of the posts any two of these masks hold together."""
    # Sixty-four posts in a number: as floats, multiplying these would take ten times as long.
    posts = len(masks[0])
    bits = np.zeros((len(masks), -(-posts // 64) * 8), np.uint8)
    bits[:, : -(-posts // 8)] = np.packbits(np.stack(masks), axis=1)
    words = bits.view(np.uint64)
    return np.array([np.bitwise_count(words & each).sum(axis=1) for each in words]) / posts


def tags_to_put_right(predicate: Predicate, sample: Sample) -> list[On]:
    """The most frequent tags of a search: their exact numbers put its estimate right."""
    tags = list(dict.fromkeys(_tags_of(predicate)))
    return sorted(tags, key=lambda tag: -sample.count_on(tag.tag_id, tag.byte))[:_TAGS]


def _tags_of(predicate: Predicate) -> Iterator[On]:
    """The tags that a search asks for or against."""
    if isinstance(predicate, On):
        yield predicate
    elif isinstance(predicate, Neither):
        yield from _tags_of(predicate.child)
    elif isinstance(predicate, All | Any):
        for child in predicate.children:
            yield from _tags_of(child)


def _shares(tags: list[On], posts: int, histograms: Histograms) -> dict[On, float]:
    """On which part of all posts each tag is, by its histogram; tags without one are left out."""
    rows = histograms.of(tag.tag_id for tag in tags)
    return {tag: sum(rows[tag.tag_id][tag.byte :]) / posts for tag in tags if rows.get(tag.tag_id)}
