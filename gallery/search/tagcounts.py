"""Numbers of tags and verdicts, as SQL; tags are on from a byte that their category or they themselves have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from django.db import connection

from gallery.models import Category
from gallery.profiles import Thresholds
from gallery.search.values import Range, Ranges, Sql, all_sql, any_sql

# How many verdicts people gave on a post, as an expression over `tag_index i`.
VERDICT_COUNT = "(select count(*) from verdict v where v.post_id = i.post_id)"
NO_BYTE = 256  # what no tag reaches
_STALE_SECONDS = 60  # a new category of a tag takes so long to count
# Bytes of tags that one search sends to the database, if more than one term of it wants them: sending a megabyte takes
# a twentieth of a second, which no statement's time limits.
_SENT_MOST = 4 << 20
_SENT = "bytes of tags"


class _Categories(NamedTuple):
    of: np.ndarray  # by tag id, -1 where there is no such tag
    read_at: float


_known = _Categories(np.zeros(0, np.int8), 0.0)


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


def on_count(thresholds: Thresholds, categories: Sequence[Category], most: int | None = None) -> Sql:
    """How many of a post's tags in these categories are on, as an expression over `tag_index i`.

    Of more than `most`, so many: counting stops there.
    """
    counting = _counting(_surpassed(thresholds, categories), most)
    return Sql(f"({counting.text})", counting.params)


def on_count_within(
    thresholds: Thresholds, categories: tuple[Category, ...], ranges: Ranges, known: dict[Any, Any]
) -> Sql:
    """Whether that number lies within one of these ranges of whole numbers; `known` is what the search keeps."""
    counting = _counting_once_more(thresholds, categories, max(1, *map(_told_by, ranges)), known)
    within = any_sql([each.sql("c.number") for each in ranges])
    found = Sql(f"(select {within.text} from ({counting.text}) c)", within.params + counting.params)
    least = min(0 if each.low is None else each.low for each in ranges)
    return all_sql([Sql("cardinality(i.tag_ids) >= %s", (least,)), found]) if least > 0 else found


def _told_by(range_: Range) -> int:
    """How far to count to know whether a number lies within."""
    low = 0 if range_.low is None else range_.low + (not range_.low_in)
    return low if range_.high is None else max(low, range_.high + range_.high_in)


def _counting_once_more(
    thresholds: Thresholds, categories: tuple[Category, ...], most: int, known: dict[Any, Any]
) -> Sql:
    """Counting for one of a search's terms. The bytes of its tags are worked out once, and sent a few times at most."""
    key = ("surpassed", categories, thresholds)
    if key not in known:
        known[key] = _surpassed(thresholds, categories)
    sent = known.get(_SENT, 0)
    if sent and sent + len(known[key]) > _SENT_MOST:
        return _counting_by_looking_up(thresholds, categories, most)
    known[_SENT] = sent + len(known[key])
    return _counting(known[key], most)


def _surpassed(thresholds: Thresholds, categories: Sequence[Category]) -> bytes:
    """The byte that each tag has to surpass, by tag id, and behind the newest what none surpasses."""
    with connection.cursor() as cursor:
        cursor.execute("select coalesce(max(id), 0) from tag")
        least = least_bytes(cursor.fetchone()[0], categories, thresholds)
    return (np.append(least, NO_BYTE) - 1).astype(np.uint8).tobytes()


def _counting(surpassed: bytes, most: int | None) -> Sql:
    # What each tag has to surpass goes along: reading every tag's category would cost ten times as much.
    # Series in a select list are made one by one, so that the limit stops them; in `from`, all would be made first.
    limit = "" if most is None else f" limit {most:d}"
    text = (
        "select count(*) as number from (select from (select unnest(i.tag_ids) as tag_id,"
        " generate_subscripts(i.tag_ids, 1) as place) u where get_byte(i.confidences, u.place)"
        f" > get_byte(%s::bytea, least(u.tag_id, {len(surpassed) - 1:d})){limit}) x"
    )
    return Sql(text, (surpassed,))


def _counting_by_looking_up(thresholds: Thresholds, categories: Sequence[Category], most: int) -> Sql:
    """The same, slower, with nothing but a text."""
    listed = ", ".join(f"{category:d}" for category in categories)
    return Sql(
        "select count(*) as number from (select from unnest(i.tag_ids) with ordinality u (tag_id, place)"
        f" join tag t on t.id = u.tag_id where t.category in ({listed})"
        f" and get_byte(i.confidences, u.place::int) >= {byte_sql(thresholds, categories)} limit {most:d}) x"
    )


def least_bytes(newest: int, categories: Sequence[Category], thresholds: Thresholds) -> np.ndarray:
    """The byte from which each tag of these categories is on, by tag id, up to the newest at least."""
    of = _categories(newest)
    least = np.full(len(of), NO_BYTE, np.int64)
    for category in categories:
        least[of == category] = thresholds.byte(0, category)
    for tag_id, byte in thresholds.by_tag.items():
        if tag_id < len(of) and of[tag_id] in categories:
            least[tag_id] = byte
    return least


def _categories(newest: int) -> np.ndarray:
    global _known
    known, now = _known, time.monotonic()
    if newest >= len(known.of) or now - known.read_at > _STALE_SECONDS:
        with connection.cursor() as cursor:
            # One statement: between two, others may make a tag.
            cursor.execute("select coalesce(max(id), 0), array_agg(id), array_agg(category) from tag")
            last, ids, numbers = cursor.fetchone()
        of = np.full(max(last, newest) + 1, -1, np.int8)
        of[ids or []] = numbers or []
        _known = known = _Categories(of, now)
    return known.of


def tag_count_sql(thresholds: Thresholds) -> str:
    """On how many posts a tag is on, as an expression over `tag t`, as `counts.upper_count` has it."""
    reached = f"(select sum(each) from unnest(t.histogram[({byte_sql(thresholds)}) + 1:]) each)"
    return f"case when t.histogram is null then t.post_count else coalesce({reached}, 0) end"
