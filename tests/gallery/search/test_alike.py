"""`similar:`: what it means, what it says when it can't compare, and the order it brings."""

from __future__ import annotations

import pytest
from django.core.cache import cache

from gallery import search, uploading
from gallery.index import indexing
from gallery.models import Feature, Post, PostStatus
from gallery.profiles import Thresholds
from gallery.search import alike
from tests.gallery.likeness.made import make_features
from tests.gallery.making import make_post, make_release, make_user
from tests.gallery.test_merging import drawing
from tests.gallery.test_pictures import file_of

pytestmark = pytest.mark.django_db
HALF = Thresholds(127)


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.MEDIA_ROOT = tmp_path / "media"
    cache.clear()


@pytest.fixture
def posts() -> list[Post]:
    made, _ = make_features(make_release(), 12)
    indexing.rebuild([post.pk for post in made])
    return made


def test_a_post_without_a_feature_says_so(posts):
    lone = make_post()
    page = search.find(f"similar:{lone.pk}", HALF)
    assert page.post_ids == [] and "The tagger has not looked at post" in page.notes[0]
    assert "There is no post 987654321" in search.find("similar:987654321", HALF).notes[0]


def test_near_copies_come_before_look_alikes(posts):
    stored = [uploading.store(file_of(drawing(size)), name=f"{size}.png").post for size in (400, 200)]
    indexing.rebuild([post.pk for post in stored])
    Feature.objects.create(post=stored[0], release=posts[0].features.get().release, codes=posts[0].features.get().codes)
    found = search.find(f"similar:{stored[0].pk}", HALF)
    assert found.post_ids[:2] == [stored[1].pk, posts[0].pk] and len(found.post_ids) == 13 and not found.notes
    cache.clear()
    assert search.find(f"similar:{stored[0].pk},>99%", HALF).post_ids == [stored[1].pk, posts[0].pk]


def test_only_so_many_are_meant_and_that_is_said(posts, monkeypatch):
    monkeypatch.setattr(alike, "MOST", 5)
    page = search.find(f"similar:{posts[0].pk}", HALF)
    assert len(page.post_ids) == 5
    assert page.notes == [f"The 5 posts most like post {posts[0].pk} were searched."]
    assert search.count(f"similar:{posts[0].pk}", HALF) == (5, True)
    assert len(search.find(f"-similar:{posts[0].pk}", HALF).post_ids) == 7


def test_another_order_beats_likeness(posts):
    pk = posts[0].pk
    by_likeness = search.find(f"similar:{pk}", HALF).post_ids
    assert by_likeness != sorted(by_likeness, reverse=True)
    assert search.find(f"similar:{pk} order:id", HALF).post_ids == sorted(by_likeness)
    assert search.find(f"similar:{pk} or id:{pk}", HALF).post_ids == sorted([*by_likeness, pk], reverse=True)


def test_a_deleted_post_is_known_to_its_uploader_and_the_staff_alone(posts):
    owner, staff = make_user(), make_user(is_staff=True)
    Post.objects.filter(pk=posts[0].pk).update(status=PostStatus.DELETED, uploader=owner)
    for viewer, seen in ((owner, 11), (staff, 11), (make_user(), 0), (None, 0)):
        page = search.find(f"similar:{posts[0].pk}", HALF, viewer=viewer)
        assert len(page.post_ids) == seen and bool(page.notes) == (not seen)


@pytest.mark.parametrize("text", ["similar:x", "similar:", "similar:5,", "similar:5,x", "similar:5,>200%"])
def test_a_bad_value_says_what_would_read(text):
    with pytest.raises(search.SearchError, match="does not work: give"):
        search.parse(text)
