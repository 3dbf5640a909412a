"""Posts per tag and confidence byte: the count of one tag at any threshold is one sum of them.

Every write to the tag index leaves what it changed in `tag_change`; twice a minute that is taken into the
histograms. A change row without entries asks for a count of the whole index, in one snapshot of it; very many
changes are counted so, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import psycopg
from django.core.cache import cache
from django.db import OperationalError, connection, transaction

from gallery.models import Tag, TagChange

_LOCK = 0x6D61_6E61  # any number that no other advisory lock of the site uses
_BATCH = 5_000
_MANY_BYTES = 8_000_000  # of changes: counting everything is no dearer, and needs no more memory
_POSTS = "search:posts"
_POSTS_SECONDS = 120


def refresh(force: bool = False) -> bool:
    """Take all changes into the histograms, or count everything anew; False when there was nothing to do."""
    if force:
        TagChange.objects.create()
    changed = False
    with suppress(OperationalError):  # another process was quicker: what it left waits for the next time
        changed = TagChange.objects.exists() and _take()
    _remember_posts(changed)
    return changed


def indexed_posts() -> int | None:
    """How many posts the index held at the last refresh; None when that was long ago."""
    return cache.get(_POSTS)


def _remember_posts(changed: bool) -> None:
    if changed or cache.get(_POSTS) is None:
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from tag_index")
            cache.set(_POSTS, cursor.fetchone()[0], _POSTS_SECONDS)


def _take() -> bool:
    """All changes so far; False when another process is at it."""
    nested = connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if not nested:
            # What is counted and what is left in `tag_change` have to be of one moment.
            cursor.execute("set transaction isolation level repeatable read")
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(
            "select coalesce(bool_or(gone = '{}' and come = '{}'), false),"
            " coalesce(sum(pg_column_size(gone) + pg_column_size(come)), 0) from tag_change"
        )
        asked, size = cursor.fetchone()
        if asked or size > _MANY_BYTES:
            cursor.execute("delete from tag_change")
            _store(*_count_all(), anew=True)
            return True
        cursor.execute("with taken as (delete from tag_change returning gone, come) select gone, come from taken")
        rows = cursor.fetchall()
        gone, come = (np.fromiter((entry for row in rows for entry in row[n]), np.int64) for n in (0, 1))
        _store(*_sums(come, gone))
    return True


def _sums(come: np.ndarray, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the tags among entries (tag id * 256 + byte), and for each of them 256 differences."""
    tag_ids = np.unique(np.concatenate([come, gone]) >> 8)
    counts = np.zeros((len(tag_ids), 256), np.int64)
    for entries, sign in ((come, 1), (gone, -1)):
        np.add.at(counts, (np.searchsorted(tag_ids, entries >> 8), entries & 255), sign)
    return tag_ids, counts


def _count_all() -> tuple[np.ndarray, np.ndarray]:
    """Ids of the tags in use, and for each of them 256 counts of posts."""
    known = np.fromiter(Tag.objects.order_by("id").values_list("id", flat=True), np.int64)
    counts = np.zeros(len(known) * 256, np.int64)
    for tag_ids, lengths, confidences in packed_rows("select tag_ids, confidences from tag_index"):
        del lengths
        places = np.searchsorted(known, tag_ids)
        there = known.take(places, mode="clip") == tag_ids if len(known) else np.zeros(len(tag_ids), bool)
        counts += np.bincount(places[there] * 256 + confidences[there], minlength=len(counts))
    counts = counts.reshape(-1, 256)
    used = counts.any(axis=1)
    return known[used], counts[used]


def packed_rows(query: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`query` selects tag_ids and confidences: arrays of all ids, of each row's length, and of all bytes, by batches.

    The arrays come in the database's binary form: making Python numbers of 84 ids a post takes ten times as long.
    """
    connection.ensure_connection()
    text = f"select array_send(tag_ids), confidences from ({query}) packed"
    with transaction.atomic(), psycopg.ServerCursor(connection.connection, "packed_rows") as cursor:
        cursor.execute(text, binary=True)
        while rows := cursor.fetchmany(_BATCH):
            yield unpacked([row[0] for row in rows], [row[1] for row in rows])


def unpacked(arrays: list[bytes], confidences: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, lengths of rows and bytes, of `array_send(tag_ids)` and `confidences` of some rows."""
    # 20 bytes before the elements, and 4 before each; an empty array has 12 in all.
    bodies = [array[20:] for array in arrays]
    lengths = np.array([len(body) // 8 for body in bodies], np.int64)
    tag_ids = np.frombuffer(b"".join(bodies), ">i4")[1::2].astype(np.int64)
    return tag_ids, lengths, np.frombuffer(b"".join(packed[1:] for packed in confidences), np.uint8)


def _store(tag_ids: np.ndarray, counts: np.ndarray, anew: bool = False) -> None:
    """Add the counts to the tags' histograms, or put them in their place; tags in no post any more have none."""
    with connection.cursor() as cursor:
        if anew:
            cursor.execute(
                "update tag set histogram = null, post_count = 0 where histogram is not null and id <> all(%s)",
                [tag_ids.tolist()],
            )
        for start in range(0, len(tag_ids), 1000):
            ids, part = tag_ids[start : start + 1000], counts[start : start + 1000]
            if not anew:
                part = _added(ids, part)
            cursor.execute(
                "update tag set histogram = case when new.posts > 0 then new.histogram::int[] end,"
                " post_count = new.posts from unnest(%s::int[], %s::text[], %s::int[]) as new (id, histogram, posts)"
                " where tag.id = new.id and tag.histogram is distinct from new.histogram::int[]",
                [
                    ids.tolist(),
                    ["{" + ",".join(map(str, row)) + "}" for row in part.tolist()],
                    part.sum(axis=1).tolist(),
                ],
            )


def _added(tag_ids: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """The stored histograms of these tags, with the differences."""
    rows = Tag.objects.filter(id__in=tag_ids.tolist(), histogram__isnull=False).order_by("id").select_for_update()
    counts = differences.copy()
    for tag_id, histogram in rows.values_list("id", "histogram"):
        counts[np.searchsorted(tag_ids, tag_id)] += histogram
    return np.maximum(counts, 0)
