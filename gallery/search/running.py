"""Statements run the way they were planned, for so long and no longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import DataError, OperationalError, connection, transaction

from gallery.search.errors import SearchTimeout
from gallery.search.orders import stale_cursor
from gallery.search.planner import Way
from gallery.search.values import Sql

_SORTLESS = ("enable_sort", "enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin")
# What the database is told on each way: mostly what it may not do. Everything else is its own choice.
SETTINGS: dict[Way, dict[str, str]] = {
    Way.SCAN: {"enable_sort": "off"},
    # Were pages not free, it would think reading a common tag's list dearer than every row of a partition.
    Way.GIN: {"enable_indexscan": "off", "enable_seqscan": "off", "seq_page_cost": "0", "random_page_cost": "0"},
    Way.ALONG: dict.fromkeys(_SORTLESS, "off"),
    Way.LOTS: {"enable_seqscan": "off"},
    Way.FREE: {},
}
_USUAL = {name: "on" for way in SETTINGS.values() for name in way} | {"seq_page_cost": "1", "random_page_cost": "4"}

# A time that ends just when its statement does is noticed by Postgres with whatever comes next. So that this is never
# another query of the connection's, each message ends with a statement that no time is set for.
_TIMELESS = Sql("select set_config('statement_timeout', '0', true)")
_LAST = Sql("select")

Rows = list[tuple[Any, ...]]


class Planned(NamedTuple):
    """A statement, the way it was planned, and whether it reads by id."""

    statement: Sql
    way: Way
    by_id: bool


def run(planned: Planned, timeout: int) -> Rows:
    """The rows of a statement that may take `timeout` milliseconds; raises SearchTimeout."""
    return run_together([planned], timeout)[0]


def run_together(several: Sequence[Planned], timeout: int) -> list[Rows]:
    """The rows of each of these statements, which may take `timeout` milliseconds each; raises SearchTimeout."""
    try:
        return _nested(several, timeout) if connection.in_atomic_block else _alone(several, timeout)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != "57014":  # query_canceled
            raise
        raise too_long(timeout) from None
    except DataError:
        raise stale_cursor() from None


def too_long(timeout: int) -> SearchTimeout:
    """What to say of a search that takes more than so many milliseconds."""
    return SearchTimeout(f"This search takes longer than {timeout / 1000:g} seconds: add a tag that fewer posts have.")


def _settings(planned: Planned, timeout: int) -> dict[str, str]:
    # Compiling expressions costs more than these statements do, and many visitors share the machine.
    values = {"statement_timeout": str(timeout), "jit": "off", "max_parallel_workers_per_gather": "0"}
    allowed = planned.way == Way.SCAN and not planned.by_id
    return values if allowed else values | SETTINGS[planned.way]


def _configured(values: dict[str, str]) -> Sql:
    marks = ", ".join(["set_config(%s, %s, true)"] * len(values))
    return Sql(f"select {marks}", tuple(word for pair in values.items() for word in pair))


def _alone(several: Sequence[Planned], timeout: int) -> list[Rows]:
    """Settings and statements in one message, which is one transaction: the database is asked once."""
    parts = []
    for planned in several:
        # What one statement was told does not hold for the next.
        again = _USUAL if parts else {}
        parts += [_configured(again | _settings(planned, timeout)), planned.statement]
    with connection.cursor() as cursor:
        _message(*parts, _TIMELESS, _LAST).run(cursor)
        rows = []
        for number in range(len(parts)):
            if number % 2:
                rows.append(cursor.fetchall())
            cursor.nextset()
    return rows


def _message(*parts: Sql) -> Sql:
    return Sql("; ".join(part.text for part in parts), tuple(value for part in parts for value in part.params))


def _nested(several: Sequence[Planned], timeout: int) -> list[Rows]:
    """The same inside a transaction that goes on: its settings are put back, and a failure does not end it."""
    rows = []
    with transaction.atomic(), connection.cursor() as cursor:
        for planned in several:
            values = _settings(planned, timeout)
            cursor.execute(f"select {', '.join(['current_setting(%s)'] * len(values))}", list(values))
            before = dict(zip(values, cursor.fetchone(), strict=True))
            _configured(values).run(cursor)
            _message(planned.statement, _TIMELESS, _configured(before)).run(cursor)
            rows.append(cursor.fetchall())
    return rows
