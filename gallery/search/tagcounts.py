from __future__ import annotations

from collections.abc import Sequence

from gallery.models import Category
from gallery.profiles import Thresholds

# How many verdicts people gave on a post, as an expression over `tag_index i`.
VERDICT_COUNT = "(select count(*) from verdict v where v.post_id = i.post_id)"


def byte_sql(thresholds: Thresholds, categories: Sequence[Category] = tuple(Category)) -> str:
    """The least byte at which a tag of these categories is on, as an expression over `tag t`.

    Bytes and ids are whole numbers of our own and stand in the text, which a list is sorted by, too.
    """
    of_category = " ".join(f"when {category:d} then {thresholds.byte(0, category):d}" for category in categories)
    byte = f"case t.category {of_category} end"
    if thresholds.by_tag:
        of_tag = " ".join(f"when {tag_id:d} then {least:d}" for tag_id, least in thresholds.by_tag.items())
        byte = f"case t.id {of_tag} else {byte} end"
    return byte


def on_count_sql(thresholds: Thresholds, categories: Sequence[Category]) -> str:
    """How many of a post's tags in these categories are on, as an expression over `tag_index i`."""
    listed = ", ".join(f"{category:d}" for category in categories)
    least = byte_sql(thresholds, categories)
    return (
        "(select count(*) from unnest(i.tag_ids) with ordinality u(tag_id, place) join tag t on t.id = u.tag_id"
        f" where t.category in ({listed}) and get_byte(i.confidences, u.place::int) >= {least})"
    )


def tag_count_sql(thresholds: Thresholds) -> str:
    """On how many posts a tag is on, as an expression over `tag t`, as `counts.upper_count` has it."""
    reached = f"(select sum(each) from unnest(t.histogram[({byte_sql(thresholds)}) + 1:]) each)"
    return f"case when t.histogram is null then t.post_count else coalesce({reached}, 0) end"
