"""The tags of a page of posts, for beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from django.db import connection

from gallery.index.page_rows import KnownTag, PageRows, array_text
from gallery.models import CATEGORY_ORDER, Category, Tag
from gallery.profiles import Thresholds

PER_CATEGORY = 25


def page_tags(
    post_ids: Iterable[int], thresholds: Thresholds, per_category: int = PER_CATEGORY, rows: PageRows | None = None
) -> dict[Category, list[tuple[Tag, int]]]:
    """Tags that are on for these posts, by category: the page's most frequent, each with its count on the whole site.

    The site's counts come from the histograms; before the first refresh they are the page's own. `rows` are those
    of the posts, if they are read already.
    """
    wanted = list(post_ids)
    shown = (rows or PageRows.read(wanted, thresholds)).shown(thresholds)
    frequency = Counter(tag for post_id in wanted for tag in shown.get(post_id, ()))
    of: dict[int, list[KnownTag]] = {}
    for tag in sorted(frequency, key=lambda tag: (-frequency[tag], tag.name)):
        of.setdefault(tag.category, []).append(tag)
    chosen = [tag for category in CATEGORY_ORDER for tag in of.get(category, [])[:per_category]]
    counts = _counts(chosen, thresholds)
    found: dict[Category, list[tuple[Tag, int]]] = {}
    for tag in chosen:
        row = Tag(id=tag.id, name=tag.name, category=tag.category)
        found.setdefault(Category(tag.category), []).append((row, counts.get(tag.id, frequency[tag])))
    return found


def on_frequency(post_ids: Iterable[int], thresholds: Thresholds) -> Counter[int]:
    """On how many of these posts each tag is on, by id; of ratings, each post's one."""
    shown = PageRows.read(post_ids, thresholds).shown(thresholds)
    return Counter(tag.id for tags in shown.values() for tag in tags)


def _counts(tags: Sequence[KnownTag], thresholds: Thresholds) -> dict[int, int]:
    """Posts on which each tag is on, by the database: the histograms don't leave it."""
    if not tags:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "select t.id, (select sum(posts) from unnest(t.histogram[w.byte + 1:]) posts)"
            " from unnest(%s::bigint[], %s::int[]) as w (id, byte) join tag t on t.id = w.id"
            " where t.histogram is not null",
            [array_text(tag.id for tag in tags), array_text(thresholds.byte(tag.id, tag.category) for tag in tags)],
        )
        return dict(cursor.fetchall())
