"""What the release said, where the index no longer lists it."""

import pytest

from gallery import search
from gallery.index import indexing
from gallery.models import Category, Rating
from gallery.profiles import Thresholds
from gallery.search.planner import Way
from tests.gallery.making import make_post, make_release, make_tag, predict


@pytest.mark.django_db
def test_a_release_with_capitals_in_its_name_is_found():
    post, tag = make_post(), make_tag("hat")
    predict(post, make_release("Camie-V1"), {tag: 0.9})
    predict(make_post(), make_release("camie-v2", active=False), {tag: 0.9})
    indexing.rebuild([post.pk])
    for text in ("release:Camie-V1", "release:camie-v1", 'release:"CAMIE-V1"'):
        assert search.find(text, Thresholds(127)).post_ids == [post.pk], text
    with pytest.raises(search.SearchError, match="Camie-V1"):
        search.find("release:camie-v3", Thresholds(127))


@pytest.mark.django_db
@pytest.mark.parametrize("way", list(Way))
def test_a_rating_that_lost_and_a_deprecated_tag_were_still_said(way):
    post, release = make_post(), make_release()
    ratings = [make_tag(rating.tag_name, Category.RATING) for rating in (Rating.GENERAL, Rating.EXPLICIT)]
    old = make_tag("old", deprecated=True)
    predict(post, release, {ratings[0]: 0.4, ratings[1]: 0.6, old: 0.9})
    indexing.rebuild([post.pk])
    for text in ("ai:rating_general,>30%", "ai:rating_explicit", "ai:old"):
        assert search.find(text, Thresholds(127), forced=way).post_ids == [post.pk], text
    assert search.find("ai:rating_general", Thresholds(127), forced=way).post_ids == []
