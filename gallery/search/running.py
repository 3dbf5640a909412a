"""Statements run the way they were planned, for so long and no longer."""

from __future__ import annotations

from typing import Any

from django.db import DataError, OperationalError, connection, transaction

from gallery.search.errors import SearchTimeout
from gallery.search.orders import stale_cursor
from gallery.search.planner import Way
from gallery.search.values import Sql

_ORDER_INDEX_ONLY = ("enable_sort", "enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin")
# What the database may not do on each way; everything else is its own choice.
FORBIDDEN = {
    Way.SCAN: ("enable_sort",),
    Way.GIN: ("enable_indexscan", "enable_seqscan"),
    Way.ALONG: _ORDER_INDEX_ONLY,
    Way.FREE: (),
}


def run(statement: Sql, way: Way, by_id: bool, timeout: int) -> list[tuple[Any, ...]]:
    """The rows of a statement that may take `timeout` milliseconds; raises SearchTimeout."""
    forbidden = () if way == Way.SCAN and not by_id else FORBIDDEN[way]
    # Compiling expressions costs more than these statements do, and many visitors share the machine.
    values = {"statement_timeout": str(timeout), "jit": "off", "max_parallel_workers_per_gather": "0"}
    values.update(dict.fromkeys(forbidden, "off"))
    try:
        return _nested(statement, values) if connection.in_atomic_block else _alone(statement, values)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != "57014":  # query_canceled
            raise
        raise SearchTimeout(
            f"This search takes longer than {timeout / 1000:g} seconds: add a tag that fewer posts have."
        ) from None
    except DataError:
        raise stale_cursor() from None


def _configured(values: dict[str, str]) -> Sql:
    marks = ", ".join(["set_config(%s, %s, true)"] * len(values))
    return Sql(f"select {marks}", tuple(word for pair in values.items() for word in pair))


def _alone(statement: Sql, values: dict[str, str]) -> list[tuple[Any, ...]]:
    """Settings and statement in one message, which is one transaction: the database is asked once, not four times."""
    first = _configured(values)
    with connection.cursor() as cursor:
        Sql(f"{first.text}; {statement.text}", first.params + statement.params).run(cursor)
        cursor.nextset()
        return cursor.fetchall()


def _nested(statement: Sql, values: dict[str, str]) -> list[tuple[Any, ...]]:
    """The same inside a transaction that goes on: its settings are put back, and a failure does not end it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"select {', '.join(['current_setting(%s)'] * len(values))}", list(values))
        before = dict(zip(values, cursor.fetchone(), strict=True))
        _configured(values).run(cursor)
        statement.run(cursor)
        rows = cursor.fetchall()
        _configured(before).run(cursor)
    return rows
