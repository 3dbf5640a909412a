"""Tags that come with a search: often, or more often than chance would have it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from django.db import connection

from gallery.models import Category
from gallery.profiles import Thresholds
from gallery.search import sample as samples
from gallery.search.compiler import Query, prepare
from gallery.search.counts import count
from gallery.search.nodes import Tag, leaves
from gallery.search.predicates import known_to_sample, mask
from gallery.search.scopes import Viewer
from gallery.search.sidebar import on_frequency
from gallery.search.tagcounts import tag_count_sql

_POSTS = 1000  # that are looked at, as Danbooru's 5,000
_ENOUGH = 200  # matches in the sample that stand for all
_TAGS = 300  # the most frequent ones, which are compared


class RelatedTag(NamedTuple):
    """`share` of the search's posts have the tag; `likeness` is the cosine of the two sets of posts, from 0 to 1."""

    name: str
    category: int
    share: float
    likeness: float


class RelatedTags(NamedTuple):
    """The same tags twice: the most alike first, and the most frequent first."""

    alike: list[RelatedTag]
    frequent: list[RelatedTag]


def related(text: str, thresholds: Thresholds, *, viewer: Viewer = None, limit: int = 15) -> RelatedTags:
    """Tags of the posts that a search finds, ratings and the search's own aside; raises SearchError."""
    query = prepare(text, thresholds, viewer=viewer)
    post_ids = _some_posts(query)
    frequency = on_frequency(post_ids, query.thresholds)
    matches = count(text, thresholds, viewer=viewer).number
    tags = [query.names.find(leaf.name) for leaf in leaves(query.tree) if isinstance(leaf, Tag)]
    own = {known.name for known in tags if known}
    found = []
    for tag_id, name, category, posts in _named(
        [tag_id for tag_id, _ in frequency.most_common(_TAGS)], query.thresholds
    ):
        if category == Category.RATING or name in own:
            continue
        share = frequency[tag_id] / len(post_ids)
        # Histograms are a little behind, and the count may be an estimate: no set is smaller than what they share.
        together = share * matches
        found.append(RelatedTag(name, category, share, together / math.sqrt(max(matches, 1) * max(posts, together, 1))))
    return RelatedTags(
        sorted(found, key=lambda tag: (-tag.likeness, tag.name))[:limit],
        sorted(found, key=lambda tag: (-tag.share, tag.name))[:limit],
    )


def _some_posts(query: Query) -> list[int]:
    """Posts that stand for all of the search's: out of the sample, or the first ones of the list."""
    seen = samples.current()
    if seen is not None and known_to_sample(query.predicate) and query.source is None:
        matching = np.flatnonzero(mask(query.predicate, seen))
        if len(matching) >= _ENOUGH:
            spread = np.linspace(0, len(matching) - 1, min(len(matching), _POSTS)).astype(int)
            return seen.column("id")[matching[spread]].astype(int).tolist()
    return [row[0] for row in query.rows(_POSTS)]


def _named(tag_ids: list[int], thresholds: Thresholds) -> list[tuple[int, str, int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"select t.id, t.name, t.category, {tag_count_sql(thresholds)} from tag t where t.id = any(%s)", [tag_ids]
        )
        return cursor.fetchall()
