from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.cache import SessionStore
from django.db import connection
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from gallery import profiles
from gallery.models import Category, Profile, TagIndex
from gallery.profiles import ProfileError, Thresholds
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, make_user


def visit(user=None):
    request = RequestFactory().get("/")
    request.user, request.session = user or AnonymousUser(), SessionStore()
    return request


@given(st.floats(0, 1), st.floats(0, 1))
def test_bytes_never_let_a_tag_below_its_threshold_on(confidence, threshold):
    stored = int(profiles.to_bytes(np.array([confidence]))[0])
    if stored >= profiles.threshold_byte(threshold):
        assert confidence >= threshold - 1e-6
    if confidence >= threshold + 2 / 254:
        assert stored >= profiles.threshold_byte(threshold)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 255), st.sampled_from(list(Category))), max_size=20),
    st.integers(1, 254),
    st.dictionaries(st.sampled_from([int(c) for c in Category]), st.integers(1, 254)),
    st.dictionaries(st.integers(1, 9), st.integers(1, 254)),
)
def test_on_for_arrays_says_what_byte_says_for_one_tag(rows, overall, by_category, by_tag):
    thresholds = Thresholds(overall, by_category, by_tag)
    tag_ids, confidences, categories = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    expected = [confidence >= thresholds.byte(tag_id, category) for tag_id, confidence, category in rows]
    assert profiles.on(thresholds, tag_ids, confidences.astype(np.uint8), categories).tolist() == expected


@pytest.mark.django_db
def test_tag_overrides_are_resolved_by_name():
    tag = make_tag("hat")
    thresholds = profiles.resolve(Profile(overall=0.5, by_category={"general": 0.3}, by_tag={"hat": 0.9, "gone": 1}))
    assert thresholds.byte(tag.id, Category.GENERAL) == profiles.threshold_byte(0.9)
    assert thresholds.byte(0, Category.GENERAL) == profiles.threshold_byte(0.3)
    assert thresholds.byte(0, Category.ARTIST) == 127
    assert thresholds.byte(0, Category.RATING) == 1


@pytest.mark.django_db
def test_without_a_release_the_default_is_one_half():
    assert profiles.chosen(visit()).overall == 0.5
    assert profiles.resolve(None) == Thresholds(127)
    assert profiles.choices(AnonymousUser()) == []


@pytest.mark.django_db
def test_a_choice_lasts_and_follows_the_active_release():
    old = make_release("old")
    shipped = make_site_profiles(old, overall=0.4, category_specific=0.5)
    member, visitor = make_user(), visit()
    assert profiles.chosen(visit(member)).key == "category-specific"
    profiles.choose(visit(member), shipped["overall"])
    profiles.choose(visitor, shipped["overall"])
    old.active = False
    old.save()
    new = make_release("new")
    current = make_site_profiles(new, overall=0.45, category_specific=0.5)
    assert profiles.chosen(visit(member)) == current["overall"]
    again = visit()
    again.session = visitor.session
    assert profiles.chosen(again) == current["overall"]


@pytest.mark.django_db
def test_own_profiles_are_their_owners():
    owner, stranger = make_user(), make_user()
    mine = profiles.save_own(owner, " My  own ", 0.4, {"general": 0.3})
    other = profiles.save_own(owner, "My own", 0.4, {})
    assert (mine.name, mine.key, other.key) == ("My own", "my-own", "my-own-2")
    assert profiles.choices(owner) == [mine, other]
    assert profiles.choices(stranger) == []
    for user in (stranger, AnonymousUser()):
        with pytest.raises(ProfileError, match="someone else"):
            profiles.choose(visit(user), mine)
        with pytest.raises(ProfileError, match="someone else"):
            profiles.save_own(user, "x", 0.5, {}, profile=mine)
    profiles.choose(visit(owner), mine)
    assert profiles.chosen(visit(owner)) == mine
    assert profiles.save_own(owner, "My own", 0.6, {}, profile=mine).pk == mine.pk


@pytest.mark.django_db(transaction=True)
def test_two_windows_may_save_at_once():
    owner = make_user()

    def save(_: int) -> str:
        try:
            return profiles.save_own(owner, "Mine", 0.5, {}).key
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as windows:
        keys = set(windows.map(save, range(8)))
    assert keys == {"mine", *(f"mine-{number}" for number in range(2, 9))}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "overall", "by_category", "by_tag", "message"),
    [
        ("", 0.5, {}, {}, "name"),
        ("x" * 61, 0.5, {}, {}, "name"),
        ("x", 1.5, {}, {}, "from 0 to 1"),
        ("x", float("nan"), {}, {}, "from 0 to 1"),
        ("x", 0.5, {"general": -1}, {}, "general"),
        ("x", 0.5, {"colour": 0.5}, {}, "no category called colour"),
        ("x", 0.5, {}, {"unknown_tag": 0.5}, "no tag called unknown_tag"),
    ],
)
def test_bad_profiles_are_refused(name, overall, by_category, by_tag, message):
    with pytest.raises(ProfileError, match=message):
        profiles.save_own(make_user(), name, overall, by_category, by_tag)


@pytest.mark.django_db
def test_preview_counts_what_comes_on_and_goes_off():
    hat, who = make_tag("hat"), make_tag("who", Category.CHARACTER)
    for hat_byte, who_byte in [(100, 200), (130, 255), (200, 150)]:
        confidences = bytes([0, hat_byte, who_byte])
        TagIndex.objects.create(post=make_post(), tag_ids=[hat.id, who.id], confidences=confidences)
    old, new = Thresholds(128), Thresholds(128, {Category.GENERAL: 90, Category.CHARACTER: 180})
    shown = profiles.preview(None, new, old)
    assert (shown.posts, shown.on, shown.off) == (3, 1, 1)
    assert shown.by_category[Category.GENERAL] == (1, 0)
    assert shown.by_category[Category.CHARACTER] == (0, 1)
    assert profiles.preview(None, new, old, sample=1).on == 0
    assert profiles.preview(make_user(), new).posts == 3


@pytest.mark.django_db
def test_preview_of_an_empty_site_is_zero():
    assert profiles.preview(None, Thresholds(1), Thresholds(254)).posts == 0
