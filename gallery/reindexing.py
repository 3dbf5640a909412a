"""Rebuild the index of many posts: few before the page answers, more by a worker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from django.db import transaction

from gallery import tagging
from gallery.index import indexing
from gallery.models import Post, Tag

AT_ONCE = 500  # posts that are rebuilt while the page waits: about half a second
_MESSAGE = 5000  # ids in one message


def rebuild(post_ids: Sequence[int]) -> bool:
    """Rebuild these posts; False when a worker does it later. Without a broker nothing is left undone."""
    later = False
    for start in range(0, len(post_ids), _MESSAGE):
        chunk = post_ids[start : start + _MESSAGE]
        if len(post_ids) > AT_ONCE and tagging.send("rebuild_posts", *chunk):
            later = True
        else:
            indexing.rebuild(chunk)
    return not later


def after_rule_change(tag_names: Iterable[str]) -> bool:
    """Rebuild what a changed alias, implication or deprecation of these tags may touch, after the commit.

    False when a worker does it: to find the posts of a tag, a large site reads every prediction.
    """
    ids = list(Tag.objects.filter(name__in=list(tag_names)).values_list("id", flat=True))
    at_once = len(Post.objects.values("pk")[: AT_ONCE + 1]) <= AT_ONCE
    transaction.on_commit(partial(_rebuild_with_tags, ids, at_once))
    return at_once


def _rebuild_with_tags(tag_ids: Sequence[int], at_once: bool) -> None:
    if at_once or not tagging.send("rebuild_with_tags", *tag_ids):
        indexing.rebuild_with_tags(tag_ids)
