"""Search against the slow reference: random posts, profiles and query trees on the real database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gallery import search
from gallery.index import partitions
from gallery.models import Category, Profile, Release
from gallery.profiles import SCALE, Thresholds
from gallery.search import alike, nodes, planner, sample, shuffling
from gallery.search.planner import Way
from tests.gallery.search import reference
from tests.gallery.search.reference import Asked
from tests.gallery.search.world import World, make_world

# One world serves all examples: they only read it.
many = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def few_look_alikes(monkeypatch, settings, tmp_path):
    """So few that some are cut off."""
    monkeypatch.setattr(alike, "MOST", reference.SIMILAR_MOST)
    settings.DATA_DIR = tmp_path


@pytest.fixture
def small_lots(monkeypatch) -> Iterator[None]:
    """Shuffled lists whose lots hold several posts."""
    monkeypatch.setattr(shuffling, "LOTS", 16)
    shuffling._shuffled.cache_clear()
    reference._shuffled.cache_clear()
    yield
    shuffling._shuffled.cache_clear()


@pytest.fixture
def world(db, small_lots) -> World:
    return _with_profiles(make_world(70))


def _with_profiles(world: World) -> World:
    release = Release.objects.get()
    for key, thresholds in reference.BY_KEY.items():
        shares = {Category(number).label: byte / SCALE for number, byte in thresholds.by_category.items()}
        Profile.objects.create(release=release, key=key, overall=thresholds.overall / SCALE, by_category=shares)
    return world


@many
@given(
    asked=reference.queries,
    some=st.lists(reference.profiles, min_size=3, max_size=3),
    own=reference.overrides,
)
def test_search_finds_what_the_reference_finds(world: World, asked: Asked, some: list[Thresholds], own: dict[str, int]):
    # Likeness brings its own order, which test_what_is_like_a_post_comes_in_that_order proves.
    text = f"({asked.text}) order:id_desc" if "similar:" in asked.text else asked.text
    for thresholds in (some[0], some[1], reference.with_overrides(some[2], own, world)):
        wanted = reference.expected(asked, thresholds, world)
        for way in (Way.SCAN, Way.GIN):
            assert search.find(text, thresholds, limit=100, forced=way).post_ids == wanted, text
        counted = search.count(asked.text, thresholds)
        assert not counted.exact or counted.number == len(wanted), asked.text


@settings(many, max_examples=80)
@given(
    asked=reference.queries,
    order=st.sampled_from(sorted(reference.ORDER_KEYS)),
    thresholds=reference.profiles,
    size=st.integers(5, 40),
    way=st.sampled_from(list(Way)),
)
def test_pages_follow_each_other_in_every_order(world, asked, order, thresholds, size, way):
    text = f"({asked.text}) order:{order}"
    wanted = reference.expected_in_order(asked, order, thresholds, world)
    page = search.find(text, thresholds, limit=size, forced=way)
    found, pages = list(page.post_ids), [page.post_ids]
    while page.next:
        page = search.find(text, thresholds, limit=size, after=page.next, forced=way)
        found += page.post_ids
        pages.append(page.post_ids)
    assert found == wanted, text
    for earlier in reversed(pages[:-1]):
        page = search.find(text, thresholds, limit=size, before=page.previous, forced=way)
        assert page.post_ids == earlier
    assert page.previous is None
    assert list(search.matching_ids(text, thresholds)) == wanted


@pytest.fixture
def spread_world(db, monkeypatch) -> Iterator[World]:
    """Posts in nine partitions, one of them not made, with plans chosen as on a large site."""
    monkeypatch.setattr(sample, "SMALL_SITE", 0)
    monkeypatch.setattr(planner, "_GIN_START", 0.0)  # so that few posts are enough to choose either way
    partitions.make_ahead(7 * partitions.SIZE)
    world = _with_profiles(make_world(70, spread=12_007))
    sample.forget()
    reference._shuffled.cache_clear()
    yield world
    sample.forget()


@settings(many, max_examples=100)
@given(asked=reference.queries, thresholds=reference.profiles, size=st.integers(2, 30), ascending=st.booleans())
def test_pages_go_on_from_one_partition_to_the_next(spread_world, asked, thresholds, size, ascending):
    text = f"({asked.text}) order:{'id' if ascending else 'id_desc'}"
    wanted = reference.expected(asked, thresholds, spread_world)[:: -1 if ascending else 1]
    page = search.find(text, thresholds, limit=size)
    found, pages = list(page.post_ids), [page.post_ids]
    while page.next:
        page = search.find(text, thresholds, limit=size, after=page.next)
        found += page.post_ids
        pages.append(page.post_ids)
    assert found == wanted, text
    for earlier in reversed(pages[:-1]):
        page = search.find(text, thresholds, limit=size, before=page.previous)
        assert page.post_ids == earlier
    for number, numbered in enumerate(pages, 1):
        assert search.find(text, thresholds, limit=size, page=number).post_ids == numbered
    if found:
        middle = len(found) // 2
        beside = (found[middle - 1] if middle else None, found[middle + 1] if middle + 1 < len(found) else None)
        assert search.neighbours(text, thresholds, found[middle])[:2] == beside
    counted = search.count(text, thresholds)
    assert not counted.exact or counted.number == len(wanted)


@settings(many, max_examples=40)
@given(
    asked=reference.queries,
    order=st.sampled_from([name for name in sorted(reference.ORDER_KEYS) if not name.startswith("id")]),
    thresholds=reference.profiles,
    size=st.integers(2, 30),
)
def test_pages_in_other_orders_go_through_all_partitions(spread_world, asked, order, thresholds, size):
    text = f"({asked.text}) order:{order}"
    wanted = reference.expected_in_order(asked, order, thresholds, spread_world)
    page, found = search.find(text, thresholds, limit=size), []
    while True:
        found += page.post_ids
        if not page.next:
            break
        page = search.find(text, thresholds, limit=size, after=page.next)
    assert found == wanted, text
    for number in range(1, 1 + -(-len(wanted) // size)):
        numbered = search.find(text, thresholds, limit=size, page=number).post_ids
        assert numbered == wanted[(number - 1) * size : number * size]
    if found:
        middle = len(found) // 2
        beside = (found[middle - 1] if middle else None, found[middle + 1] if middle + 1 < len(found) else None)
        assert search.neighbours(text, thresholds, found[middle])[:2] == beside


@settings(many, max_examples=60)
@given(asked=reference.queries, thresholds=reference.profiles, place=st.integers(0, 69), size=st.integers(2, 9))
def test_what_is_like_a_post_comes_in_that_order(world, asked, thresholds, place, size):
    own = world.posts[place]
    near = reference.nearness(own, world.posts)[: reference.SIMILAR_MOST] if own.direction is not None else []
    matching = set(reference.expected(asked, thresholds, world))
    wanted = [pk for _, pk in near if pk in matching]
    text = f"({asked.text}) similar:{own.id}"
    page = search.find(text, thresholds, limit=size)
    found = list(page.post_ids)
    while page.next:
        page = search.find(text, thresholds, limit=size, after=page.next)
        found += page.post_ids
    assert found == wanted, text
    assert list(search.matching_ids(f"{text} order:id", thresholds)) == sorted(wanted)
    for at in {0, len(wanted) - 1} if wanted else ():
        before, behind = wanted[at - 1] if at else None, wanted[at + 1] if at + 1 < len(wanted) else None
        assert search.neighbours(text, thresholds, wanted[at])[:2] == (before, behind)


@settings(many, max_examples=80)
@given(asked=reference.queries, order=st.sampled_from(sorted(reference.ORDER_KEYS)), thresholds=reference.profiles)
def test_neighbours_agree_with_the_page(world, asked, order, thresholds):
    text = f"order:{order} ({asked.text})"
    found = search.find(text, thresholds, limit=100).post_ids
    for place in {0, len(found) // 2, len(found) - 1} if found else ():
        before = found[place - 1] if place else None
        after = found[place + 1] if place + 1 < len(found) else None
        assert search.neighbours(text, thresholds, found[place])[:2] == (before, after), text


@settings(max_examples=600, deadline=None)
@given(asked=reference.queries)
@example(Asked("(a or :)) tag:or", lambda *_: True))
def test_a_printed_tree_parses_to_the_same_tree(asked: Asked):
    tree = search.parse(asked.text)
    assert search.parse(search.to_text(tree)) == tree


_words = st.text(st.sampled_from("ab_:*()-~ \"'\\,or"), min_size=1, max_size=8) | st.sampled_from(
    ["and", "or", "rating:a", "tag:b", ":)", ">:(", "*fate)", "x_(*", "\u00a0"]
)
_leaves = st.one_of(
    _words.map(nodes.Tag), _words.map(nodes.Wildcard), st.builds(nodes.Metatag, st.just("source"), _words)
)
_groups = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map(nodes.all_of),
        st.lists(inner, min_size=2, max_size=4).map(nodes.any_of),
        inner.map(nodes.none_of),
    ),
    max_leaves=8,
)


@settings(max_examples=1000, deadline=None)
@given(_groups)
@example(nodes.none_of(nodes.any_of([nodes.Wildcard("*fate)"), nodes.Tag("b")])))
def test_every_tree_prints_as_text_that_parses_to_it(tree: nodes.Node):
    assert search.parse(search.to_text(tree)) == tree


@settings(max_examples=600, deadline=None)
@given(st.text(st.sampled_from("ab_:*()-~ \"'\\,.<>=19%\tor"), max_size=30) | st.text(max_size=20))
@example("- ~*")
@example("- ~)*")
def test_any_text_parses_prints_or_says_why_not(text: str):
    try:
        tree = search.parse(text)
    except search.SearchError as error:
        assert error.message.endswith((".", "?"))
        assert 0 <= error.position <= len(text)
        assert 0 <= error.length <= len(text) - error.position
    else:
        assert search.parse(search.to_text(tree)) == tree


@settings(many, max_examples=80)
@given(st.text(st.sampled_from("ab_:*()-~ \"'\\,.<>=19%or\u00e9"), max_size=20) | st.text(max_size=20))
def test_any_text_is_searched_or_refused_in_words(db, text: str):
    try:
        search.find(text, Thresholds(127))
        search.count(text, Thresholds(127))
        search.suggest(text, Thresholds(127))
    except search.SearchError as error:
        assert error.message
