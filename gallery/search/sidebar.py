"""The tags of a page of posts, for beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from gallery.models import CATEGORY_ORDER, Category, Rating, Tag, TagIndex
from gallery.profiles import Thresholds, on
from gallery.search.counts import count_of

PER_CATEGORY = 25


def page_tags(
    post_ids: Iterable[int], thresholds: Thresholds, per_category: int = PER_CATEGORY
) -> dict[Category, list[tuple[Tag, int]]]:
    """Tags that are on for these posts, by category: the page's most frequent, each with its count on the whole site.

    The site's counts come from the histograms; before the first refresh they are the page's own.
    """
    return _by_category(on_frequency(post_ids, thresholds), thresholds, per_category)


def on_frequency(post_ids: Iterable[int], thresholds: Thresholds) -> Counter[int]:
    """On how many of these posts each tag is on, by id; of ratings, each post's one."""
    rows = TagIndex.objects.filter(post_id__in=list(post_ids)).values_list("tag_ids", "confidences", "rating")
    tag_ids = np.array([tag_id for row in rows for tag_id in row[0]], np.int64)
    confidences = np.frombuffer(b"".join(bytes(row[1])[1:] for row in rows), np.uint8)
    known, positions = np.unique(tag_ids, return_inverse=True)
    categories = dict(Tag.objects.filter(id__in=known.tolist()).values_list("id", "category"))
    of_tag = np.array([categories.get(tag_id, Category.GENERAL) for tag_id in known.tolist()], np.int64)
    shown = on(thresholds, tag_ids, confidences, of_tag[positions]) & (of_tag[positions] != Category.RATING)
    frequency = Counter(tag_ids[shown].tolist())
    frequency.update(_ratings(row[2] for row in rows))
    return frequency


def _ratings(ratings: Iterable[int | None]) -> Counter[int]:
    """How often each rating's tag stands on the page."""
    counts = Counter(Rating(rating).tag_name for rating in ratings if rating is not None)
    ids = Tag.objects.filter(name__in=counts, category=Category.RATING).values_list("name", "id")
    return Counter({tag_id: counts[name] for name, tag_id in ids})


def _by_category(
    frequency: Counter[int], thresholds: Thresholds, per_category: int
) -> dict[Category, list[tuple[Tag, int]]]:
    light = Tag.objects.filter(id__in=frequency).values_list("id", "category", "name")
    ranked = sorted(light, key=lambda row: (-frequency[row[0]], row[2]))
    chosen = [row[0] for category in CATEGORY_ORDER for row in [r for r in ranked if r[1] == category][:per_category]]
    rows = Tag.objects.in_bulk(chosen)
    found: dict[Category, list[tuple[Tag, int]]] = {}
    for tag in (rows[tag_id] for tag_id in chosen):
        number = count_of(tag, thresholds) if tag.histogram else frequency[tag.pk]
        found.setdefault(Category(tag.category), []).append((tag, number))
    return found
