"""Which way the planner chooses among 20,000 posts, and what is counted there."""

from __future__ import annotations

import random

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from gallery import search
from gallery.models import Tag
from gallery.profiles import Thresholds
from gallery.search import sample
from gallery.search.compiler import prepare
from gallery.search.planner import Walk, Way
from gallery.search.predicates import mask
from gallery.search.running import FORBIDDEN

POSTS = 20_000
HALF = Thresholds(overall=127)


@pytest.fixture
def site(db):
    """Common tags on most posts, rare ones on few, one only in the oldest posts."""
    names = ["common", "usual", "rare", "rarer", "era", "rating_general"]
    tags = {name: Tag.objects.create(name=name, category=9 if name.startswith("rating") else 0) for name in names}
    chance = random.Random(5)
    rows = []
    for number in range(1, POSTS + 1):
        found = {"common": 0.7, "usual": 0.3, "rare": 0.004, "rarer": 0.002, "era": 0.5 if number < 1500 else 0}
        ids = sorted(tags[name].id for name, part in found.items() if chance.random() < part)
        rows.append((number, ids, bytes([0, *(chance.randrange(60, 255) for _ in ids)]), chance.randrange(4)))
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into post (id, md5, sha256, ext, file_size, width, height, animated, file_name, source, credit,"
            " created_at, status, tagging_state, tagging_attempts, tagging_error, priority)"
            " select n, md5(n::text), n::text, 'png', n, 100 + mod(n, 900), 500, false, '', '', '', now(), 'active',"
            " 'tagged', 0, '', 0 from generate_series(1, %s) n",
            [POSTS],
        )
        with cursor.copy("copy tag_index (post_id, tag_ids, confidences, rating, updated_at) from stdin") as copy:
            for number, ids, confidences, rating in rows:
                copy.write_row((number, ids, confidences, rating, "2026-01-01"))
        cursor.execute("analyze tag_index, post")
    sample.forget()
    yield tags
    sample.forget()


WAYS = {
    "common": Way.SCAN,
    "common usual": Way.SCAN,
    "-common": Way.SCAN,
    "": Way.SCAN,
    "rating:g": Way.SCAN,
    "common or rare": Way.SCAN,
    "common width:<50": Way.SCAN,
    "rare": Way.GIN,
    "rare common": Way.GIN,
    "rare -common": Way.GIN,
    "rare or rarer": Way.GIN,
    "(rare or rarer) usual": Way.GIN,
    "~rare ~(common rarer)": Way.GIN,
    "era": Way.GIN,
    "era common": Way.GIN,
    "rare order:width": Way.GIN,
    "common order:width": Way.ALONG,
    "order:ratio": Way.ALONG,
    "ai:rare,>80% common": Way.GIN,
    "ai:common,>30%": Way.SCAN,
    "rare order:tagcount": Way.GIN,
    "id:7 common": Way.FREE,
    "human:rare common": Way.FREE,
}


def _way(text: str, walk: Walk | None = None) -> Way:
    query = prepare(text, HALF)
    return query.plan(walk or query.walk(40)).way


def test_planner_scans_for_common_tags_and_asks_gin_for_rare_ones(site):
    assert {text: _way(text) for text in WAYS} == WAYS


def test_planner_knows_where_a_page_begins(site):
    assert _way("era", Walk(40, start=1400)) == Way.SCAN
    assert _way("era", Walk(40, descending=False)) == Way.SCAN
    assert _way("era", Walk(40, descending=False, start=2000)) == Way.GIN


def test_each_way_goes_through_the_index_it_was_chosen_for(site):
    assert "tag_index_p0000_pkey" in _explained("common usual", Way.SCAN)
    assert "tag_index_p0000_tag_ids_idx" in _explained("rare common", Way.GIN)
    assert "tag_index_p0000_tag_ids_idx" in _explained("rare or rarer width:>200", Way.GIN)


def _explained(text: str, way: Way) -> str:
    """The database's plan of a page."""
    with CaptureQueriesContext(connection) as captured:
        search.find(text, HALF, forced=way)
    statement = next(each["sql"] for each in captured if "from tag_index i" in each["sql"])
    with transaction.atomic(), connection.cursor() as cursor:
        for name in FORBIDDEN[way]:
            cursor.execute(f"set local {name} = off")
        cursor.execute("explain " + statement)
        plan = "\n".join(row[0] for row in cursor.fetchall())
        transaction.set_rollback(True)
    return plan


def test_all_ways_find_the_same(site):
    for text in WAYS:
        found = [search.find(text, HALF, forced=way).post_ids for way in (None, Way.SCAN, Way.GIN)]
        assert found[0] == found[1] == found[2], text


def test_counts_are_exact_when_they_say_so(site):
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from tag_index where get_byte(confidences, idx(tag_ids, %s)) >= 127", [site["usual"].id]
        )
        assert search.count("usual", HALF) == (cursor.fetchone()[0], True)
    assert search.count("", HALF) == (POSTS, True)
    assert search.count("no_such_tag", HALF) == (0, True)


def test_a_part_of_the_posts_estimates_the_whole(site):
    part = sample.load(4_000)
    assert part.size == 4_000
    for text in ("common", "common usual", "usual -common", "rating:g,s width:>500"):
        estimate = mask(prepare(text, HALF).predicate, part).sum() * part.scale
        assert estimate == pytest.approx(search.count(text, HALF).number, rel=0.15)
