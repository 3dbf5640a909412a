"""Exact search: all features of a release in one memory-mapped file, compared with each in turn.

A file per release under DATA_DIR/likeness, records of post, row and codes one after the other, which all processes
of a machine share through the system's page cache. Rows are only ever added, so whoever searches first adds those
that came since. It can be deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from django.conf import settings
from django.db import connection

_BLOCK = 128  # rows compared at once: what the processor's cache holds as float32
_READ = 20_000  # rows added by one search at most: others get theirs from the next
OVERLAP = 5_000  # rows are numbered before they are committed, so that a lower number may come later


def record(width: int) -> np.dtype:
    return np.dtype([("id", "<i8"), ("post", "<i8"), ("length", "<f4"), ("codes", "i1", (width,))])


def nearest(release_id: int, direction: np.ndarray, most: int) -> list[tuple[int, float]]:
    """Posts and their cosines to this direction, the nearest first; deleted posts are among them."""
    rows = refresh(release_id, len(direction))
    if not len(rows):
        return []
    cosines = compare(rows, direction)
    best = np.argpartition(-cosines, min(most, len(rows) - 1))[:most]
    best = best[np.argsort(-cosines[best], kind="stable")]
    return list(zip(rows["post"][best].tolist(), cosines[best].tolist(), strict=True))


def compare(rows: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The cosine of each row's feature and this direction, float32."""
    cosines, codes = np.empty(len(rows), np.float32), rows["codes"]
    block = np.empty((min(_BLOCK, len(rows)), len(direction)), np.float32)
    for start in range(0, len(rows), _BLOCK):
        part = codes[start : start + _BLOCK]
        floats = block[: len(part)]
        floats[...] = part
        # Row by row: a product of the whole block would wake the library's threads, which on busy cores wait for each
        # other a hundred times as long as the work takes.
        np.vecdot(floats, direction, out=cosines[start : start + len(part)])
    return cosines / rows["length"]


def refresh(release_id: int, width: int) -> np.ndarray:
    """The file's rows, after adding what the table has more."""
    path = settings.DATA_DIR / "likeness" / f"{release_id}-{width}.codes"
    kind = record(width)
    with _alone(path):
        size = path.stat().st_size // kind.itemsize * kind.itemsize if path.exists() else 0
        rows = _mapped(path, kind, size)
        newest = int(rows["id"][-OVERLAP:].max(initial=0)) if len(rows) else 0
        if newest and not _is_there(newest):  # the table is another one than it was
            rows, size, newest = rows[:0], 0, 0
        known = set(rows["id"][-2 * OVERLAP :].tolist())
        added = _read(release_id, width, newest - OVERLAP, known)
        if len(added):
            _append(path, added, size)
            rows = _mapped(path, kind, size + added.nbytes)
    return rows


def forget(release_id: int) -> None:
    """The release is gone: so is its file."""
    for path in (settings.DATA_DIR / "likeness").glob(f"{release_id}-*"):
        path.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _mapped(path: Path, kind: np.dtype, size: int) -> np.ndarray:
    if not size:
        return np.empty(0, kind)
    return np.memmap(path, kind, "r", shape=(size // kind.itemsize,))


def _append(path: Path, added: np.ndarray, size: int) -> None:
    """Behind what is whole. An empty file begins as a new one: others may still read the one that it replaces."""
    if size:
        with path.open("r+b") as file:
            file.truncate(size)
            file.seek(size)
            file.write(added.tobytes())
        return
    beginning = path.with_suffix(".new")
    beginning.write_bytes(added.tobytes())
    beginning.replace(path)


def _is_there(row_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select from feature where id = %s", [row_id])
        return cursor.fetchone() is not None


def _read(release_id: int, width: int, after: int, known: set[int]) -> np.ndarray:
    """Rows of the table that the file hasn't, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select id from feature where release_id = %s and id > %s order by id limit %s",
            [release_id, after, _READ + 2 * OVERLAP],
        )
        wanted = [row_id for (row_id,) in cursor.fetchall() if row_id not in known][:_READ]
        cursor.execute(
            "select id, post_id, codes from feature where id = any(%s) and length(codes) = %s order by id",
            [wanted, width],
        )
        found = cursor.fetchall() if wanted else []
    rows = np.empty(len(found), record(width))
    if found:
        rows["id"] = [row[0] for row in found]
        rows["post"] = [row[1] for row in found]
        rows["codes"] = np.frombuffer(b"".join(bytes(row[2]) for row in found), np.int8).reshape(-1, width)
        rows["length"] = np.linalg.norm(rows["codes"].astype(np.float32), axis=1)
    return rows
