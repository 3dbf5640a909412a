import pytest
from django.core.cache import cache
from django.urls import reverse

from gallery import tagging
from gallery.index import indexing
from gallery.models import Category, Prediction, TagIndex, Verdict
from gallery.releases import comparing
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, predict
from tests.gallery.views.people import signed_in
from tests.gallery.working import install, upload

pytestmark = pytest.mark.django_db
KEY = "category-specific"


@pytest.fixture
def staff():
    return signed_in(is_staff=True)


@pytest.fixture
def pair():
    """Two releases that saw two posts: the first has cat and dog on, the second cat and bird."""
    cat, dog, bird = (make_tag(name) for name in ("cat", "dog", "bird"))
    hero = make_tag("hero", Category.CHARACTER)
    first = make_release("first", tags=[cat, dog, hero])
    second = make_release("second", active=False, tags=[cat, bird, hero])
    make_site_profiles(first, category_specific=0.5)
    make_site_profiles(second, category_specific=0.3)
    posts = [make_post(), make_post()]
    for post in posts:
        predict(post, first, {cat: 0.9, dog: 0.6, hero: 0.45})
        predict(post, second, {cat: 0.8, bird: 0.35, hero: 0.4})
    Verdict.objects.create(post=posts[0], tag=cat, answer=True)
    Verdict.objects.create(post=posts[0], tag=dog, answer=False)
    Verdict.objects.create(post=posts[0], tag=bird, answer=True)
    return first, second, posts


def test_each_release_is_counted_under_its_own_profile(pair):
    first, second, posts = pair
    found = comparing.compare(first, second, KEY, [post.pk for post in posts])
    total, character, general = found.parts
    assert (total.name, character.name, general.name) == ("all", "character", "general")
    assert (total.first_on, total.second_on, total.both) == (4, 6, 2)
    assert (character.first_on, character.second_on) == (0, 2)
    assert total.agreement == 2 / 8
    assert (total.first.precision, total.first.recall) == (1 / 2, 1 / 2)
    assert (total.second.precision, total.second.recall) == (1, 1)
    assert {(tag.name, number) for tag, number in found.gained} == {("bird", 2), ("hero", 2)}
    assert [(tag.name, number) for tag, number in found.lost] == [("dog", 2)]
    assert [number for _, number in found.farthest] == [3, 3]


def test_the_page_shows_both_and_links_to_the_posts(staff, pair):
    first, second, posts = pair
    page = staff.get(reverse("compare"), {"first": first.pk, "second": second.pk, "profile": KEY}).content.decode()
    assert "On 2 posts" in page and "3 verdicts" in page and "25%" in page
    assert reverse("prediction", args=[posts[0].pk, second.pk]) in page


def test_bad_choices_fall_back(staff, pair):
    page = staff.get(reverse("compare"), {"first": "x", "second": "99", "profile": "none"}).content.decode()
    assert "On 2 posts" in page
    one = pair[0].pk
    assert "two different" in staff.get(reverse("compare"), {"first": one, "second": one}).content.decode()


def test_a_post_shows_an_older_release_beside_the_active_one(client, pair):
    first, second, posts = pair
    url = reverse("prediction", args=[posts[0].pk, second.pk])
    part = client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part and part.count("<tr>") - part.count('class="visually-hidden"') == 4
    assert "80%" in part and "90%" in part
    assert "<html" in client.get(url).content.decode()
    assert url in client.get(posts[0].get_absolute_url()).content.decode()
    assert client.get(reverse("prediction", args=[posts[0].pk, 999])).status_code == 404
    assert client.post(url).status_code == 405


def test_a_deleted_posts_predictions_are_hidden(client, pair):
    posts = pair[2]
    posts[0].status = "deleted"
    posts[0].save()
    assert client.get(reverse("prediction", args=[posts[0].pk, pair[1].pk])).status_code == 404


def test_a_sample_is_tagged_by_a_release_that_is_not_active(staff, settings, tmp_path):
    settings.MEDIA_ROOT, settings.RELEASES_DIR, settings.TAGGER_THREADS = tmp_path, tmp_path / "releases", 1
    first, second = install(tmp_path / "first"), install(tmp_path / "second", seed=1, activate=False)
    post = upload(1)
    tagging.tag_waiting()
    before = TagIndex.objects.get(post=post).confidences
    cache.clear()
    answer = staff.post(reverse("prepare_sample", args=[second.pk]), {"first": first.pk}, follow=True)
    assert "still has 1 of the sample" in answer.content.decode()
    assert tagging.predict_posts(second.pk, post.pk) == 1
    assert tagging.predict_posts(second.pk, post.pk) == 0
    assert tagging.predict_posts(first.pk, post.pk) == 0
    indexing.rebuild([post.pk])
    assert Prediction.objects.filter(post=post).count() == 2
    assert bytes(TagIndex.objects.get(post=post).confidences) == bytes(before)
    page = staff.post(reverse("prepare_sample", args=[second.pk]), {"first": first.pk}, follow=True)
    assert "whole sample already" in page.content.decode()


def test_sampling_is_for_staff_and_known_releases(staff, client, pair):
    first, second, _ = pair
    url = reverse("prepare_sample", args=[second.pk])
    assert staff.get(url).status_code == 405
    assert signed_in().post(url).status_code == 403
    assert client.post(url).url.startswith("/login/")
    assert staff.post(url, {"first": "x"}).status_code == 404
    assert signed_in().get(reverse("compare")).status_code == 403
