from __future__ import annotations

import pytest

from gallery import search
from gallery.profiles import Thresholds
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
