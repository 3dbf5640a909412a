"""What pictures are called for people who can't see them, or not yet: their tags, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gallery import profiles
from gallery.index.page_rows import PageRows
from gallery.models import Category

# Who and what first, in the order one would say it.
_SPOKEN = (Category.CHARACTER, Category.COPYRIGHT, Category.GENERAL, Category.ARTIST)
_ALT_TAGS = 15


class Named(Protocol):
    name: str
    category: int


@dataclass(frozen=True)
class Caption:
    """`alt` is read aloud; `title` lists all tags that are on, as one would type them."""

    alt: str
    title: str


def captions(
    post_ids: Iterable[int], thresholds: profiles.Thresholds, rows: PageRows | None = None
) -> dict[int, Caption]:
    """A caption for each of these posts; `rows` are theirs, if they are read already."""
    wanted = list(post_ids)
    shown = (rows or PageRows.read(wanted, thresholds)).shown(thresholds)
    return {pk: caption(pk, shown.get(pk, [])) for pk in wanted}


def caption(post_id: int, tags: Sequence[Named]) -> Caption:
    """The caption of a post on which these tags are on, most confident first."""
    spoken = [tag for category in _SPOKEN for tag in tags if tag.category == category]
    words = ", ".join(tag.name.replace("_", " ") for tag in spoken[:_ALT_TAGS])
    return Caption(alt=f"Post {post_id}: {words}" if words else f"Post {post_id}", title=" ".join(t.name for t in tags))
