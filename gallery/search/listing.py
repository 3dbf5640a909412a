"""Pages of a search, its neighbours of a post, and all it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gallery.profiles import Thresholds
from gallery.search.compiler import Query, prepare
from gallery.search.nodes import to_text
from gallery.search.orders import new_seed, read_cursor, stale_cursor, write_cursor
from gallery.search.planner import Way

_BATCH = 1000
_BATCH_TIMEOUT_MS = 60_000


@dataclass
class Page:
    """Post ids in order. `next` goes into `after=` of the next page, `previous` into `before=`.

    `text` is the search as it prints, with the seed of a random order, so that links from the page
    keep its order; `notes` are sentences about what was cut or not found.
    """

    post_ids: list[int]
    next: str | None = None
    previous: str | None = None
    notes: list[str] = field(default_factory=list)
    text: str = ""


def find(
    text: str,
    thresholds: Thresholds,
    *,
    limit: int = 40,
    before: str | None = None,
    after: str | None = None,
    forced: Way | None = None,
) -> Page:
    """One page of what a search finds; raises SearchError.

    `after` is a page's `next` and shows what follows it; `before` is a page's `previous` and shows
    what precedes it. `limit:` in the text beats `limit`.
    """
    cursor = read_cursor(before or after) if before or after else None
    query = prepare(text, thresholds, seed=_seed(cursor), forced=forced)
    if cursor and not _fits(cursor, query):
        raise stale_cursor()
    wanted = query.limit or limit
    rows = query.rows(wanted + 1, cursor and cursor[1], backwards=bool(before))
    more, rows = len(rows) > wanted, rows[:wanted]
    if before:
        rows.reverse()
    page = Page([row[0] for row in rows], notes=query.names.notes, text=_pinned(query))
    if rows and (before or more):
        page.next = write_cursor(query.order, rows[-1])
    if rows and (after or (before and more)):
        page.previous = write_cursor(query.order, rows[0])
    return page


def _seed(cursor: tuple[str, tuple] | None) -> int:
    """The seed of the list that a cursor comes from, else a new one."""
    name, _, seed = (cursor[0] if cursor else "").partition("_")
    return int(seed) if name == "random" and seed.isdecimal() and len(seed) < 10 else new_seed()


def _fits(cursor: tuple[str, tuple], query: Query) -> bool:
    return cursor[0] == query.order.name and len(cursor[1]) == len(query.order.keys) + 1


def _pinned(query: Query) -> str:
    text = to_text(query.tree)
    return text.replace("order:random", f"order:{query.order.name}") if text_is_unpinned(text) else text


def text_is_unpinned(text: str) -> bool:
    return "order:random" in text.split()


def neighbours(text: str, thresholds: Thresholds, post_id: int) -> tuple[int | None, int | None]:
    """The posts before and after this one in the list that the search finds; None at its ends.

    Newest first, these are the newer and the older one. Raises SearchError.
    """
    query = prepare(text, thresholds)
    row = query.row_of(post_id)
    if row is None:
        return None, None
    previous, following = (query.rows(1, row, backwards) for backwards in (True, False))
    return (previous[0][0] if previous else None), (following[0][0] if following else None)


def matching_ids(text: str, thresholds: Thresholds) -> Iterator[int]:
    """Every post that a search finds, in its order, read in batches; raises SearchError."""
    query = prepare(text, thresholds)
    row = None
    while rows := query.rows(_BATCH, row, timeout=_BATCH_TIMEOUT_MS):
        yield from (each[0] for each in rows)
        row = rows[-1]
