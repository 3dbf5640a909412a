"""Which way the planner chooses among 20,000 posts, and what is counted there."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from gallery import search
from gallery.index import histograms
from gallery.models import Tag, TagIndex
from gallery.profiles import Thresholds
from gallery.search import counts, estimating, running, sample
from gallery.search.compiler import prepare
from gallery.search.errors import SearchTimeout
from gallery.search.estimating import estimated
from gallery.search.planner import MOST_WEIGHED, Walk, Way
from gallery.search.predicates import Masks, mask
from gallery.search.running import SETTINGS
from tests.gallery.making import make_post

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
    "common order:change": Way.ALONG,
    "rare order:change": Way.GIN,
    "order:random_5": Way.LOTS,
    "common usual order:random_5": Way.LOTS,
    "rare order:random_5": Way.GIN,
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
        for name, value in SETTINGS[way].items():
            cursor.execute(f"set local {name} = {value}")
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


def test_a_page_does_not_wait_for_its_count(site, monkeypatch):
    exact = search.count("common usual", HALF)
    assert exact.exact
    monkeypatch.setattr(counts, "_PATIENCE_MS", 1)
    number, is_exact = search.count("common usual", HALF)
    assert not is_exact
    assert number == pytest.approx(exact.number, rel=0.01)  # of so few posts the sample has all


def test_the_longer_a_page_took_the_less_it_waits_for_its_count(site, monkeypatch):
    asked = []

    def run_together(several, timeout):
        asked.append(timeout)
        return running.run_together(several, 3_000)  # other programs may keep the cores busy

    monkeypatch.setattr(counts, "run_together", run_together)
    page = search.find("common usual", HALF)
    assert page.took_ms > 0
    for took in (0.0, 90.0, 2_000.0):
        assert search.count("common usual", HALF, page=replace(page, took_ms=took)).exact
    assert asked == [100, 60, 30]
    monkeypatch.setattr(counts, "EXACT_COST", -1.0)  # as if there were more to count: unsure,
    monkeypatch.setattr(counts, "_SURE", -1.0)
    assert search.count("common usual", HALF, page=replace(page, took_ms=0.0)).exact
    monkeypatch.setattr(counts, "_LEAST_PATIENCE_MS", 1)  # but hopeless in the time that is left
    assert not search.count("common usual", HALF, page=replace(page, took_ms=2_000.0)).exact
    assert asked == [100, 60, 30, 100]


@pytest.mark.parametrize("every", [3, 40])
def test_what_the_sample_cannot_tell_is_asked_of_some_of_its_posts(site, monkeypatch, every):
    """Else all posts that may match would be the estimate."""
    with connection.cursor() as cursor:
        cursor.execute("update post set source = 'https://x.example' where id %% %s = 0", [every])
    texts = ["source:*example*", "source:*example* common", "-source:*example* usual"]
    exact = [search.count(text, HALF) for text in texts]
    assert all(each.exact for each in exact)
    monkeypatch.setattr(counts, "_PATIENCE_WITHOUT_MS", 1)
    monkeypatch.setattr(estimating, "_ASKED", ((50, 5_000), (4_000, 5_000)))
    for text, (number, _) in zip(texts, exact, strict=True):
        about = search.count(text, HALF)
        assert not about.exact and about.number == pytest.approx(number, rel=0.3), text


def test_an_estimate_is_no_less_than_what_the_page_shows(site, monkeypatch):
    monkeypatch.setattr(counts, "count_each", lambda queries, waited_ms: [search.Count(0, False)])
    page = search.find("rare", HALF, limit=7)
    assert search.count("rare", HALF, page=page) == (8, False)


def test_searches_counted_together_do_not_lose_what_one_of_them_takes_too_long_for(site, monkeypatch):
    asked = []

    def run_together(several, timeout):
        asked.append(len(several))
        if len(several) > 1:
            raise SearchTimeout("too long")
        return running.run_together(several, timeout)

    texts = ["common usual", "rare common", "no_such_tag"]
    monkeypatch.setattr(counts, "run_together", run_together)
    assert [search.count(text, HALF) for text in texts] == search.count_texts(texts, HALF)
    assert asked == [1, 1, 2]


def test_searches_counted_together_take_no_longer_than_a_page_waits(site, monkeypatch):
    texts = ["common usual", "rare common", "rarer common"]
    costs = [plan.cost for plan in (prepare(text, HALF).plan(None) for text in texts)]
    monkeypatch.setattr(counts, "_AT_ONCE", sorted(costs)[0] + sorted(costs)[1])
    exact = [found.exact for found in search.count_texts(texts, HALF)]
    assert exact == [cost != max(costs) for cost in costs]


def test_only_the_newest_matches_are_put_in_an_order_that_takes_counting(site):
    page = search.find("common order:tagcount", HALF)
    assert _way("common order:tagcount") == Way.SCAN
    assert "Only the newest 2,000" in page.notes[0]
    newest = search.find("common", HALF, limit=MOST_WEIGHED + 200).post_ids
    assert set(page.post_ids) < set(newest)
    numbers = dict(TagIndex.objects.filter(post__in=page.post_ids).values_list("post_id", "confidences"))
    counts = [sum(byte >= 127 for byte in bytes(numbers[post_id])[1:]) for post_id in page.post_ids]
    assert counts == sorted(counts, reverse=True)
    assert (
        len(list(search.matching_ids("common order:tagcount", HALF, in_order=False)))
        == search.count("common", HALF).number
    )
    assert not search.find("rare order:tagcount", HALF).notes


@pytest.mark.parametrize("order", ["gentags_asc", "tagcount", "children"])
def test_orders_that_take_counting_are_those_of_the_database(site, order):
    thresholds = Thresholds(150, {0: 120}, {site["usual"].id: 200})

    def pages(text: str, forced: Way | None) -> list[int]:
        found, cursor = [], None
        while cursor or not found:
            page = search.find(text, thresholds, limit=200, after=cursor, forced=forced)
            found, cursor = found + page.post_ids, page.next
        return found

    cut = pages(f"common order:{order}", None)
    assert MOST_WEIGHED * 0.8 < len(cut) < MOST_WEIGHED * 1.2
    assert cut == pages(f"common id:>={min(cut)} order:{order}", Way.FREE)
    assert search.neighbours(f"common order:{order}", thresholds, cut[7])[:2] == (cut[6], cut[8])
    assert search.find(f"common order:{order}", thresholds, limit=30, page=3).post_ids == cut[60:90]
    assert pages(f"rare order:{order}", None) == pages(f"rare order:{order}", Way.FREE)


def test_a_shuffled_list_is_the_same_by_every_way_and_new_posts_change_no_places(site):
    text = "common usual order:random_5"
    pages = [search.find(text, HALF, limit=200, forced=way).post_ids for way in (None, Way.FREE, Way.LOTS, Way.GIN)]
    assert pages[0] == pages[1] == pages[2] == pages[3]
    assert pages[0] != search.find("common usual order:random_6", HALF, limit=200).post_ids
    some = TagIndex.objects.get(post=pages[0][0])
    post = make_post(id=POSTS + 12_345)
    TagIndex.objects.create(post=post, tag_ids=some.tag_ids, confidences=some.confidences, rating=0)
    after = search.find(text, HALF, limit=201).post_ids
    assert [post_id for post_id in after if post_id != post.pk][:200] == pages[0]


def test_estimates_tell_how_far_off_they_are_and_are_put_right_by_histograms(site):
    histograms.refresh(force=True)
    part = sample.load(4_000)
    for text in ("common usual", "usual -common", "common or usual"):
        predicate = prepare(text, HALF).predicate
        found = mask(predicate, part)
        number = search.count(text, HALF)
        estimate = estimated(predicate, Masks(part))
        plain = math.sqrt((1 / found.mean() - 1) * (1 - part.size / part.total) / part.size)
        assert number.exact
        assert estimate.error < plain
        assert abs(estimate.number - number.number) < 4 * estimate.error * number.number
    nothing = prepare("rare rarer era", HALF).predicate
    assert estimated(nothing, Masks(part)).error == math.inf


@pytest.mark.parametrize("reason", ["STALE_SECONDS", "_GROWN"])
def test_a_search_never_waits_for_the_next_sample(site, monkeypatch, reason):
    first = sample.current()
    assert first is not None
    monkeypatch.setattr(sample, "_ASK_SECONDS", -1.0)
    monkeypatch.setattr(sample, reason, 0.5 if reason == "_GROWN" else -1)
    with sample._loading:  # as a thread does that reads
        assert sample.current() is first
        assert search.find("common", HALF).post_ids


def test_a_sample_read_in_batches_is_that_read_at_once(site, monkeypatch):
    monkeypatch.setattr(sample, "_BATCH", 1_000_000)
    at_once = sample.load()
    monkeypatch.setattr(sample, "_BATCH", 777)
    batched = sample.load()
    assert batched.size == batched.total > 777
    for field in ("tag_ids", "starts", "rows", "bytes_", "ratings", "ages"):
        assert np.array_equal(getattr(at_once, field), getattr(batched, field)), field
    for tag_id in batched.tag_ids.tolist():
        rows = batched.rows[batched._entries(tag_id)]
        assert (np.diff(rows) > 0).all()
        halves = batched.holding(tag_id, [slice(0, 500), slice(500, batched.size)])
        assert halves.tolist() == [np.count_nonzero(rows < 500), np.count_nonzero(rows >= 500)]
    assert 0 < len(batched.dense) < len(batched.tag_ids)
    for tag_id, bytes_ in batched.dense.items():
        assert np.array_equal(bytes_ >= 100, batched.on(tag_id, 100))
        assert np.count_nonzero(bytes_ >= 100) == batched.count_on(tag_id, 100)


@pytest.mark.parametrize(("most", "size"), [(10_000, 2_000), (1_500, 1_500)])
def test_a_large_site_has_a_larger_sample(site, monkeypatch, most, size):
    assert sample.load().size == POSTS  # there is room for all of them
    monkeypatch.setattr(sample, "SIZE", 1_000)
    monkeypatch.setattr(sample, "MOST", most)
    assert sample.load().size == size
    asked = []
    monkeypatch.setattr(sample, "_read_next", lambda: asked.append(True))
    assert sample.current().size == 1_000  # nobody waits for more
    assert asked


def test_ids_may_lie_far_apart(site):
    """Somebody has moved the sequence, or taken the numbers of another site over."""
    before = search.find("common", HALF).post_ids
    ids = [7 * 10**11, 8 * 10**11, 8 * 10**11 + 1]
    for post_id in ids:
        make_post(id=post_id)
        TagIndex.objects.create(post_id=post_id, tag_ids=[site["common"].id], confidences=bytes([0, 200]), rating=0)
    part = sample.load(4_000)
    assert 3_500 < part.size < 4_500
    sample.forget()
    assert search.find("common", HALF).post_ids == [*reversed(ids), *before[:37]]
    assert search.find("common", HALF, before=search.beside(10**11, True)).post_ids == ids[::-1]
    assert search.find("common", HALF, after=search.beside(10**11, False)).post_ids == before
    stretches = prepare("common", HALF).plan(Walk(30_000)).stretches
    assert stretches[0].high is None and stretches[-1].low == 0
    assert [each.high for each in stretches[1:]] == [each.low for each in stretches[:-1]]
    assert search.neighbours("common", HALF, ids[1])[:2] == (ids[2], ids[0])
    assert search.neighbours("common", HALF, 10**11)[:2] == (ids[0], before[0])
    assert search.neighbours("common", HALF, -5)[:2] == (search.find("common order:id", HALF).post_ids[0], None)


def test_a_part_of_the_posts_estimates_the_whole(site):
    part = sample.load(4_000)
    assert part.size == 4_000
    for text in ("common", "common usual", "usual -common", "rating:g,s width:>500"):
        estimate = mask(prepare(text, HALF).predicate, part).sum() * part.scale
        assert estimate == pytest.approx(search.count(text, HALF).number, rel=0.15)
