from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from gallery import search
from gallery.models import Category, Post, Profile, Release, SavedSearch, Tag, TagIndex, Verdict
from gallery.profiles import Thresholds
from gallery.search import forecast, lexicon, sample
from tests.gallery.search.world import make_world

HALF = Thresholds(overall=127)


@pytest.fixture(params=["in the database", "in memory"])
def tags(db, request, monkeypatch) -> Iterator[dict[str, Tag]]:
    """A small world, its names looked up both ways."""
    world = make_world(40, seed=126)
    if request.param == "in memory":
        monkeypatch.setattr(lexicon, "LARGE", 0)
    lexicon.forget()
    yield world.tags
    lexicon.forget()


def _labels(text: str) -> list[str]:
    return [each.label for each in search.suggest(text, HALF)]


def _histogram(low: int, high: int) -> list[int]:
    """`low` posts below one half, `high` above."""
    return [0] * 50 + [low] + [0] * 149 + [high] + [0] * 55


def test_suggest_completes_a_prefix_most_used_first(tags):
    Tag.objects.filter(name="blue_eyes").update(histogram=_histogram(90, 5), post_count=95)
    Tag.objects.filter(name="blue_hair").update(histogram=_histogram(10, 7), post_count=17)
    found = search.suggest("blu", HALF)
    assert [(each.value, each.count, each.exact) for each in found] == [("blue_hair", 7, True), ("blue_eyes", 5, True)]
    assert search.suggest("1girl blu", HALF)[0].start == len("1girl ")
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
        ("rating:g,q", "rating:g,questionable", 0),
        ("filetype:png,", "filetype:png,jpg", 0),
        ("-order:wid", "-order:width", 0),
        ("release:st", "release:starter", 0),
        ("ratin", "rating:", 0),
    ],
)
def test_suggest_replaces_the_last_word(tags, text, value, start):
    assert (value, start) in [(each.value, each.start) for each in search.suggest(text, HALF)]


def test_a_tag_that_could_not_be_counted_in_time_is_suggested_without_a_count(tags, monkeypatch):
    Tag.objects.filter(name="blue_hair").update(post_count=0, histogram=None)  # as new tags are
    assert _counted_as("blue_ha")["blue_hair"] == search.count("blue_hair", HALF).number

    def too_late(planned, timeout):
        raise search.SearchTimeout("too late")

    monkeypatch.setattr(forecast, "run", too_late)
    assert _counted_as("blue_ha")["blue_hair"] is None


def _counted_as(text: str) -> dict[str, int | None]:
    return {each.value: each.count for each in search.suggest(text, HALF)}


def test_suggest_shows_an_alias_with_its_tag(tags):
    found = search.suggest("azure", HALF)[0]
    assert (found.label, found.alias_of, found.value) == ("azure_hair", "blue_hair", "blue_hair")


def test_suggest_offers_people_who_uploaded(tags):
    Post.objects.update(uploader=User.objects.get(username="anna"))
    assert _labels("user:an") == ["user:any", "user:anna"]
    assert _labels("user:non") == []  # every post has an uploader now, so it would find nothing


def test_people_are_offered_without_a_look_at_all_their_posts(tags):
    Post.objects.update(uploader=User.objects.get(username="anna"))
    with CaptureQueriesContext(connection) as asked:
        assert "user:anna" in _labels("user:an")
    statement = next(query["sql"] for query in asked if "upper" in query["sql"].lower())
    with connection.cursor() as cursor:
        cursor.execute(f"explain (analyze, format json) {statement}")
        plan = json.dumps(cursor.fetchone()[0])
    assert max(map(float, re.findall(r'"Actual Rows": ([0-9.]+)', plan))) <= User.objects.count() < Post.objects.count()


@pytest.mark.parametrize(
    ("before", "after", "whole"),
    [
        ("1girl blu", "", "1girl {}"),
        ("1girl -(solo blu", "", "1girl -(solo {})"),
        ("1girl -blu", " solo", "1girl -{} solo"),
        ("(1girl or blu", ") solo", "(1girl or {}) solo"),
        ("~1girl ~blu", "", "~1girl ~{}"),
        ("azure_hair human:blu", "", "azure_hair human:{}"),
        ("1girl order:id blu", "", "1girl {}"),
        ("wada profile:strict re", "", "wada profile:strict {}"),
        ("blu", "-1girl or solo", "{} -1girl or solo"),
        ("1girl width:640 s", "", "1girl width:640 {}"),
    ],
)
@pytest.mark.parametrize("sampled", [False, True])
def test_the_count_is_of_the_whole_search(tags, monkeypatch, before, after, whole, sampled):
    Profile.objects.create(release=Release.objects.get(), key="strict", name="Strict", overall=0.6)
    if sampled:
        monkeypatch.setattr(sample, "SMALL_SITE", 0)
    sample.forget()
    found = [each for each in search.suggest(before, HALF, after=after) if each.category is not None]
    assert found
    for each in found:
        counted = search.count(whole.format(each.value.lstrip("-~").removeprefix("human:")), HALF).number
        assert (each.count, each.exact) == (counted, True) and counted, each
    sample.forget()


@pytest.mark.parametrize("sampled", [False, True])
def test_each_word_of_a_metatag_has_its_own_count(tags, monkeypatch, sampled):
    """Some words mean the same, and some nothing here."""
    if sampled:
        monkeypatch.setattr(sample, "SMALL_SITE", 0)
    sample.forget()
    for name in ("is:", "has:", "rating:", "child:", "filetype:"):
        found = search.suggest(name, HALF)
        assert found and (sampled or None not in [each.count for each in found])
        for each in found:
            assert each.count is None or (each.count, each.exact) == search.count(each.value, HALF), each
    sample.forget()


def test_what_the_release_said_is_no_exact_count_of_a_sample(tags, monkeypatch):
    monkeypatch.setattr(sample, "SMALL_SITE", 0)
    sample.forget()
    assert [(each.exact, each.label) for each in search.suggest("ai:sol", HALF)] == [(False, "ai:solo")]
    sample.forget()


def test_members_are_offered_deleted_posts(tags):
    assert _labels("status:del") == _labels("is:del") == []
    anna = User.objects.get(username="anna")
    [found] = search.suggest("status:del", HALF, viewer=anna)
    assert (found.value, found.count) == ("status:deleted", None)


def test_a_suggestion_means_its_tag_whatever_its_name(tags):
    for name in ('q"_(z)', "caf\u00e9", ">:("):
        Tag.objects.create(name=name, histogram=_histogram(0, 3), post_count=3)
    Verdict.objects.create(post=Post.objects.first(), tag=Tag.objects.get(name='q"_(z)'), answer=True)
    lexicon.forget()
    assert _labels("cafe\u0301") == ["caf\u00e9"]
    assert _labels(">:") == [">:("]
    [found] = search.suggest("human:q", HALF)
    assert search.find(found.value, HALF).post_ids == [Post.objects.first().pk]


def test_a_confidence_is_not_written_over(tags):
    assert _labels("ai:sol") == ["ai:solo"] and _labels("ai:solo,>9") == []


def test_what_stands_around_the_word_is_read_once_for_all_suggestions(tags):
    """Else one more number of tags would ask as many queries as there are suggestions, at each letter typed."""
    assert len(search.suggest("solo bl", HALF)) == 2  # names that are kept in memory are read now
    with CaptureQueriesContext(connection) as asked:
        assert len(search.suggest("solo tagcount:>1 (gentags:>1 or wada) bl", HALF)) == 2
    newest = [query["sql"] for query in asked if query["sql"] == "select coalesce(max(id), 0) from tag"]
    assert len(newest) == 2  # once for each number


def test_what_finds_nothing_is_not_suggested(tags):
    assert "blue_hair" in _labels("blu")
    assert "blue_hair" not in _labels("-azure_hair blu")
    assert "blue_hair" in _labels("-azure_hair or blu")
    assert _labels("1girl -1girl blu") == []
    assert "rating:general" not in _labels("rating:e rating:g")


@pytest.mark.parametrize("name", ["ai", "human", "rejected"])
def test_who_said_what_of_a_tag_is_counted_by_itself(tags, name):
    Tag.objects.filter(name="blue_hair").update(histogram=_histogram(1, 7), post_count=8)
    found = _counted_as(f"{name}:blue_h")
    assert f"{name}:blue_hair" in found
    assert found == {text: search.count(text, HALF).number for text in found}
    Verdict.objects.all().delete()
    assert bool(_labels(f"{name}:blue_h")) == (name == "ai")


def test_a_category_offers_its_own_tags_however_rare(tags):
    Tag.objects.bulk_create(
        [Tag(name=f"wa{number}", post_count=900, histogram=_histogram(0, 900)) for number in range(50)]
    )
    lexicon.forget()
    assert _labels("artist:wa") == ["artist:wada"]
    assert _labels("artist:100%_or") == ["artist:100%_orange"]
    assert _labels("copyright:wad") == _labels("artist:azu") == []
    assert _labels("general:azu") == ["general:azure_hair"]


def test_a_misspelt_word_before_does_not_hide_what_may_follow(tags):
    Tag.objects.filter(name="blue_hair").update(histogram=_histogram(1, 7), post_count=8)
    assert [each.count for each in search.suggest("sloo blue_h", HALF)][0] == 7
    assert search.suggest("status:deleted blue_h", HALF)
    assert search.suggest("profile:nobodys blue_h", HALF)
    assert search.suggest('source:"x y blue_h', HALF) == []


def test_suggest_offers_ones_own_saved_searches_and_profiles(tags):
    anna = User.objects.get(username="anna")
    SavedSearch.objects.create(owner=anna, name="hair", query="blue_hair")
    Profile.objects.create(owner=anna, key="mine", name="Mine", overall=0.9)
    [found] = search.suggest("search:h", HALF, viewer=anna)
    assert (found.value, found.count) == ("search:hair", search.count("blue_hair", HALF).number)
    assert "search:hair" in [each.value for each in search.suggest("hair", HALF, viewer=anna)]
    assert [each.value for each in search.suggest("profile:m", HALF, viewer=anna)] == ["profile:mine"]
    for text in ("search:h", "profile:m"):
        assert search.suggest(text, HALF) == search.suggest(text, HALF, viewer=AnonymousUser()) == []


def test_a_new_tag_is_suggested_before_anything_was_counted(tags):
    assert "blue_hair" in _labels("blue_h")
    new = Tag.objects.create(name="blue_hat")
    assert "blue_hat" not in _labels("blue_h")
    row = TagIndex.objects.first()
    TagIndex.objects.filter(pk=row.pk).update(
        tag_ids=[*row.tag_ids, new.pk], confidences=bytes(row.confidences) + b"\xff"
    )
    sample.forget()
    assert "blue_hat" in _labels("blue_h") and "blue_hat" in _labels("hat")


def test_what_came_since_the_sample_was_read_is_suggested(tags, monkeypatch):
    monkeypatch.setattr(sample, "SMALL_SITE", 0)
    sample.forget()
    assert "blue_hat" not in _labels("1girl blue_h")
    new = Tag.objects.create(name="blue_hat")
    row = TagIndex.objects.get(pk=search.find("1girl", HALF).post_ids[0])
    TagIndex.objects.filter(pk=row.pk).update(
        tag_ids=[*row.tag_ids, new.pk], confidences=bytes(row.confidences) + b"\xff"
    )
    assert [each.count for each in search.suggest("1girl blue_ha", HALF) if each.label == "blue_hat"] == [1]
    sample.forget()


def test_a_name_remembered_is_not_shown_when_it_is_deprecated_or_gone(tags):
    assert "wada" in _labels("wad")
    Tag.objects.filter(name="wada").update(deprecated=True)
    assert "wada" not in _labels("wad")


def test_suggest_leaves_deprecated_tags_and_empty_words_alone(tags):
    Tag.objects.filter(name="wada").update(deprecated=True)
    lexicon.forget()
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
