"""Pages of a search, its neighbours of a post, and all it finds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from gallery.profiles import Thresholds
from gallery.search.compiler import LONGEST_RUN, Query, prepare, tag_names
from gallery.search.errors import PageError, SearchError
from gallery.search.nodes import Leaf, Metatag, Node, Tag, all_of, rewritten, tag_text, to_text, top
from gallery.search.orders import Cursor, Order, new_seed, order_named, stale_cursor
from gallery.search.parser import parse
from gallery.search.planner import Way
from gallery.search.predicates import Condition
from gallery.search.scopes import Viewer
from gallery.search.values import Sql

MAX_PAGE = 1000  # further pages have no numbers
_BATCH = 1000
_BATCH_TIMEOUT_MS = 60_000


@dataclass
class Page:
    """Post ids in order. `next` and `previous` are cursors of the pages that follow and precede.

    `text` is the search as it prints, with the seed of what is left to chance, so that links from the page
    keep its posts and their order; `size` posts are on a full page; `notes` are sentences about what was cut
    or not found.
    `thresholds` are those that the search was read with, and `corrected` is the search with misspelt
    names put right, if there are any. `by_id` says that posts come newest first.
    """

    post_ids: list[int]
    size: int
    thresholds: Thresholds
    next: str | None = None
    previous: str | None = None
    notes: list[str] = field(default_factory=list)
    text: str = ""
    corrected: str = ""
    by_id: bool = True
    query: Query | None = field(default=None, repr=False, compare=False)
    whole: bool = False  # nothing precedes or follows
    took_ms: float = field(default=0.0, compare=False)


def find(
    text: str,
    thresholds: Thresholds,
    *,
    limit: int = 40,
    before: str | None = None,
    after: str | None = None,
    page: int = 1,
    viewer: Viewer = None,
    forced: Way | None = None,
) -> Page:
    """One page of what a search finds; raises SearchError.

    `before` and `after` take a page's `next` or `previous`; which way it leads is in the cursor.
    Without them it is the page of that number, up to `MAX_PAGE`. `limit:` in the text beats `limit`.
    """
    began = time.monotonic()
    cursor = Cursor.read(before or after or "") if before or after else None
    query = prepare(text, thresholds, viewer=viewer, seed=_seed(cursor), forced=forced)
    if cursor and not cursor.fits(query.order):
        raise stale_cursor()
    if cursor is None and not 1 <= page <= MAX_PAGE:
        raise PageError(
            f"Pages have numbers from 1 to {MAX_PAGE:,}: go on from the last of them, or narrow the search."
        )
    wanted = query.limit or limit
    if query.picked:
        return _picked(query, wanted, cursor, page)
    backwards = cursor is not None and cursor.backwards
    skipped = 0 if cursor else (page - 1) * wanted
    rows = query.rows(wanted + 1, cursor and cursor.row, backwards, skipped=skipped)
    more, rows = len(rows) > wanted, rows[:wanted]
    if backwards:
        rows.reverse()
    found = _page(query, rows, wanted)
    found.whole = not (cursor or skipped or more)
    if rows and (backwards or more):
        found.next = str(Cursor(query.order.name, False, rows[-1]))
    if rows and (skipped or (cursor and (more or not backwards))):
        found.previous = str(Cursor(query.order.name, True, rows[0]))
    found.took_ms = (time.monotonic() - began) * 1000
    return found


def _picked(query: Query, wanted: int, cursor: Cursor | None, page: int) -> Page:
    """So many posts by chance, in the order that is asked for; there are no further pages of them."""
    if cursor:
        raise stale_cursor()
    asked = query
    if query.order.seed is None:
        shuffled = replace(query, order=order_named("random", query.thresholds, seed=query.seed))
        chosen = tuple(row[0] for row in shuffled.rows(wanted))
        asked = replace(query, predicate=Condition(Sql("i.post_id = any(%s)", (chosen,)), selective=True))
    found = _page(query, asked.rows(wanted) if page == 1 else [], wanted)
    found.whole = True
    return found


def _page(query: Query, rows: list[tuple[Any, ...]], size: int) -> Page:
    return Page(
        [row[0] for row in rows],
        size=size,
        thresholds=query.thresholds,
        notes=query.names.notes,
        text=_pinned(query),
        corrected=_corrected(query),
        by_id=query.order.newest_first,
        query=query,
    )


def beside(post_id: int, newer: bool) -> str:
    """The cursor of the page next to a post, newest first: Danbooru's page=b123 and page=a123."""
    return str(Cursor(order_named(None, Thresholds(1)).name, newer, (post_id,)))


def _seed(cursor: Cursor | None) -> int:
    """The seed of the list that a cursor comes from, else a new one."""
    return new_seed() if cursor is None or cursor.seed is None else cursor.seed


def _pinned(query: Query) -> str:
    """The text of a query, nothing of it left to chance."""
    order = Metatag("order", query.order.name)
    pinned = [order if _of_chance(node) else node for node in top(query.tree)]
    said = {node.name for node in pinned if isinstance(node, Metatag)}
    if query.picked and query.order.seed is None and "randseed" not in said:
        pinned.append(Metatag("randseed", str(query.seed)))
    if query.order.seed is not None and "order" not in said:
        pinned.append(order)
    return to_text(all_of(pinned))


def _of_chance(node: Node) -> bool:
    return isinstance(node, Metatag) and node.name == "order" and node.value.lower() == "random"


def _corrected(query: Query) -> str:
    """The search with the names that were probably meant; nothing when all names are known."""
    near = query.names.near
    tree = all_of(_joined(top(query.tree), query.names.apart))

    def change(leaf: Leaf) -> Node:
        if isinstance(leaf, Tag) and leaf.name in near:
            return parse(near[leaf.name] if ":" in leaf.name else tag_text(near[leaf.name]))
        for name in tag_names(leaf) if isinstance(leaf, Metatag) else ():
            if name in near:
                return Metatag(leaf.name, near[name] + leaf.value[len(name) :])
        return leaf

    try:
        return to_text(rewritten(tree, change)) if near else ""
    except SearchError:
        return ""


def _joined(terms: tuple[Node, ...], apart: dict[tuple[str, ...], str]) -> Iterator[Node]:
    """The terms, with a tag for the words that it was written apart in."""
    at = 0
    while at < len(terms):
        names = tuple(term.name if isinstance(term, Tag) else "" for term in terms[at : at + LONGEST_RUN])
        run = next((names[:size] for size in range(len(names), 1, -1) if names[:size] in apart), None)
        yield Tag(apart[run]) if run else terms[at]
        at += len(run or " ")


class Neighbours(NamedTuple):
    """The posts before and after one in a list, None at its ends: with `by_id`, the newer and the older one."""

    before: int | None
    after: int | None
    by_id: bool


def neighbours(text: str, thresholds: Thresholds, post_id: int, *, viewer: Viewer = None) -> Neighbours:
    """What stands beside a post in the list that the search finds. Raises SearchError."""
    query = prepare(text, thresholds, viewer=viewer)
    before = after = None
    if query.picked:
        picked = [None, *_picked(query, query.limit or 1, None, 1).post_ids, None]
        if post_id in picked:
            place = picked.index(post_id)
            before, after = picked[place - 1], picked[place + 1]
    elif row := query.row_of(post_id):
        before, after = query.beside(row)
    return Neighbours(before, after, query.order.newest_first)


def matching_ids(text: str, thresholds: Thresholds, *, viewer: Viewer = None, in_order: bool = True) -> Iterator[int]:
    """Every post that a search finds, in its order or, which costs less, newest first; in batches.

    Of `random:5` these are five; `limit:` only says how many a page shows. Raises SearchError.
    """
    query = prepare(text, thresholds, viewer=viewer, seed=new_seed())
    if query.picked:
        yield from _picked(query, query.limit or 1, None, 1).post_ids
        return
    if not in_order:
        query.order = Order("newest")
    row, query.whole = None, True
    while rows := query.rows(_BATCH, row, timeout=_BATCH_TIMEOUT_MS):
        yield from (each[0] for each in rows)
        row = rows[-1]
