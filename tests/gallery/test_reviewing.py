"""The questions of a review, against a plain walk over posts, tags and verdicts."""

import math
import random

import pytest

from gallery import correcting, reviewing
from gallery.index import indexing
from gallery.models import Category, Post, Rating, Tag, Verdict
from gallery.profiles import Thresholds, to_bytes
from tests.gallery.making import make_post, make_release, make_tag, make_user, predict

pytestmark = pytest.mark.django_db

THRESHOLDS = Thresholds(overall=100, by_category={int(Category.META): 60})


@pytest.fixture
def collection() -> tuple[dict[int, dict[int, int]], list[Tag]]:
    """Thirty posts with eight tags of chance confidences, and verdicts on some of them."""
    draw = random.Random(4)
    tags = [make_tag(f"t{n}", Category.META if n > 5 else Category.GENERAL) for n in range(8)]
    release, user = make_release(tags=tags), make_user()
    said: dict[int, dict[int, int]] = {}
    for _ in range(30):
        post = make_post()
        given = {tag: draw.random() for tag in draw.sample(tags, 5)}
        predict(post, release, given)
        indexing.rebuild([post.pk])
        said[post.pk] = {tag.pk: int(to_bytes([value])[0]) for tag, value in given.items()}
        for tag in given:
            if draw.random() < 0.25:
                correcting.record(post, tag, draw.random() < 0.5, user)
    return said, tags


def plain(said: dict[int, dict[int, int]], tags: list[Tag], asked: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Every cell in doubt, one after the other."""
    limit = {tag.pk: 60 if tag.category == Category.META else 100 for tag in tags}
    judged = {(v.post_id, v.tag_id): v for v in Verdict.objects.all()}
    doubts, answers = {}, {}
    for post, named in said.items():
        for tag, byte in named.items():
            if (post, tag) in judged or (post, tag) in asked:
                continue
            same = [
                v for v in judged.values() if v.tag_id == tag and (v.confidence >= limit[tag]) == (byte >= limit[tag])
            ]
            wrong = sum(v.answer != (v.confidence >= limit[tag]) for v in same)
            near = 0.5 * math.exp(-abs(byte - limit[tag]) / 254 / 0.15)
            doubts[post, tag] = (wrong + 4 * near) / (len(same) + 4)
            answers[post, tag] = len(same)
    worth = {}
    for (post, tag), doubt in doubts.items():
        before = sum((other, p) > (doubt, post) for (p, same), other in doubts.items() if same == tag)
        worth[post, tag] = doubt * 0.9**before / (1 + answers[post, tag] / 5)
    return sorted(worth, key=lambda pair: (-worth[pair], -pair[0], pair[1]))


def test_the_questions_are_those_of_a_plain_walk(collection) -> None:
    said, tags = collection
    found = [question.pair for question in reviewing.questions(THRESHOLDS, limit=1000)]
    assert found == plain(said, tags, set())
    asked = set(found[:7])
    again = [question.pair for question in reviewing.questions(THRESHOLDS, limit=10, without=asked)]
    assert again == plain(said, tags, asked)[:10]


def test_a_tag_that_was_wrong_before_is_asked_about_however_sure_the_tagger_is() -> None:
    wrong, fine = make_tag("wrong"), make_tag("fine")
    release, user = make_release(tags=[wrong, fine]), make_user()
    posts = [make_post() for _ in range(4)]
    for post in posts:
        predict(post, release, {wrong: 0.95, fine: 0.95})
    indexing.rebuild([post.pk for post in posts])
    for post in posts[:3]:
        correcting.record(post, wrong, False, user)
        correcting.record(post, fine, True, user)
    first, second = reviewing.questions(THRESHOLDS)
    assert (first.tag_id, second.tag_id) == (wrong.pk, fine.pk) and first.on
    assert first.doubt > 0.4 > 0.1 > second.doubt


def test_a_tag_that_is_always_wrong_leaves_room_for_others() -> None:
    wrong, unsure = make_tag("wrong"), make_tag("unsure")
    release, user = make_release(tags=[wrong, unsure]), make_user()
    posts = [make_post() for _ in range(30)]
    for post in posts:
        predict(post, release, {wrong: 0.95, unsure: 0.4})
    indexing.rebuild([post.pk for post in posts])
    for post in posts[:10]:
        correcting.record(post, wrong, False, user)
    found = [question.tag_id for question in reviewing.questions(THRESHOLDS, limit=10)]
    assert found.count(unsure.pk) >= 5 and found.count(wrong.pk) >= 2


def test_a_search_narrows_it_and_neither_ratings_nor_years_are_asked() -> None:
    tag, rating = make_tag("t"), make_tag(Rating.GENERAL.tag_name, Category.RATING)
    year = make_tag("year_2020", Category.YEAR)
    release = make_release(tags=[tag, rating, year])
    posts = [make_post(width=100 * n) for n in (1, 2)]
    for post in posts:
        predict(post, release, {tag: 0.4, rating: 0.9, year: 0.4})
    indexing.rebuild([post.pk for post in posts])
    assert {q.tag_id for q in reviewing.questions(THRESHOLDS)} == {tag.pk}
    assert [q.post_id for q in reviewing.questions(THRESHOLDS, "width:200")] == [posts[1].pk]


def test_an_empty_site_has_no_questions() -> None:
    assert not Post.objects.exists() and reviewing.questions(THRESHOLDS) == []
