"""Pages in other orders at size: the first page and the one behind it, of everything and of common to rare tags."""

from __future__ import annotations

from typing import Any

from tests.benchmarks import stage
from tests.benchmarks.collection import Collection
from tests.benchmarks.peers import PAGE
from tests.benchmarks.queries import Query, Reference

ORDERS = ("random_5", "random_77", "change", "change_asc", "filesize", "tagcount", "gentags_asc", "children")
RANKS = (0, 3, 20, 60, 300, 1_500, 9_000)  # of the general tags that are searched for
_SHUFFLED = "hashint8extended(id & 4095, {0}), hashint8extended(id, {0})"


def run(collection: Collection, reference: Reference, thresholds: Any, pid: int) -> None:
    """CPU of pages by order; those whose order numpy knows, or the database's hash, are checked."""
    rows = []
    for order in ORDERS:
        times, wrong = [], 0
        for tag in (None, *(int(collection.world.general[rank]) + 1 for rank in RANKS)):
            found, meters = _pages(collection, order, tag, thresholds, pid)
            expected = _expected(reference, collection, order, tag, thresholds)
            wrong += expected is not None and found != expected
            times += meters
        rows.append([order, len(times), *stage.percentiles(times), wrong])
    stage.table("pages in other orders, cpu ms", ("order", "pages", "p50", "p95", "max", "wrong"), rows)


def _pages(
    collection: Collection, order: str, tag: int | None, thresholds: Any, pid: int
) -> tuple[list[int], list[float]]:
    """The ids of the first two pages, and what each cost."""
    from gallery import search

    text = f"{collection.world.names[tag - 1] if tag else ''} order:{order}".strip()
    found, times, cursor = [], [], None
    for _ in range(2):
        meter = stage.Meter(pid)
        with meter.measure():
            page = search.find(text, thresholds, limit=PAGE, after=cursor)
        found += page.post_ids
        times.append(meter.cpu_ms)
        cursor = page.next
        if cursor is None:
            break
    return found, times


def _expected(
    reference: Reference, collection: Collection, order: str, tag: int | None, thresholds: Any
) -> list[int] | None:
    """The ids of the first two pages; None where only the order itself could tell."""
    from django.db import connection

    byte = thresholds.byte(tag, int(collection.world.categories[tag - 1])) if tag else 0
    tree = ("tag", tag) if tag else ("and",)
    every = range(collection.posts, 0, -1)
    by_size = " order:filesize" if order == "filesize" else ""
    ids = list(reference.matching(Query("", tree, by_size), lambda _: byte).tolist() if tag else every)
    if order.startswith("random"):
        with connection.cursor() as cursor:
            by = _SHUFFLED.format(order.partition("_")[2])
            cursor.execute(f"select id from unnest(%s::bigint[]) id order by {by}, id limit %s", [ids, 2 * PAGE])
            return [row[0] for row in cursor.fetchall()]
    # Posts were made in the order of their ids, and none has children.
    if order in ("change", "change_asc", "children") or (by_size and tag):
        return (ids[::-1] if order.endswith("_asc") else ids)[: 2 * PAGE]
    return None
