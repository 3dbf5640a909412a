"""Being the only one at a piece of work: a lock in the database that ends with its session.

A killed worker holds it no longer, so whoever gets it knows that nobody else is at work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, connection


@contextmanager
def held(kind: int, number: int) -> Iterator[bool]:
    """Hold the lock of this kind and number; False when another session does."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s, %s)", [kind, number])
        ours = cursor.fetchone()[0]
    try:
        yield ours
    finally:
        if ours:
            with suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute("select pg_advisory_unlock(%s, %s)", [kind, number])
