"""Likeness at size: `python -m tests.benchmarks.likeness --posts 100000` (`make bench-likeness`).

Made posts with made features (clusters of a thousand, 1,280 numbers from zero up, as pooled activations are) and
random perceptual hashes, straight into the tables. Times whole searches: look-alikes exactly and, with `--graph`, by
pgvector; near copies by the index of hash bands and by reading all rows. First, on the seed gallery's real features:
what whole numbers from -127 to 127 lose of the ten nearest against half precision. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks import stage

ROOT = Path(__file__).resolve().parent.parent.parent
SEED = ROOT / "gallery/seed"
STARTER = ROOT / "tagger/releases/starter"
WIDTH = 1280
CLUSTER = 1000
BATCH = 10_000


def seed_features() -> np.ndarray:
    """float16 [pictures, 1280] of the seed gallery, by the starter."""
    from tagger.inference import Predictor

    predictor = Predictor(STARTER, "cpu", threads=1)
    rows = json.loads((SEED / "seed.json").read_text(encoding="utf-8"))["pictures"]
    images = [Image.open(SEED / row["file"]) for row in rows]
    return np.stack([found.feature for found in predictor.predict(images)])


def ten_nearest(directions: np.ndarray) -> np.ndarray:
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :10]


def shared(ones: np.ndarray, others: np.ndarray) -> float:
    """Recall: which part of the one's ten are among the other's ten."""
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(ones, others, strict=True)]))


def quantised() -> dict[str, float]:
    from gallery.likeness.features import pack, unpack

    half = seed_features()
    exact = half.astype(np.float32)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    packed = np.stack([unpack(pack(row)) for row in half])
    return {
        "pictures": len(half),
        "bytes_half": WIDTH * 2,
        "bytes_packed": len(pack(half[0])),
        "recall_at_10": round(shared(ten_nearest(exact), ten_nearest(packed)), 4),
    }


def made_features(rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    """int8 [<=BATCH, WIDTH] at a time, in clusters."""
    for start in range(0, count, BATCH):
        rows = min(BATCH, count - start)
        centres = rng.standard_normal((-(-rows // CLUSTER), WIDTH)).astype(np.float32)
        some = np.repeat(centres, CLUSTER, axis=0)[:rows] + 0.8 * rng.standard_normal((rows, WIDTH)).astype(np.float32)
        some = np.maximum(some, 0)
        yield np.rint(some * (127 / some.max(axis=1, keepdims=True))).astype(np.int8)


def fill(count: int) -> int:
    """Posts, a release, features; returns the release's number."""
    from django.db import connection
    from psycopg.types.numeric import Int8

    from gallery.models import Release

    release = Release.objects.create(name="made", title="made", folder="", config={}, tag_ids=[], active=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into post (id, md5, sha256, ext, file_size, width, height, animated, perceptual_hash, file_name,"
            " source, credit, created_at, status, tagging_state, tagging_attempts, tagging_error, priority)"
            " select n, md5(n::text), encode(sha256(n::text::bytea), 'hex'), 'jpg', 1, 800, 600, false,"
            " hashtextextended(n::text, 7), '', repeat('s', 60), '', now(), 'active', 'tagged', 0, '', 0"
            " from generate_series(1, %s) n",
            [count],
        )
        post_id, rng = 0, np.random.default_rng(1)
        for block in made_features(rng, count):
            with cursor.copy("copy feature (post_id, release_id, codes) from stdin (format binary)") as copy:
                for codes in block:
                    post_id += 1
                    copy.write_row([Int8(post_id), Int8(release.pk), codes.tobytes()])
        cursor.execute("vacuum analyze post")
        cursor.execute("vacuum analyze feature")
    return release.pk


def timed(search: Callable[[int], object], numbers: list[int]) -> tuple[float, float]:
    """Milliseconds of wall time, p50 and p95, after one search that is not counted."""
    search(numbers[0])
    spent = []
    for number in numbers:
        began = time.perf_counter()
        search(number)
        spent.append((time.perf_counter() - began) * 1000)
    p50, p95, _ = stage.percentiles(spent)
    return round(p50, 1), round(p95, 1)


def size(relation: str) -> float:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("select pg_relation_size(%s) / 1e6", [relation])
        return round(float(cursor.fetchone()[0]), 1)


def exact(release_id: int, numbers: list[int]) -> tuple[dict[str, float], np.ndarray]:
    from django.conf import settings

    from gallery.likeness import matrix, search
    from gallery.models import Post

    began, before = time.perf_counter(), -1
    while (rows := len(matrix.refresh(release_id, WIDTH))) > before:
        before = rows
    filled = time.perf_counter() - began
    posts = Post.objects.in_bulk(numbers)
    p50, p95 = timed(lambda number: search.of_post(posts[number], 40), numbers)
    file = next((settings.DATA_DIR / "likeness").glob("*.codes"))
    found = {"p50_ms": p50, "p95_ms": p95, "file_mb": round(file.stat().st_size / 1e6), "filled_s": round(filled, 1)}
    return found, nearest(posts, numbers)


def nearest(posts: dict, numbers: list[int]) -> np.ndarray:
    from gallery.likeness import search

    return np.array([[each.post_id for each in search.of_post(posts[number], 10)] for number in numbers])


def graph(release_id: int, numbers: list[int], truth: np.ndarray) -> dict[str, float]:
    from gallery.likeness import search, vectors
    from gallery.models import Post

    vectors.LEAST = 1
    if not vectors.prepare():
        raise SystemExit("This Postgres has no pgvector.")
    began = time.perf_counter()
    while not vectors.catch_up(release_id):
        pass
    built = time.perf_counter() - began
    posts = Post.objects.in_bulk(numbers)
    p50, p95 = timed(lambda number: search.of_post(posts[number], 40), numbers)
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "recall_at_10": round(shared(truth, nearest(posts, numbers)), 3),
        "table_mb": size("feature_vector"),
        "graph_mb": size(f"feature_vector_{release_id}"),
        "built_s": round(built),
    }


def near_copies(numbers: list[int]) -> dict[str, float]:
    """A hash a few bits off one of the collection's, by the index and by reading every row."""
    from django.db import connection

    from gallery.likeness import copies
    from gallery.models import Post

    hashes = {
        post.pk: post.perceptual_hash ^ 0b1001_0000_0100_0000_0001 for post in Post.objects.filter(pk__in=numbers)
    }
    if any(number not in dict(copies.within(hashes[number], copies.NEAR)) for number in numbers):
        raise SystemExit("A near copy was not found.")
    p50, p95 = timed(lambda number: copies.within(hashes[number], copies.NEAR), numbers)

    def read_all(number: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "select id from post where bit_count((perceptual_hash # %s)::bit(64)) <= %s",
                [hashes[number], copies.NEAR],
            )
            cursor.fetchall()

    scan50, scan95 = timed(read_all, numbers[:15])
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "scan_p50_ms": scan50,
        "scan_p95_ms": scan95,
        "index_mb": size("post_hash_bands"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--graph", action="store_true", help="build and time pgvector's graph, too")
    options = parser.parse_args()
    stage.start_django()
    found: dict[str, dict[str, float]] = {"packed": quantised()}
    release_id = fill(options.posts)
    numbers = [int(n) for n in np.random.default_rng(2).integers(1, options.posts + 1, options.queries)]
    found["near_copies"] = near_copies(numbers)
    found["exact"], truth = exact(release_id, numbers)
    found["table"] = {"mb": size("feature")}
    if options.graph:
        found["graph"] = graph(release_id, numbers, truth)
    for title, row in found.items():
        stage.table(f"{title}, {options.posts:,} posts", list(row), [list(row.values())])
    print(json.dumps({"posts": options.posts} | found))


if __name__ == "__main__":
    main()
