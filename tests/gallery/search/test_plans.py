"""The worst searches known, on 100,000 posts: they find what is right, and read few rows to find it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from gallery import search
from gallery.models import Tag
from gallery.profiles import Thresholds
from gallery.search import sample
from gallery.search.compiler import prepare
from gallery.search.planner import Way
from gallery.search.running import SETTINGS
from tests.benchmarks.collection import array_text, copy_rows

POSTS, PAGE = 100_000, 40
HALF = Thresholds(overall=127)
COMMON = [f"common_{n}" for n in range(20)]  # on 5 % to 60 % of the posts
MID = [f"mid_{n}" for n in range(60)]  # 0.3 %
RARE = [f"rare_{n}" for n in range(20)]  # 0.02 %
ERA = ["era_0", "era_1"]  # half of the posts of one tenth of all, long ago


@dataclass
class Site:
    """`bytes_of[name][post id]` is a tag's byte, 0 where it is absent."""

    bytes_of: dict[str, np.ndarray]
    rating: np.ndarray

    def on(self, name: str) -> np.ndarray:
        return self.bytes_of[name] >= 127

    def every(self, names: list[str]) -> np.ndarray:
        return np.logical_and.reduce([self.on(name) for name in names])

    def some(self, names: list[str]) -> np.ndarray:
        return np.logical_or.reduce([self.on(name) for name in names])


def _bytes(chance: np.random.Generator, name: str, number: int) -> np.ndarray:
    share = {"common": 0.6 / (1 + number * 0.6), "mid": 0.003, "rare": 0.0002, "era": 0.5}[name]
    there = chance.random(POSTS + 1) < share
    if name == "era":
        there &= np.arange(POSTS + 1) * 10 // (POSTS + 1) == number
    there[0] = False
    return np.where(there, chance.integers(100, 255, POSTS + 1), 0).astype(np.uint8)


@pytest.fixture(scope="module")
def site(django_db_setup, django_db_blocker) -> Iterator[Site]:
    with django_db_blocker.unblock(), transaction.atomic():
        names = [*COMMON, *MID, *RARE, *ERA]
        tags = Tag.objects.bulk_create([Tag(name=name, post_count=1000) for name in names])
        chance = np.random.default_rng(4)
        dense = {
            name: _bytes(chance, name.split("_")[0], number)
            for group in (COMMON, MID, RARE, ERA)
            for number, name in enumerate(group)
        }
        rating = chance.integers(0, 4, POSTS + 1)
        _load([tag.id for tag in tags], np.stack(list(dense.values())), rating)
        sample.forget()
        yield Site(dense, rating)
        transaction.set_rollback(True)
    sample.forget()


def _load(ids: list[int], dense: np.ndarray, rating: np.ndarray) -> None:
    """Rows of `dense` are tags, columns posts."""
    posts, tags = np.nonzero(dense.T)
    offsets, confidences = np.searchsorted(posts, np.arange(POSTS + 2)), dense.T[posts, tags]
    tag_ids = np.array(ids)[tags]

    def rows() -> Iterator[tuple[bytes, ...]]:
        for post in range(1, POSTS + 1):
            part = slice(offsets[post], offsets[post + 1])
            packed = b"\0" + confidences[part].tobytes()
            key, rated = struct.pack(">q", post), struct.pack(">h", rating[post])
            yield key, array_text(tag_ids[part]), packed, rated, struct.pack(">q", 0)

    with connection.cursor() as cursor:
        cursor.execute(
            "insert into post (id, md5, sha256, ext, file_size, width, height, animated, file_name, source, credit,"
            " created_at, status, tagging_state, tagging_attempts, tagging_error, priority)"
            " select n, n::text, n::text, 'png', mod(n::bigint * 7919, 99991), 100 + mod(n, 900), 500, false, '', '',"
            " '', now(), 'active', 'tagged', 0, '', 0 from generate_series(1, %s) n",
            [POSTS],
        )
        copy_rows(connection.connection, "tag_index (post_id, tag_ids, confidences, rating, updated_at)", rows())
        cursor.execute("analyze tag_index")


# What each search is called, its text, what it finds, and how many rows it may read.
WORST = {
    "12 negated common tags": (
        " ".join(f"-{name}" for name in COMMON[:12]),
        lambda s: ~s.some(COMMON[:12]),
        20_000,
    ),
    "two exclusive ratings": ("rating:g rating:e", lambda s: s.rating > 9, 0),
    "a tag of an old era": ("era_0 common_3", lambda s: s.every(["era_0", "common_3"]), 7_000),
    "two eras that exclude each other": ("era_0 era_1", lambda s: s.every(ERA), 100),
    "a wildcard for every tag": ("*", lambda s: s.some(sorted([*COMMON, *MID, *RARE, *ERA])[:100]), 200),
    "a wildcard for 60 tags": ("mid_*", lambda s: s.some(MID), 1_000),
    "a wildcard for rare tags": ("rare_* common_0", lambda s: s.some(RARE) & s.on("common_0"), 2_000),
    "deep groups": (
        "((((rare_0 or mid_0) common_1) or mid_1) common_2 or rare_1) -common_0",
        lambda s: (
            ((((s.some(["rare_0", "mid_0"]) & s.on("common_1")) | s.on("mid_1")) & s.on("common_2")) | s.on("rare_1"))
            & ~s.on("common_0")
        ),
        2_500,
    ),
    "8 common tags": (" ".join(COMMON[:8]), lambda s: s.every(COMMON[:8]), 20_000),
    "a common tag in another order": ("common_0 order:filesize", lambda s: s.on("common_0"), 500),
}


@pytest.mark.parametrize("name", WORST)
def test_the_worst_searches_read_few_rows(site: Site, name: str) -> None:
    text, matches, most = WORST[name]
    with CaptureQueriesContext(connection) as captured:
        found = search.find(text, HALF, limit=PAGE)
    ids = np.flatnonzero(matches(site))
    ids = ids[ids > 0][::-1]
    if "order:" in text:
        ids = ids[np.argsort(-(ids * 7919 % 99991), kind="stable")]
    assert found.post_ids == ids[:PAGE].tolist()
    counted = search.count(text, HALF)
    assert counted.number == (len(ids) if counted.exact else pytest.approx(len(ids), rel=0.1))
    statements = [each["sql"] for each in captured if "from tag_index i" in each["sql"]]
    query = prepare(text, HALF)
    ways = [stretch.way for stretch in query.plan(query.walk(PAGE + 1)).stretches]
    assert sum(_rows_read(sql, way) for sql, way in zip(statements, ways, strict=False)) <= most


def _rows_read(statement: str, way: Way) -> float:
    """How many rows of the tag index a statement reads."""
    with transaction.atomic(), connection.cursor() as cursor:
        for name, value in SETTINGS[way].items():
            cursor.execute(f"set local {name} = {value}")
        cursor.execute("explain (analyze, timing off) " + statement)
        lines = [row[0] for row in cursor.fetchall()]
        transaction.set_rollback(True)
    read, on_index = 0.0, False
    for line in lines:
        if found := re.search(r"->|^\w", line.strip()) and re.search(r"actual rows=([\d.]+) loops=(\d+)", line):
            on_index = "on tag_index" in line and "Bitmap Index" not in line
            read += float(found[1]) * int(found[2]) if on_index else 0
        elif on_index and (removed := re.search(r"Rows Removed by (?:Filter|Index Recheck): (\d+)", line)):
            read += int(removed[1])
    return read
