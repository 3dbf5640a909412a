"""A sample of posts in memory, which tells the planner what a search will find.

It sees what the database's statistics don't: which tags come together, and which belong to one era.
100,000 posts of 84 tags are about 60 MB a process. Of more than a million posts it holds a tenth, up to 300,000:
searches too dear to count find more there, which keeps their estimates good.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import psycopg
from django.db import DatabaseError, connection, transaction

from gallery.index import partitions
from gallery.index.histograms import unpacked
from gallery.search.fields import SAMPLED
from gallery.search.values import Ranges

SIZE, MOST, ONE_IN = 100_000, 300_000, 10
_BATCH = 10_000  # posts read at a time: all at once would need several times the memory
_SPARSE = 20  # numbers for each post from which on drawing numbers is dearer than reading all rows
STALE_SECONDS = 300
_GROWN = 1.25
_DENSE = 0.1  # part of the posts from which on a tag's bytes lie post by post, too: masks of them cost a fortieth
_ASK_SECONDS = 5.0
SMALL_SITE = 5_000  # up to this newest id every way is quick

logger = logging.getLogger(__name__)


@dataclass
class Sample:
    """`size` posts out of `total`, newest first; the tags lie tag by tag.

    `starts[k]:starts[k + 1]` are the entries of tag `tag_ids[k]` in `rows` (place of the post, ascending) and
    `bytes_` (confidence); `dense` holds those of common tags once more, a byte for each post.
    """

    total: int
    newest: int
    size: int
    tag_ids: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    bytes_: np.ndarray
    ratings: np.ndarray
    columns: dict[str, np.ndarray]
    loaded_at: float

    def __post_init__(self) -> None:
        common = self.tag_ids[np.diff(self.starts) > _DENSE * self.size].tolist()
        self.dense = {tag_id: self._bytes_of(tag_id) for tag_id in common}
        self.ages = -self.columns["id"]  # ascending

    @property
    def scale(self) -> float:
        """Posts that one post of the sample stands for."""
        return self.total / self.size if self.size else 1.0

    @cached_property
    def partitions(self) -> list[int]:
        """Numbers of the index's partitions that hold some of the posts, newest first."""
        return np.unique(self.columns["id"] // partitions.SIZE).astype(int)[::-1].tolist() or [0]

    def _entries(self, tag_id: int) -> slice:
        # In the array's own type: for another, all of it would be converted.
        place = int(np.searchsorted(self.tag_ids, np.int32(tag_id)))
        if place == len(self.tag_ids) or self.tag_ids[place] != tag_id:
            return slice(0, 0)
        return slice(int(self.starts[place]), int(self.starts[place + 1]))

    def _bytes_of(self, tag_id: int) -> np.ndarray:
        """The tag's byte of each post, 0 where it is absent."""
        entries = self._entries(tag_id)
        bytes_ = np.zeros(self.size, np.uint8)
        bytes_[self.rows[entries]] = self.bytes_[entries]
        return bytes_

    def on(self, tag_id: int, byte: int) -> np.ndarray:
        return self.any_on([(tag_id, byte)])

    def any_on(self, tags: Iterable[tuple[int, int]]) -> np.ndarray:
        """Posts on which any of these tags reaches its byte, which is at least 1."""
        found = np.zeros(self.size, bool)
        for tag_id, byte in tags:
            if tag_id in self.dense:
                found |= self.dense[tag_id] >= byte
            else:
                entries = self._entries(tag_id)
                found[self.rows[entries][self.bytes_[entries] >= byte]] = True
        return found

    def count_on(self, tag_id: int, byte: int) -> int:
        """How many posts of the sample `on` would mark."""
        return int(np.count_nonzero(self.bytes_[self._entries(tag_id)] >= byte))

    def within(self, tag_id: int, ranges: Ranges) -> np.ndarray:
        """Posts whose byte of the tag, 0 where it is absent, lies in one of these ranges."""
        bytes_ = self.dense[tag_id] if tag_id in self.dense else self._bytes_of(tag_id)
        return np.logical_or.reduce([each.mask(bytes_) for each in ranges])

    def holding(self, tag_id: int, parts: Sequence[slice]) -> np.ndarray:
        """How many posts of each of these parts of the sample hold the tag at any confidence."""
        ends = np.array([(part.start, part.stop) for part in parts], np.int32)
        return np.diff(np.searchsorted(self.rows[self._entries(tag_id)], ends))[:, 0]

    def posts_with(self, tag_id: int) -> float:
        """About how many posts hold the tag at any confidence."""
        entries = self._entries(tag_id)
        return (entries.stop - entries.start) * self.scale

    def rated(self, ratings: Iterable[int]) -> np.ndarray:
        wanted = np.zeros(256, bool)
        wanted[np.fromiter(ratings, np.int8).view(np.uint8)] = True
        return wanted[self.ratings.view(np.uint8)]

    def column(self, name: str) -> np.ndarray:
        return self.columns[name]


def size_for(total: int) -> int:
    """How many of so many posts are read."""
    return min(MOST, max(SIZE, total // ONE_IN))


def load(size: int | None = None) -> Sample:
    """Read a sample now: every post while there are at most `size`, else as many at random."""
    with connection.cursor() as cursor:
        cursor.execute("select count(*), min(post_id), max(post_id) from tag_index")
        total, oldest, newest = cursor.fetchone()
    some = _some_ids(total, oldest, newest, size or size_for(total))
    columns = ", ".join(SAMPLED.values())
    query = (
        f"select array_send(i.tag_ids), i.confidences, coalesce(i.rating, -1), {columns} from tag_index i"
        " join post p on p.id = i.post_id"
        f"{'' if some is None else ' where i.post_id = any(%s)'} order by i.post_id desc"
    )
    parts: list[_Part] = []
    # In the database's binary form: 84 Python numbers a post would take most of the time, and stop the others.
    with transaction.atomic(), psycopg.ServerCursor(connection.connection, "sampled") as cursor:
        cursor.execute(query, [] if some is None else [some], binary=True)
        while rows := cursor.fetchmany(_BATCH):
            parts.append(_packed(rows, sum(len(part.ratings) for part in parts)))
    return _together(parts, total, newest or 0)


def _some_ids(total: int, oldest: int, newest: int, size: int) -> list[int] | None:
    """Ids that lie evenly, each at random in its stretch, so many that about `size` exist; None when all posts fit."""
    if total <= size:
        return None
    span = newest - oldest + 1
    if span > total * _SPARSE:
        return _some_rows(100 * size / total)
    drawn = int(size * span / total)
    ends = np.arange(drawn + 1) * span // drawn
    within = np.random.default_rng().random(drawn) * np.diff(ends)
    return (oldest + ends[:-1] + within.astype(np.int64)).tolist()


def _some_rows(percent: float) -> list[int]:
    """The ids of so many rows at random: reads all of them, where next to no number is a post's."""
    with connection.cursor() as cursor:
        cursor.execute("select array_agg(post_id) from tag_index tablesample bernoulli (%s)", [percent])
        return cursor.fetchone()[0] or []


class _Part(NamedTuple):
    """Some posts: `entries` are tag id, place of the post and byte in one number each, in no order."""

    entries: np.ndarray
    ratings: np.ndarray
    columns: np.ndarray


def _packed(rows: list[tuple], first: int) -> _Part:
    """Rows of the sample whose places begin at `first`."""
    tags, lengths, confidences = unpacked([row[0] for row in rows], [row[1] for row in rows])
    places = np.repeat(np.arange(first, first + len(rows), dtype=np.int64), lengths)
    columns = np.array([row[3:] for row in rows], np.float64)
    return _Part(tags << 32 | places << 8 | confidences, np.array([row[2] for row in rows], np.int8), columns)


def _together(parts: list[_Part], total: int, newest: int) -> Sample:
    nothing = _Part(np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros((0, len(SAMPLED))))
    entries = np.concatenate([part.entries for part in parts or [nothing]])
    ratings = np.concatenate([part.ratings for part in parts or [nothing]])
    columns = np.concatenate([part.columns for part in parts or [nothing]])
    parts.clear()
    # Whole numbers sort several times as quickly as places do by them.
    entries.sort()
    by_tag, placed = (entries >> 32).astype(np.int32), entries.astype(np.uint32)
    starts = np.flatnonzero(np.diff(by_tag, prepend=np.int32(-1)))
    return Sample(
        total=total,
        newest=newest,
        size=len(ratings),
        tag_ids=by_tag[starts],
        starts=np.append(starts, len(entries)),
        rows=(placed >> 8).astype(np.int32),
        bytes_=placed.astype(np.uint8),
        ratings=ratings,
        columns={name: columns[:, place].copy() for place, name in enumerate(SAMPLED)},
        loaded_at=time.monotonic(),
    )


_current: Sample | None = None
_asked_at = -_ASK_SECONDS
_loading = threading.Lock()


def current() -> Sample | None:
    """The sample of this process, None while the site is small.

    The first one is waited for; later, a stale one serves while a thread reads the next.
    """
    global _current, _asked_at
    now = time.monotonic()
    if now - _asked_at >= _ASK_SECONDS:
        newest = _newest_id()
        if newest <= SMALL_SITE:
            _current = None
        elif _current is None:
            _read_first()
        elif not 1 / _GROWN < newest / _current.newest < _GROWN:
            _read_next()
        _asked_at = now
    if _current and now - _current.loaded_at > STALE_SECONDS * max(1.0, _current.size / SIZE):  # as it takes longer
        _read_next()
    return _current


def forget() -> None:
    """Look at the site anew before the next search."""
    global _current, _asked_at
    _current, _asked_at = None, -_ASK_SECONDS


def warm() -> None:
    """Read the sample in a thread, before anybody searches."""
    threading.Thread(target=_in_background, args=(current,), name="search-sample", daemon=True).start()


def _newest_id() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select max(post_id) from tag_index")
        return cursor.fetchone()[0] or 0


def _read_first() -> None:
    """Every way of searching a large site is chosen from the sample: there is no search without one.

    It is waited for, so a larger one is read behind it.
    """
    global _current
    with _loading:
        if _current is not None:
            return
        _current = load(SIZE)
    if size_for(_current.total) > SIZE:
        _read_next()


def _read_next() -> None:
    """In a thread, unless one is at it."""
    if _loading.acquire(blocking=False):
        threading.Thread(target=_in_background, args=(_replace,), name="search-sample", daemon=True).start()


def _replace() -> None:
    global _current
    try:
        _current = load()
    finally:
        _loading.release()


def _in_background(read: Callable[[], object]) -> None:
    try:
        read()
    except (DatabaseError, psycopg.Error) as error:
        logger.warning("The sample of posts could not be read: %s", str(error).strip())
    finally:
        connection.close()
