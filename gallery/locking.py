"""Being the only one at a piece of work: locks in the database that end with their session or transaction.

A killed worker holds them no longer, so whoever gets one knows that nobody else is at work.
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


def take_turns(number: int) -> None:
    """Wait until no other transaction holds this number, and hold it until this one ends."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [number])


def take_turns_at_file(sha256: str) -> None:
    """Let those who store this file and those who throw it away take turns, until the transaction ends."""
    take_turns(int.from_bytes(bytes.fromhex(sha256[:16]), signed=True))
