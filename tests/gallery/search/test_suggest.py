from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from gallery import search
from gallery.models import Category, Post, Tag
from gallery.profiles import Thresholds
from tests.gallery.search.world import make_world

HALF = Thresholds(overall=127)


@pytest.fixture
def tags(db) -> dict[str, Tag]:
    return make_world(5).tags


def _labels(text: str) -> list[str]:
    return [each.label for each in search.suggest(text, HALF)]


def _histogram(low: int, high: int) -> list[int]:
    """`low` posts below one half, `high` above."""
    return [0] * 50 + [low] + [0] * 149 + [high] + [0] * 55


def test_suggest_completes_a_prefix_most_used_first(tags):
    Tag.objects.filter(name="blue_eyes").update(histogram=_histogram(90, 5), post_count=95)
    Tag.objects.filter(name="blue_hair").update(histogram=_histogram(10, 7), post_count=17)
    found = search.suggest("1girl blu", HALF)
    assert [(each.value, each.count) for each in found[:2]] == [("blue_hair", 7), ("blue_eyes", 5)]
    assert found[0].start == len("1girl ")
    assert found[0].category == Category.GENERAL


@pytest.mark.parametrize(
    ("text", "value", "start"),
    [
        ("-blu", "-blue_hair", 0),
        ("a (blu", "blue_hair", 3),
        ("a -(solo or ~blu", "~blue_hair", 12),
        ("hair", "blue_hair", 0),
        ("blue_hiar", "blue_hair", 0),
        ("azu", "blue_hair", 0),
        ("saber_(fa", "saber_(fate)", 0),
        ("human:blue_h", "human:blue_hair", 0),
        ("ai:sab", 'ai:"saber_(fate)"', 0),
        (":)", 'tag:":)"', 0),
        ("rating:q", "rating:questionable", 0),
        ("-order:wid", "-order:width", 0),
        ("release:st", "release:starter", 0),
        ("ratin", "rating:", 0),
    ],
)
def test_suggest_replaces_the_last_word(tags, text, value, start):
    assert (value, start) in [(each.value, each.start) for each in search.suggest(text, HALF)]


def test_suggest_shows_an_alias_with_its_tag(tags):
    [found] = search.suggest("azure", HALF)
    assert (found.label, found.alias_of, found.value) == ("azure_hair", "blue_hair", "blue_hair")


def test_suggest_offers_people_who_uploaded(tags):
    Post.objects.update(uploader=User.objects.get(username="anna"))
    assert _labels("user:an") == ["user:any", "user:anna"]


def test_suggest_leaves_deprecated_tags_and_empty_words_alone(tags):
    Tag.objects.filter(name="wada").update(deprecated=True)
    assert "wada" not in _labels("wad")
    assert _labels("") == _labels("solo ") == _labels("-(") == []
    assert _labels("100%") == ["100%_orange"]


def test_page_tags_count_the_site_by_category(tags):
    tags["solo"].histogram = _histogram(3, 2)
    tags["solo"].save()
    page = search.find("solo", HALF)
    found = search.page_tags(page.post_ids, HALF)
    assert ("solo", 2) in [(tag.name, count) for tag, count in found[Category.GENERAL]]
    assert all(tag.category == category for category, row in found.items() for tag, _ in row)
