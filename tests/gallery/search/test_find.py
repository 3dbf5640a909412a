from __future__ import annotations

from contextlib import nullcontext

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from gallery import search
from gallery.models import Tag, TagAlias
from gallery.profiles import Thresholds
from gallery.search.compiler import Query, prepare
from gallery.search.orders import Cursor
from gallery.search.planner import Plan, Stretch, Way
from gallery.search.running import Planned, run, run_together
from gallery.search.values import Sql
from tests.gallery.search.world import World, make_world

HALF = Thresholds(overall=127)


@pytest.fixture
def world(db) -> World:
    return make_world(40)


def test_empty_text_finds_everything_newest_first(world):
    assert search.find("", HALF).post_ids == [post.id for post in reversed(world.posts)]
    assert search.count("", HALF) == (40, True)


@pytest.mark.parametrize(
    "text",
    ["1girl", "-1girl solo", "1girl or solo", "blue_*", "order:random", "order:tagcount", "order:created_asc solo"],
)
def test_pages_make_up_the_list(world, text):
    whole = search.find(text, HALF, limit=100)
    page = search.find(whole.text, HALF, limit=7)
    found = list(page.post_ids)
    while page.next:
        page = search.find(whole.text, HALF, limit=7, after=page.next)
        found += page.post_ids
    assert found == whole.post_ids
    while page.previous:
        page = search.find(whole.text, HALF, limit=7, before=page.previous)
        assert page.post_ids == whole.post_ids[whole.post_ids.index(page.post_ids[0]) :][: len(page.post_ids)]
    assert page.post_ids[0] == whole.post_ids[0]


@pytest.mark.parametrize(
    "cursor", ["x", "é", "WyJ4Il0", "W10", "bnVsbA", "WyJpZF9kZXNjIiwwLCJ4Il0", "WzEsMCw1XQ", "[" * 5000]
)
def test_a_broken_cursor_is_refused_in_words(world, cursor):
    with pytest.raises(search.SearchError, match="start from the first page"):
        search.find("", HALF, after=cursor)


def test_a_cursor_of_another_order_is_refused(world):
    cursor = search.find("order:width", HALF, limit=5).next
    with pytest.raises(search.SearchError, match="start from the first page"):
        search.find("order:md5", HALF, before=cursor)
    for order, key in (("created_at", "no time"), ("md5", "\ud800"), ("md5", "a\0"), ("width", 10**30), ("ratio", "x")):
        forged = str(Cursor(f"{order}_desc", False, (5, key)))
        with pytest.raises(search.SearchError, match="start from the first page"):
            search.find(f"order:{order}", HALF, after=forged)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("blue_hiar", "No tag is called blue_hiar. Did you mean blue_hair?"),
        ("sloo", "No tag is called sloo. Did you mean solo?"),
        ("ratng:general", "No tag is called ratng:general. Did you mean rating:general?"),
        ("qqqq*", "No tag matches qqqq*."),
        ("fate:saber", "No tag is called fate:saber. Did you mean saber_(fate)?"),
        ("artist:solo", "solo is no artist tag but general."),
        ("score:>5", "This site keeps nothing that score: could find."),
        ("order:score", "This site keeps nothing to order by score: newest first instead."),
        ("limit:9999", "A page holds at most 200 posts."),
    ],
)
def test_a_page_says_what_was_not_found(world, text, note):
    assert search.find(text, HALF).notes == [note]


def test_advice_about_many_or_endless_names_is_cut_short(world):
    """Each takes up to a second among seventy thousand tags, a name of thousands of letters a minute."""
    names = [f"blue_hiar{number}" for number in range(30)]
    with CaptureQueriesContext(connection) as asked:
        notes = search.find(" ".join(f"~{name}" for name in [*names, names[0]]), HALF).notes
    assert len(notes) == 30 and sum("Did you mean blue_hair?" in note for note in notes) == 5
    assert sum("similarity" in query["sql"] for query in asked) == 5
    endless = "blue_hair" * 400
    with CaptureQueriesContext(connection) as asked:
        assert search.find(endless, HALF).notes == [f"No tag is called {endless}."]
    assert not any("similarity" in query["sql"] for query in asked)


def test_a_wildcard_is_cut_at_the_most_used_tags(world):
    Tag.objects.bulk_create(Tag(name=f"many_{number}", post_count=number) for number in range(120))
    assert search.find("many_*", HALF).notes == ["many_* matches more than 100 tags: the 100 most used were searched."]


def test_an_alias_leads_through_others_to_its_tag(world):
    TagAlias.objects.create(name="aqua", tag=Tag.objects.create(name="azure_hair"))
    assert search.find("aqua", HALF).post_ids == search.find("blue_hair", HALF).post_ids != []


def test_limit_and_random_shape_the_page(world):
    assert len(search.find("limit:3", HALF).post_ids) == 3
    page = search.find("random:4", HALF)
    assert len(page.post_ids) == 4
    assert search.find(page.text, HALF).post_ids == page.post_ids
    assert (page.next, page.previous, search.count("random:4", HALF, page=page)) == (None, None, (4, True))
    assert search.neighbours(page.text, HALF, page.post_ids[3])[:2] == (page.post_ids[2], None)
    ids = [post.id for post in world.posts[:3]]
    listed = f"order:custom id:{ids[2]},{ids[0]},{ids[1]}"
    assert search.find(listed, HALF).post_ids == [ids[2], ids[0], ids[1]]


@pytest.mark.parametrize("text", ["random:9 limit:4", "limit:4 random:9 order:random", "order:random_5 random:4"])
def test_random_beside_others_about_the_list_can_be_read_again(world, text):
    page = search.find(text, HALF)
    assert len(page.post_ids) == 4
    assert search.find(page.text, HALF).post_ids == page.post_ids
    assert search.find(text, HALF, page=2).post_ids == []


def test_random_picks_before_an_order_sorts(world):
    ids = [post.id for post in world.posts]
    picked = [search.find("random:6 order:id", HALF).post_ids for _ in range(3)]
    assert all(len(some) == 6 and some == sorted(some) and set(some) <= set(ids) for some in picked)
    assert any(some != ids[:6] for some in picked)
    assert len(search.find("solo random:99 order:tagcount", HALF).post_ids) == search.count("solo", HALF).number


@pytest.mark.parametrize("text", ["random:6 order:width", "random:6 order:score", "order:id_asc random:9 limit:6"])
def test_what_was_picked_by_chance_stays_picked_in_its_links(world, text):
    page = search.find(text, HALF)
    assert search.find(page.text, HALF).post_ids == page.post_ids
    assert search.find(page.text, HALF).text == page.text
    for before, post_id, after in zip([None, *page.post_ids], page.post_ids, [*page.post_ids[1:], None], strict=False):
        assert search.neighbours(page.text, HALF, post_id)[:2] == (before, after)


@pytest.mark.parametrize("chance", ["random:6", "random:6 order:width limit:5", "order:random"])
def test_the_links_of_a_search_with_as_many_terms_as_it_may_have_lead_on(world, chance):
    text = " ".join([chance, *(f"-width:{number}" for number in range(100))])
    page = search.find(text, HALF)
    assert page.post_ids and search.find(page.text, HALF).post_ids == page.post_ids


def test_a_seed_decides_what_is_left_to_chance(world):
    shuffled = search.find("order:random_7", HALF, limit=99).post_ids
    assert search.find("randseed:7 order:random", HALF, limit=99).post_ids == shuffled
    assert search.find("random:5 randseed:7", HALF).post_ids == shuffled[:5]
    assert search.find("random:5 randseed:7 order:id", HALF).post_ids == sorted(shuffled[:5])
    assert search.find("randseed:7", HALF).post_ids == search.find("", HALF).post_ids


def test_a_misspelt_tag_is_put_right_beside_its_confidence(world):
    assert search.find("wada ai:soloo,>90%", HALF).corrected == "wada ai:solo,>90%"


@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        ("blue hair", "blue_hair"),
        ("wada Blue eyes -solo", "wada blue_eyes -solo"),
        ("solo azure hair order:id", "solo azure_hair order:id"),
        ("fate saber (fate) 100% orange", "fate saber fate 100%_orange"),
        ("blue -hair", "blue_hair -red_hair"),  # no run of words
    ],
)
def test_a_tag_that_was_written_in_two_words_is_put_together(world, text, corrected):
    page = search.find(text, HALF)
    assert page.corrected == corrected
    assert page.notes and all("Did you mean" in note for note in page.notes)


def test_a_search_that_takes_too_long_is_refused_in_words(world):
    with pytest.raises(search.SearchError, match="longer than 0.05 seconds"):
        run(Planned(Sql("select pg_sleep(5)"), Way.FREE, True), 50)
    assert search.count("", HALF).number == 40


def test_the_time_that_a_search_took_too_long_for_is_that_of_all_its_parts(world, monkeypatch):
    parts = (Stretch(Way.SCAN, low=30), Stretch(Way.SCAN, high=30))
    query = prepare("solo", HALF)
    monkeypatch.setattr(Query, "plan", lambda self, walk: Plan(parts, self.predicate))
    monkeypatch.setattr(Query, "_page", lambda *asked: Sql("select 1 where pg_sleep(0.3) is null"))
    with pytest.raises(search.SearchError, match="longer than 0.5 seconds"):
        query.rows(40, timeout=500)


def test_an_outer_transaction_keeps_its_own_settings(world):
    search.find("solo", HALF, forced=Way.GIN)
    with connection.cursor() as cursor:
        cursor.execute("select current_setting('statement_timeout'), current_setting('enable_indexscan')")
        assert cursor.fetchone() == ("0", "on")


@pytest.mark.django_db(transaction=True)
def test_statements_run_together_each_by_its_own_settings():
    """Outside a transaction: one message, after which all settings are as before."""
    asked = Sql("select current_setting('enable_sort'), current_setting('enable_seqscan'), %s::int[]", ((1, 2),))
    several = [Planned(asked, way, True) for way in (Way.SCAN, Way.GIN, Way.FREE)]
    rows = [("off", "on", [1, 2]), ("on", "off", [1, 2]), ("on", "on", [1, 2])]
    assert run_together(several, 1000) == [[row] for row in rows]
    with connection.cursor() as cursor:
        cursor.execute("select current_setting('enable_sort'), current_setting('statement_timeout')")
        assert cursor.fetchone() == ("on", "0")
    with pytest.raises(search.SearchError, match="longer than 0.05 seconds"):
        run_together([several[0], Planned(Sql("select pg_sleep(5)"), Way.FREE, True)], 50)
    assert run(several[2], 1000) == [rows[2]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("together", [False, True])
def test_a_time_that_ends_with_its_statement_does_not_end_the_next_query(together):
    """Without care, Postgres cancels what comes next: here one query in thirty."""
    rows, ended = 20_000.0, 0
    with connection.cursor() as cursor, transaction.atomic() if together else nullcontext():
        for number in range(400):
            statement = Sql("select count(*) from generate_series(1, %s)", (int(rows),))
            try:
                assert run(Planned(statement, Way.FREE, True), 4) == [(int(rows),)]
                rows *= 1.01  # so that it takes just as long as it may
            except search.SearchError:
                rows, ended = rows * 0.99, ended + 1
            cursor.execute("select %s", [number])
            assert cursor.fetchone() == (number,)
    assert ended
