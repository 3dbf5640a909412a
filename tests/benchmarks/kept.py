"""A made collection to measure on, which may be kept: making a million posts takes minutes, copying them seconds.

Every benchmark with `--posts` takes `--keep FOLDER`, too (`make bench-search POSTS=1000000 KEEP=folder`). The first
run makes the collection there, as the database `made` and a pickle of the same rows in numpy; each run works on a
fresh copy of it, migrated to the code of now, so that what it writes meets nobody. One run at a time holds the folder.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.benchmarks import stage
from tests.benchmarks.collection import Collection, fill

_ROWS = "collection.pickle"


def add_options(parser: argparse.ArgumentParser, posts: int) -> None:
    """`--posts` and `--keep`."""
    parser.add_argument("--posts", type=int, default=posts)
    parser.add_argument("--keep", type=Path, help="a folder where the collection is kept for other runs")


def start(posts: int, keep: Path | None) -> tuple[Path, Collection]:
    """Servers, Django and a made collection of so many posts; the folder they are in, and the rows."""
    began = time.perf_counter()
    if keep and (keep / _ROWS).exists():
        collection = pickle.loads((keep / _ROWS).read_bytes())
        if collection.posts != posts:
            raise SystemExit(f"{keep} holds {collection.posts:,} posts: ask for as many, or name another folder.")
        folder = stage.start_django(keep, before=lambda url: _copy_database(url, "made", "manabooru"))
        print(f"copied {posts:,} posts in {time.perf_counter() - began:.0f} s", flush=True)
        return folder, collection
    folder = stage.start_django(keep, before=lambda url: _copy_database(url, "template0", "manabooru"))
    collection = _make(posts)
    if keep:
        _keep(keep, collection)
    print(f"made {posts:,} posts in {time.perf_counter() - began:.0f} s", flush=True)
    return folder, collection


def _make(posts: int) -> Collection:
    from django.conf import settings

    with psycopg.connect(settings.DATABASE_URL) as filling:
        collection = fill(filling, posts)
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as vacuuming:
        vacuuming.execute("vacuum (analyze)")
    return collection


def _keep(folder: Path, collection: Collection) -> None:
    """The database under another name and, when that is done, the rows."""
    from django.conf import settings
    from django.db import connection

    connection.close()
    connection.close_pool()
    _copy_database(settings.DATABASE_URL, "manabooru", "made")
    unfinished = folder / f"{_ROWS}.new"
    unfinished.write_bytes(pickle.dumps(collection, protocol=5))
    unfinished.replace(folder / _ROWS)


def _copy_database(url: str, source: str, target: str) -> None:
    with _maintenance(url) as connection:
        connection.execute(f"drop database if exists {target} with (force)")
        # By files: through the log, a copy would be written twice.
        connection.execute(f"create database {target} template {source} strategy file_copy")


@contextmanager
def _maintenance(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        yield connection
