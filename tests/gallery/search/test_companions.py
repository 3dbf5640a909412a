"""Related tags against counts of the made world, post by post."""

from __future__ import annotations

import math

import pytest

from gallery import search
from gallery.index import histograms
from gallery.profiles import Thresholds
from gallery.search import sample
from tests.gallery.search.reference import is_on
from tests.gallery.search.world import TAGS, World, make_world

HALF = Thresholds(overall=127)


@pytest.fixture
def world(db) -> World:
    world = make_world(60)
    histograms.refresh(force=True)
    return world


@pytest.mark.parametrize("sampled", [False, True])
def test_shares_and_likeness_are_those_of_the_posts(world, monkeypatch, sampled):
    if sampled:
        monkeypatch.setattr(sample, "SMALL_SITE", 0)
        monkeypatch.setattr("gallery.search.companions._ENOUGH", 1)
    sample.forget()
    found = search.related("solo", HALF)
    sample.forget()
    solo = [post for post in world.posts if is_on(post, "solo", HALF, world)]
    plain = [name for name in TAGS if not name.startswith("rating_") and name != "solo"]
    both = {name: sum(is_on(post, name, HALF, world) for post in solo) for name in plain}
    every = {name: sum(is_on(post, name, HALF, world) for post in world.posts) for name in plain}
    assert {tag.name for tag in found.frequent} == {name for name in plain if both[name]}
    assert sorted(found.frequent) == sorted(found.alike)
    for tag in found.frequent:
        assert tag.share == pytest.approx(both[tag.name] / len(solo))
        assert tag.likeness == pytest.approx(both[tag.name] / math.sqrt(len(solo) * every[tag.name]))
    assert [tag.share for tag in found.frequent] == sorted((tag.share for tag in found.frequent), reverse=True)
    assert [tag.likeness for tag in found.alike] == sorted((tag.likeness for tag in found.alike), reverse=True)


def test_a_search_that_finds_nothing_has_no_related_tags(world):
    assert search.related("solo -solo", HALF) == ([], [])
    assert search.related("azure_hair", HALF) == search.related("blue_hair", HALF)
    assert "1girl" not in [tag.name for tag in search.related("solo or 1girl", HALF).frequent]
