"""Suggestions while somebody types, at size: `make bench-suggest POSTS=100000`.

A made collection whose 70,000 tags have names of one to three words, then 400 half-typed words of four kinds,
each behind none to two finished terms, as the search box asks them; wall and CPU of Python and Postgres together.
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import psycopg

from tests.benchmarks import kept, stage

ASKED = 400
KINDS = ("prefix", "any word", "typo", "negated")


def names(count: int, rng: np.random.Generator) -> list[str]:
    """Different names of one to three made words, common words in many of them."""
    consonants = list("bdfghjklmnprstvwz") + ["sh", "ch", "br", "tr"]
    vowels = [*"aeiou", "ai", "ou"]
    words = [
        "".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(size)) for size in rng.integers(1, 4, 3_000)
    ]
    found: dict[str, None] = {}
    while len(found) < count:
        picked = (rng.random(rng.choice([1, 2, 3], p=[0.1, 0.6, 0.3])) ** 2 * len(words)).astype(int)
        found["_".join(words[at] for at in picked)] = None
    return list(found)


def rename(connection: psycopg.Connection, rng: np.random.Generator) -> list[str]:
    """Give all but rating and year tags such names; returns them, the most used first."""
    where = "category not in (9, 10)"
    ids = [row[0] for row in connection.execute(f"select id from tag where {where} order by post_count desc, id")]
    made = names(len(ids), rng)
    connection.execute(
        "update tag set name = made.name from unnest(%s::bigint[], %s::text[]) made (id, name) where tag.id = made.id",
        [ids, made],
    )
    connection.execute("vacuum analyze tag")
    return made


def half_typed(name: str, kind: str, rng: np.random.Generator) -> str:
    """What somebody has typed of a tag so far."""
    words = name.split("_")
    word = words[-1] if kind == "any word" else name
    typed = word[: int(rng.integers(2, min(len(word), 7) + 1))] if len(word) > 2 else word
    if kind == "typo" and len(name) > 4:
        at = int(rng.integers(1, len(name) - 2))
        typed = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    return f"-{typed}" if kind == "negated" else typed


def questions(ranked: list[str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """(kind, text before the cursor); tags are drawn by popularity, as people type them."""

    def tag() -> str:
        return ranked[int(rng.random() ** 4 * 20_000)]

    found = []
    for number in range(ASKED):
        kind = KINDS[number % len(KINDS)]
        before = [tag() for _ in range(number // len(KINDS) % 3)]
        found.append((kind, " ".join([*before, half_typed(tag(), kind, rng)])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    kept.add_options(parser, int(os.environ.get("POSTS", "100000")))
    asked = parser.parse_args()
    kept.start(asked.posts, asked.keep)
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        ranked = rename(connection, np.random.default_rng(5))
    ask(asked.posts, ranked)


def ask(posts: int, ranked: list[str]) -> None:
    """Measure, and print a table by kind."""
    from django.db import connection

    from gallery import search
    from gallery.profiles import Thresholds

    thresholds = Thresholds(overall=90, by_category={0: 102, 4: 77, 3: 77})
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        meter = stage.Meter(cursor.fetchone()[0])
    asked = questions(ranked, np.random.default_rng(9))
    for _, text in asked[:40]:  # the sample is read, and the database's caches are warm
        search.suggest(text, thresholds)
    rows: dict[str, list[tuple[float, float, int, bool]]] = {kind: [] for kind in KINDS}
    for kind, text in asked:
        with meter.measure():
            found = search.suggest(text, thresholds)
        rows[kind].append((meter.wall_ms, meter.cpu_ms, len(found), all(each.exact for each in found)))
    table = []
    for kind, some in [*rows.items(), ("all", [row for each in rows.values() for row in each])]:
        wall, cpu = stage.percentiles([row[0] for row in some]), stage.percentiles([row[1] for row in some])
        exact = sum(row[3] for row in some) / len(some)
        table.append([kind, *wall, *cpu, float(np.mean([row[2] for row in some])), f"{exact:.0%}"])
    head = ["kind", "wall p50", "p95", "max", "CPU p50", "p95", "max", "suggestions", "all exact"]
    stage.table(f"Suggestions at {posts:,} posts and {len(ranked):,} tags, milliseconds", head, table)


if __name__ == "__main__":
    main()
