"""Search against two peers' schemes on the same rows in one run: `python -m tests.benchmarks.search --posts N`.

300 queries in 20 kinds under three profiles: CPU (this process and the database's backend) and wall, time-outs,
and wrong rows against a numpy reference, for pages and for counts; then sizes, what a write costs, and pages
while eight clients search and a writer tags 50 posts a second again. The last line is JSON. The peers run at the
one threshold that they would have fixed (0.35).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psycopg

from tests.benchmarks import crowd, kept, orders, peers, stage
from tests.benchmarks.collection import Collection
from tests.benchmarks.queries import Query, Reference, make_queries

BALANCED = 89  # 0.35 as a byte
TIMEOUT_MS = 3000
COUNT_TIMEOUT_MS = 1000  # Danbooru's
RETAGGED, BATCH, ROUNDS = 400, 8, 5  # posts in a round, as many in a transaction, rounds
PEERS = {
    "danbooru": (peers.fill_danbooru, peers.danbooru_sql, peers.danbooru_count_sql),
    "szurubooru": (peers.fill_szurubooru, peers.szurubooru_sql, peers.count_sql),
}


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


def run_ours(
    queries: list[Query], collection: Collection, reference: Reference
) -> tuple[Results, Results, list[float]]:
    """Pages and counts through gallery.search, each checked against the reference."""
    from gallery import search

    pages, counts, errors = Results("ours, page"), Results("ours, count"), []
    profiles = profiles_in_rotation()
    pid, categories = stage.backend_pid(), collection.world.categories
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
        elif len(expected):
            errors.append(abs(found.number - len(expected)) / len(expected))
    return pages, counts, errors


def run_peer(
    name: str, url: str, queries: list[Query], collection: Collection, reference: Reference
) -> tuple[Results, Results]:
    """Pages and counts of a peer's scheme on a connection of its own, rows checked at its threshold."""
    _, sql, count_sql = PEERS[name]
    pages, counts = Results(f"{name}, page"), Results(f"{name}, count")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set max_parallel_workers_per_gather = 0")
        meter = stage.Meter(connection.info.backend_pid)

        def ask(results: Results, query: Query, text: str, timeout: int) -> list[tuple] | None:
            connection.execute(f"set statement_timeout = {timeout}")
            try:
                with meter.measure():
                    return connection.execute(text).fetchall()
            except psycopg.errors.QueryCanceled:
                results.timeouts += 1
                return None
            finally:
                results.add(query.kind, meter)

        for number, query in enumerate(queries):
            body = sql(query, collection)
            rows = ask(pages, query, peers.page_sql(body, query), TIMEOUT_MS)
            # What the release said is not in a peer's tables: it is asked for the tag instead.
            if rows is not None and "ai" not in query.kind.split():
                expected = reference.matching(query, lambda tag: BALANCED)[: peers.PAGE]
                pages.wrong += [row[0] for row in rows] != expected.tolist()
            # A count costs a peer seconds: every fourth is enough for its percentiles.
            if not number % 4:
                ask(counts, query, count_sql(query, collection, body), COUNT_TIMEOUT_MS)
    return pages, counts


def sizes(posts: int, url: str) -> list[list[object]]:
    sql = """
        select t.name, sum(pg_table_size(p.relid)), sum(pg_indexes_size(p.relid))
          from unnest(array['tag_index', 'prediction', 'post', 'dpost', 'spost', 'spost_tag']) t(name)
          cross join pg_partition_tree(to_regclass(t.name)) p
         where to_regclass(t.name) is not null and p.isleaf group by 1 order by 1
    """
    with psycopg.connect(url) as connection:
        return [
            [name, float(rows) / posts, float(index) / posts]
            for name, rows, index in connection.execute(sql).fetchall()
        ]


def index_bytes(posts: int, url: str) -> float:
    """Bytes a post of the arrays and their indexes."""
    return next(rows + index for name, rows, index in sizes(posts, url) if name == "tag_index")


class Cost:
    """Server CPU milliseconds and WAL bytes of pieces of work, for one of so many posts."""

    def __init__(self, posts: int) -> None:
        self.posts, self.cpu, self.wal = posts, 0.0, 0.0
        self._server = stage.Meter(stage.backend_pid())

    @contextmanager
    def measure(self) -> Iterator[None]:
        log, cpu = self._log(), self._server.server_cpu()
        yield
        self.cpu += (self._server.server_cpu() - cpu) / self.posts
        self.wal += (self._log() - log) / self.posts

    def _log(self) -> int:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
            return int(cursor.fetchone()[0])


def retag_cost(collection: Collection) -> tuple[list[Cost], list[Cost]]:
    """Rounds of posts whose new prediction and index row are written, and of what the sweep does with them later.

    A worker writes in batches, on a connection that it has long had: the first round does not count.
    """
    from gallery.index import histograms, partitions

    chance = np.random.default_rng(3)
    crowd.use_another_release()
    at_once, later = [], []
    for number in range(1 + ROUNDS):
        chosen = (chance.choice(collection.posts, RETAGGED, replace=False) + 1).tolist()
        batches = [chosen[first : first + BATCH] for first in range(0, RETAGGED, BATCH)]
        made = [crowd.predicted_again(batch, chance) for batch in batches]
        costs = Cost(RETAGGED), Cost(RETAGGED)
        with costs[0].measure():
            for rows in made:
                crowd.write(rows)
        with costs[1].measure():
            partitions.tidy()
            histograms.refresh()
        if number:
            at_once.append(costs[0])
            later.append(costs[1])
    return at_once, later


def run_crowd(queries: list[Query], collection: Collection) -> crowd.Crowd:
    number_of = len(profiles_in_rotation())
    texts = [(query.text(collection.world), number % number_of) for number, query in enumerate(queries)]
    return crowd.run(texts, profiles_in_rotation(), collection.posts)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kept.add_options(parser, 1_000_000)
    parser.add_argument("--peers", default=",".join(PEERS), help="danbooru,szurubooru (both is the default) or none")
    parser.add_argument("--no-crowd", action="store_true", help="leave the eight clients out")
    return parser.parse_args()


def main() -> None:
    asked = options()
    _, collection = kept.start(asked.posts, asked.keep)
    from django.conf import settings

    url = settings.DATABASE_URL
    queries, reference = make_queries(collection), Reference(collection)
    pages, counts, errors = run_ours(queries, collection, reference)
    size = index_bytes(asked.posts, url)
    print_ours(asked.posts, pages, counts, errors)
    stage.table("bytes a post", ("table", "rows", "indexes"), sizes(asked.posts, url))
    orders.run(collection, reference, profiles_in_rotation()[0], stage.backend_pid())
    at_once, later = retag_cost(collection)
    retag = print_costs({"tagged again": at_once, "its part of the next sweep": later})
    if not asked.no_crowd:
        print_crowd(run_crowd(queries, collection))
    all_results, last = [pages, counts], {"page": pages}
    for name in (name for name in asked.peers.split(",") if name in PEERS):
        with psycopg.connect(url) as filling:
            PEERS[name][0](filling, collection, BALANCED)
        with psycopg.connect(url, autocommit=True) as vacuuming:
            vacuuming.execute("vacuum (analyze)")
        print(f"filled {name}'s tables", flush=True)
        results = run_peer(name, url, queries, collection, reference)
        all_results += results
        last[name] = results[0]
        print_results(asked.posts, all_results)
    print(json.dumps(summary(last, counts, retag.cpu, retag.wal, size)))


def print_results(posts: int, results: list[Results]) -> None:
    head = ("", "cpu p50", "p95", "max", "wall p50", "p95", "max", "time-outs", "wrong")
    stage.table(f"{len(results[0].cpu)} queries on {posts:,} posts, ms", head, [each.row() for each in results])


def print_ours(posts: int, pages: Results, counts: Results, errors: list[float]) -> None:
    print_results(posts, [pages, counts])
    by_kind = [
        [kind, *stage.percentiles(values), *stage.percentiles(counts.kinds[kind])]
        for kind, values in pages.kinds.items()
    ]
    stage.table("ours by kind, cpu ms", ("kind", "page p50", "p95", "max", "count p50", "p95", "max"), by_kind)
    if errors:
        shown = [[f"relative error of {len(errors)} estimates", *stage.percentiles(errors)]]
        stage.table("counts that are not exact", ("", "p50", "p95", "max"), shown)


def print_costs(costs: dict[str, list[Cost]]) -> Cost:
    """Middle, lowest and highest of the rounds; returns the middle one of the first work."""
    rows, middle = [], []
    for what, rounds in costs.items():
        rounds = sorted(rounds, key=lambda cost: cost.cpu)
        middle.append(rounds[len(rounds) // 2])
        log = [cost.wal / 1000 for cost in rounds]
        rows.append([what, middle[-1].cpu, rounds[0].cpu, rounds[-1].cpu, middle[-1].wal / 1000, min(log), max(log)])
    head = ("", "cpu ms, middle", "lowest", "highest", "log kB, middle", "lowest", "highest")
    stage.table(f"one post, in {ROUNDS} rounds of {RETAGGED}: the server's part", head, rows)
    return middle[0]


def print_crowd(found: crowd.Crowd) -> None:
    title = (
        f"{crowd.CLIENTS} clients, {found.retagged / crowd.SECONDS:.0f} posts tagged again a second, ms"
        f" (cores idle {found.idle:.0%}, taken away {found.taken:.0%})"
    )
    left_alone = [page for page in found.pages if page.taken < crowd.NOTICED]
    shown = [
        [f"{len(pages):,} {what}", *stage.percentiles([page.wall for page in pages])]
        for what, pages in (("pages with counts", found.pages), ("while the host took little", left_alone))
    ]
    stage.table(title, ("", "wall p50", "p95", "max"), shown)
    print(f"  writes unseen: {found.unseen}")
    longest = sorted(found.pages, key=lambda page: -page.wall)[:8]
    head = ("", "wall", "rows", "count", "cpu", "no free core", "at s", "host took")
    shown = [
        [page.text[:60], page.wall, page.rows, page.count, page.cpu, page.queued, page.at, f"{page.taken:.0%}"]
        for page in longest
    ]
    stage.table("the longest of them", head, shown)


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
