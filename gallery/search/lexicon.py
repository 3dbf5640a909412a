"""All names of tags in memory, for sites whose vocabulary is too large to ask the database at every key.

A tag row carries a histogram, so reading thousands of rows to find the ten most used costs more than a
suggestion may take. Seventy thousand names are about 30 MB a process; counts for the order among them may be
some minutes old, what is shown is read anew. A tag made since is found in the database until the next reading.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from django.db import connection

LARGE = 5_000  # tags from which on names are kept in memory
STALE_SECONDS = 120
_AFTER_ALL = "\U0010ffff"
_LIKE = 0.3  # part of the trigrams that two alike names share, as in Postgres
_P, _Q = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)  # any large odd numbers

Hit = tuple[int, str | None]  # the tag's id, and the alias that led to it


class _Names:
    """Sorted texts, each of which leads to a tag by its place in the lexicon."""

    def __init__(self, pairs: list[tuple[str, int]]) -> None:
        pairs.sort()
        self.texts = [text for text, _ in pairs]
        self.places = np.fromiter((place for _, place in pairs), np.int64, len(pairs))

    def beginning(self, prefix: str) -> range:
        return range(bisect_left(self.texts, prefix), bisect_left(self.texts, prefix + _AFTER_ALL))


@dataclass
class Lexicon:
    """`ids`, `counts`, `categories` of tags by place; `hashes`: all names' trigrams, sorted, each with its `owner`."""

    newest: int
    ids: np.ndarray
    counts: np.ndarray
    categories: np.ndarray
    names: _Names
    words: _Names
    aliases: _Names
    hashes: np.ndarray
    owners: np.ndarray
    sizes: np.ndarray  # trigrams of each name
    loaded_at: float

    def begins(self, word: str, limit: int, category: int | None = None) -> list[Hit]:
        return self._most_used(self.names, word, limit, category)

    def with_word(self, word: str, limit: int, category: int | None = None) -> list[Hit]:
        """Tags in which a later word begins so."""
        return self._most_used(self.words, word, limit, category)

    def with_alias(self, word: str, limit: int, category: int | None = None) -> list[Hit]:
        found = [(self.aliases.texts[at], self.aliases.places[at]) for at in self.aliases.beginning(word)]
        found = [(alias, place) for alias, place in found if category in (None, self.categories[place])]
        found.sort(key=lambda each: -self.counts[each[1]])
        return [(int(self.ids[place]), alias) for alias, place in found[:limit]]

    def alike(self, word: str, limit: int, category: int | None = None) -> list[Hit]:
        """Tags of similar spelling, the most similar first."""
        typed = np.unique(_trigrams([word])[0])
        lows, highs = np.searchsorted(self.hashes, typed), np.searchsorted(self.hashes, typed, "right")
        owners = [self.owners[low:high] for low, high in zip(lows, highs, strict=True)]
        shared = np.bincount(np.concatenate(owners), minlength=len(self.ids)) if owners else np.zeros(len(self.ids))
        likeness = shared / (self.sizes + len(typed) - shared)
        places = self._of(category, np.flatnonzero(likeness >= _LIKE))
        order = np.lexsort((-self.counts[places], -likeness[places]))[:limit]
        return [(int(tag_id), None) for tag_id in self.ids[places[order]]]

    def _most_used(self, names: _Names, word: str, limit: int, category: int | None) -> list[Hit]:
        found = names.beginning(word)
        places = self._of(category, np.unique(names.places[found.start : found.stop]))
        if len(places) > limit:
            places = places[np.argpartition(-self.counts[places], limit)[:limit]]
        order = np.argsort(-self.counts[places], kind="stable")
        return [(int(tag_id), None) for tag_id in self.ids[places[order]]]

    def _of(self, category: int | None, places: np.ndarray) -> np.ndarray:
        """Those places whose tags are of the category, if one is asked for."""
        return places if category is None else places[self.categories[places] == category]


def _trigrams(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of three characters, a name's two blanks before and one behind included; whose each is."""
    codes = np.frombuffer("".join(f"  {name} " for name in names).encode("utf-32-le"), np.uint32).astype(np.uint64)
    owners = np.repeat(np.arange(len(names), dtype=np.int32), [len(name) + 3 for name in names])
    within = owners[:-2] == owners[2:]
    return (codes[:-2] * _P + codes[1:-1] * _Q + codes[2:])[within], owners[:-2][within]


def load() -> Lexicon:
    """Read all names now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select id, name, post_count, category from tag t"
            " where not deprecated and not exists (select from tag_alias a where a.name = t.name)"
        )
        rows = cursor.fetchall()
        cursor.execute("select name, tag_id from tag_alias")
        place_of = {row[0]: place for place, row in enumerate(rows)}
        aliases = [(name, place_of[tag_id]) for name, tag_id in cursor.fetchall() if tag_id in place_of]
        cursor.execute("select coalesce(max(id), 0) from tag")
        newest = cursor.fetchone()[0]
    names = [row[1] for row in rows]
    words = [(name[at + 1 :], place) for place, name in enumerate(names) for at in _breaks(name)]
    hashes, owners = _trigrams(names)
    order = np.argsort(hashes, kind="stable")
    return Lexicon(
        newest=newest,
        ids=np.array([row[0] for row in rows], np.int64),
        counts=np.array([row[2] for row in rows], np.int64),
        categories=np.array([row[3] for row in rows], np.int16),
        names=_Names([(name, place) for place, name in enumerate(names)]),
        words=_Names(words),
        aliases=_Names(aliases),
        hashes=hashes[order],
        owners=owners[order],
        sizes=np.bincount(owners, minlength=len(names)),
        loaded_at=time.monotonic(),
    )


def _breaks(name: str) -> list[int]:
    return [at for at, letter in enumerate(name) if letter == "_"]


_current: Lexicon | None = None
_asked_at = -float(STALE_SECONDS)
_loading = threading.Lock()


def current() -> Lexicon | None:
    """The lexicon of this process, None while the vocabulary is small; a stale one serves until the next is read."""
    global _current, _asked_at
    now = time.monotonic()
    if now - _asked_at >= STALE_SECONDS:
        with _loading:
            _asked_at = now
            if not _is_large():
                _current = None
            elif _current is None:
                _current = load()
    if _current and now - _current.loaded_at > STALE_SECONDS and _loading.acquire(blocking=False):
        threading.Thread(target=_reload, name="search-lexicon", daemon=True).start()
    return _current


def forget() -> None:
    """Look at the vocabulary anew before the next suggestion."""
    global _current, _asked_at
    _current, _asked_at = None, -float(STALE_SECONDS)


def _is_large() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select exists (select from tag offset %s)", [LARGE])
        return cursor.fetchone()[0]


def _reload() -> None:
    global _current
    try:
        _current = load()
    finally:
        _loading.release()
        connection.close()
