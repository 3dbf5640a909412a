"""Search against two peers' schemes on the same rows in one run: `python -m tests.benchmarks.search --posts N`.

300 queries in 20 kinds under three profiles: CPU (this process and the database's backend) and wall, time-outs,
and wrong rows against a numpy reference, for pages and for counts; then sizes and what a write costs. The last
line is JSON. The peers run at the one threshold that they would have fixed (0.35).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import psycopg

from tests.benchmarks import peers, stage
from tests.benchmarks.collection import Collection, fill
from tests.benchmarks.queries import Query, Reference, make_queries

BALANCED = 89  # 0.35 as a byte
TIMEOUT_MS = 3000
RETAGGED = 400


def profiles_in_rotation() -> list:
    from gallery.profiles import Thresholds

    off_grid = {0: 111, 4: 181, 3: 150, 1: 77, 5: 140, 10: 60}
    return [Thresholds(BALANCED), Thresholds(160), Thresholds(120, off_grid)]


class Results:
    """Times of one engine by kind of query, with its time-outs and wrong answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.kinds: dict[str, list[float]] = {}
        self.timeouts = self.wrong = 0

    def add(self, kind: str, meter: stage.Meter) -> None:
        self.cpu.append(meter.cpu_ms)
        self.wall.append(meter.wall_ms)
        self.kinds.setdefault(kind, []).append(meter.cpu_ms)

    def row(self) -> list[object]:
        cpu, wall = stage.percentiles(self.cpu), stage.percentiles(self.wall)
        return [self.name, *cpu, *wall, self.timeouts, self.wrong]


def backend_pid() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return int(cursor.fetchone()[0])


def run_ours(
    queries: list[Query], collection: Collection, reference: Reference
) -> tuple[Results, Results, list[float]]:
    """Pages and counts through gallery.search, each checked against the reference."""
    from gallery import search

    pages, counts, errors = Results("ours, page"), Results("ours, count"), []
    profiles = profiles_in_rotation()
    pid, categories = backend_pid(), collection.world.categories
    search.find("", profiles[0])  # the sample is read once a process
    for number, query in enumerate(queries):
        thresholds = profiles[number % len(profiles)]
        text = query.text(collection.world)
        expected = reference.matching(query, lambda tag, t=thresholds: t.byte(tag, int(categories[tag - 1])))
        meter = stage.Meter(pid)
        try:
            with meter.measure():
                page = search.find(text, thresholds, limit=peers.PAGE)
            pages.wrong += page.post_ids != expected[: peers.PAGE].tolist()
        except search.SearchError:
            pages.timeouts += 1
        pages.add(query.kind, meter)
        with meter.measure():
            found = search.count(text, thresholds)
        counts.add(query.kind, meter)
        if found.exact:
            counts.wrong += found.number != len(expected)
        elif len(expected) > 2000:
            errors.append(abs(found.number - len(expected)) / len(expected))
    return pages, counts, errors


def run_peer(
    name: str, url: str, queries: list[Query], sql: Callable[[Query], str], reference: Reference
) -> tuple[Results, Results]:
    """Pages and exact counts of a peer's scheme on a connection of its own, rows checked at its threshold."""
    pages, counts = Results(f"{name}, page"), Results(f"{name}, count")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"set statement_timeout = {TIMEOUT_MS}")
        connection.execute("set max_parallel_workers_per_gather = 0")
        meter = stage.Meter(connection.info.backend_pid)
        for number, query in enumerate(queries):
            body = sql(query)
            # A count costs a peer seconds: every fourth is enough for its percentiles.
            for results, text in ((pages, peers.page_sql(body, query)), (counts, peers.count_sql(body))):
                if results is counts and number % 4:
                    continue
                try:
                    with meter.measure():
                        rows = connection.execute(text).fetchall()
                except psycopg.errors.QueryCanceled:
                    results.timeouts += 1
                else:
                    if results is pages and query.kind not in ("ai at 90 %",):
                        expected = reference.matching(query, lambda tag: BALANCED)[: peers.PAGE]
                        results.wrong += [row[0] for row in rows] != expected.tolist()
                results.add(query.kind, meter)
    return pages, counts


def sizes(posts: int, url: str) -> list[list[object]]:
    sql = (
        "select relname, pg_table_size(oid), pg_indexes_size(oid) from pg_class "
        "where relname in ('tag_index', 'prediction', 'dpost', 'spost', 'spost_tag') and relkind in ('r', 'p')"
    )
    with psycopg.connect(url) as connection:
        return [[name, rows / posts, index / posts] for name, rows, index in connection.execute(sql).fetchall()]


def index_bytes(posts: int, url: str) -> float:
    """Bytes a post of the arrays and their indexes, partitions included."""
    sql = "select sum(pg_total_relation_size(oid)) from pg_class where relname ~ '^tag_index(_p|$)' and relkind = 'r'"
    with psycopg.connect(url) as connection:
        return float(connection.execute(sql).fetchone()[0]) / posts


def retag_cost(collection: Collection) -> tuple[float, float]:
    """Server CPU milliseconds and WAL bytes for one post whose new predictions and index row are written."""
    from django.db import connection, transaction

    from gallery import indexing
    from gallery.models import Prediction

    rng = np.random.default_rng(3)
    chosen = (rng.choice(collection.posts, RETAGGED, replace=False) + 1).tolist()
    rows = list(Prediction.objects.filter(post_id__in=chosen))
    for row in rows:  # the second opinion differs a little from the first
        changed = np.clip(np.frombuffer(row.confidences, np.uint8).astype(int) + rng.integers(-9, 9), 26, 254)
        row.confidences = changed.astype(np.uint8).tobytes()
        row.pk = None

    def wal() -> int:
        with connection.cursor() as cursor:
            cursor.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
            return int(cursor.fetchone()[0])

    schedstat = stage.Meter(backend_pid())
    before, cpu = wal(), schedstat.server_cpu()
    for first in range(0, len(rows), 8):
        batch = rows[first : first + 8]
        with transaction.atomic():
            Prediction.objects.bulk_create(
                batch,
                update_conflicts=True,
                unique_fields=["post", "release"],
                update_fields=["tag_ids", "confidences"],
            )
            indexing.rebuild([row.post_id for row in batch])
    return (schedstat.server_cpu() - cpu) / RETAGGED, (wal() - before) / RETAGGED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--no-peers", action="store_true", help="only ours")
    options = parser.parse_args()
    stage.start_django()
    from django.conf import settings
    from django.db import connection

    url = settings.DATABASE_URL
    began = time.perf_counter()
    with psycopg.connect(url) as filling:
        collection = fill(filling, options.posts)
    with connection.cursor() as cursor:
        cursor.execute("vacuum (analyze) tag_index, prediction, post, tag")
    print(f"made {options.posts:,} posts in {time.perf_counter() - began:.0f} s")
    queries, reference = make_queries(collection), Reference(collection)
    pages, counts, errors = run_ours(queries, collection, reference)
    all_results = [pages, counts]
    retag_cpu, retag_wal = retag_cost(collection)
    last = {"page": pages, "count": counts}
    if not options.no_peers:
        with psycopg.connect(url) as filling:
            peers.fill_danbooru(filling, collection, BALANCED)
            peers.fill_szurubooru(filling, collection, BALANCED)
        with psycopg.connect(url, autocommit=True) as vacuuming:
            vacuuming.execute("vacuum (analyze) dpost, spost, spost_tag")
        for name, sql in (("danbooru", peers.danbooru_sql), ("szurubooru", peers.szurubooru_sql)):
            results = run_peer(name, url, queries, lambda query, sql=sql: sql(query, collection), reference)
            all_results += results
            last[name] = results[0]
    head = ("", "cpu p50", "p95", "max", "wall p50", "p95", "max", "time-outs", "wrong")
    stage.table(f"{len(queries)} queries on {options.posts:,} posts, ms", head, [r.row() for r in all_results])
    by_kind = [[kind, *stage.percentiles(values)] for kind, values in pages.kinds.items()]
    stage.table("ours by kind, page, cpu ms", ("kind", "p50", "p95", "max"), by_kind)
    stage.table("bytes a post", ("table", "rows", "indexes"), sizes(options.posts, url))
    if errors:
        stage.table(
            "estimates of more than 2,000", ("", "p50", "p95", "max"), [["relative error", *stage.percentiles(errors)]]
        )
    print(json.dumps(summary(last, counts, retag_cpu, retag_wal, index_bytes(options.posts, url))))


def summary(last: dict[str, Results], counts: Results, cpu: float, wal: float, bytes_a_post: float) -> dict[str, float]:
    page = stage.percentiles(last["page"].cpu)
    return {
        "page_cpu_p50_ms": round(page[0], 3),
        "page_cpu_p95_ms": round(page[1], 3),
        "page_cpu_max_ms": round(page[2], 3),
        **{
            f"{name}_page_cpu_p95_ms": round(stage.percentiles(last[name].cpu)[1], 3)
            for name in ("danbooru", "szurubooru")
            if name in last
        },
        "count_cpu_p95_ms": round(stage.percentiles(counts.cpu)[1], 3),
        "wrong": last["page"].wrong + counts.wrong,
        "timeouts": last["page"].timeouts + counts.timeouts,
        "index_bytes_per_post": round(bytes_a_post),
        "retag_cpu_ms": round(cpu, 3),
        "retag_wal_bytes": round(wal),
    }


if __name__ == "__main__":
    main()
