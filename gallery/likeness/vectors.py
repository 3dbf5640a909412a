"""Search by pgvector, where the server has it: a graph (HNSW) over half-precision copies of a large release's features.

The table lies outside the migrations, because many servers lack the extension; it is made of `feature` and can be
dropped at any time. A task keeps it in step; what it hasn't got yet is compared exactly.
"""

from __future__ import annotations

import time
from functools import cache as remembered

import numpy as np
from django.db import DatabaseError, connection, transaction
from psycopg.types.numeric import Int8

from gallery.likeness import matrix
from gallery.likeness.features import unpack
from gallery.models import Feature

LEAST = 100_000  # features of a release from which the graph is worth its space: below, exact search is quick
_BATCH = 2_000
_TAIL = 20_000  # features compared exactly beside the graph
_LOCK = 0x6C_69_6B_65  # one process at a time; any number that no other advisory lock of the site uses
_LOOK_AT = 200  # candidates that the graph's search keeps: recall against time

_TABLE = """
create table if not exists feature_vector (
    feature_id bigint primary key references feature (id) on delete cascade,
    post_id bigint not null,
    release_id bigint not null,
    direction halfvec not null
);
alter table feature_vector alter direction set storage plain
"""


def prepare() -> bool:
    """Make the extension and the table where the server allows it; whether they are there."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("select from pg_available_extensions where name = 'vector'")
            if cursor.fetchone() is None:
                return False
            cursor.execute("create extension if not exists vector")
            cursor.execute(_TABLE)
    except DatabaseError:  # only an owner of the database may make an extension
        return False
    available.cache_clear()
    return True


@remembered
def available() -> bool:
    """Whether this database has the table; a process asks once."""
    with connection.cursor() as cursor:
        cursor.execute("select to_regclass('feature_vector') is not null")
        return cursor.fetchone()[0]


def has_graph(release_id: int) -> bool:
    if not available():
        return False
    with connection.cursor() as cursor:
        cursor.execute("select to_regclass(%s) is not null", [_index(release_id)])
        return cursor.fetchone()[0]


def nearest(release_id: int, direction: np.ndarray, most: int) -> list[tuple[int, float]]:
    """As `matrix.nearest`; of the older features nearly all of the nearest are found."""
    width, text = len(direction), "[" + ",".join(f"{number:.6g}" for number in direction) + "]"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("set local hnsw.ef_search = %s", [min(1000, max(_LOOK_AT, most))])
        cursor.execute(
            f"select post_id, 1 - (direction::halfvec({width}) <=> %s::halfvec({width})) from feature_vector"
            f" where release_id = %s order by direction::halfvec({width}) <=> %s::halfvec({width}) limit %s",
            [text, release_id, text, most],
        )
        found = cursor.fetchall()
    found += _tail(release_id, direction)
    return sorted(found, key=lambda each: -each[1])[:most]


def catch_up(release_id: int, seconds: float = 20) -> bool:
    """Copy features that came since, and make the graph when all are there; whether nothing is left to do."""
    if not available() or not Feature.objects.filter(release_id=release_id)[LEAST - 1 : LEAST].exists():
        return True
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [_LOCK])
        return cursor.fetchone()[0] and _catch_up(release_id, seconds)


def _catch_up(release_id: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while rows := _missing(release_id, _BATCH):
        _copy(release_id, rows)
        if time.monotonic() > deadline:
            return False
    if not has_graph(release_id):
        _make_graph(release_id, len(_some_codes(release_id)))
    return True


def forget(release_id: int) -> None:
    """The release is gone; its rows went with its features."""
    if available():
        with connection.cursor() as cursor:
            cursor.execute(f"drop index if exists {_index(release_id)}")


def _index(release_id: int) -> str:
    return f"feature_vector_{int(release_id)}"


def _missing(release_id: int, most: int) -> list[tuple[int, int, bytes]]:
    """Features without a copy, oldest first; numbers are given before they are committed, so look back a little."""
    with connection.cursor() as cursor:
        cursor.execute("select coalesce(max(feature_id), 0) from feature_vector where release_id = %s", [release_id])
        after = cursor.fetchone()[0] - matrix.OVERLAP
        cursor.execute(
            "select f.id, f.post_id, f.codes from feature f where f.release_id = %s and f.id > %s and f.codes <> ''"
            " and not exists (select from feature_vector v where v.feature_id = f.id) order by f.id limit %s",
            [release_id, after, most],
        )
        return cursor.fetchall()


def _copy(release_id: int, rows: list[tuple[int, int, bytes]]) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "copy feature_vector (feature_id, post_id, release_id, direction) from stdin (format binary)"
        ) as copy,
    ):
        for row_id, post_id, codes in rows:
            copy.write_row([Int8(row_id), Int8(post_id), Int8(release_id), _as_halfvec(unpack(codes))])


def _as_halfvec(direction: np.ndarray) -> bytes:
    """pgvector's own binary form: the number of dimensions, two spare bytes, half floats, big end first."""
    return len(direction).to_bytes(2, "big") + b"\0\0" + direction.astype(">f2").tobytes()


def _some_codes(release_id: int) -> bytes:
    row = Feature.objects.filter(release_id=release_id).exclude(codes=b"").only("codes").first()
    return bytes(row.codes) if row else b""


def _make_graph(release_id: int, width: int) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("set local maintenance_work_mem = '512MB'")
        cursor.execute(
            f"create index {_index(release_id)} on feature_vector"
            f" using hnsw ((direction::halfvec({width})) halfvec_cosine_ops) where release_id = {int(release_id)}"
        )


def _tail(release_id: int, direction: np.ndarray) -> list[tuple[int, float]]:
    rows = _missing(release_id, _TAIL)
    return [(post_id, float(unpack(codes) @ direction)) for _, post_id, codes in rows if len(codes) == len(direction)]
