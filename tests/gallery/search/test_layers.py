"""What the release said, where the index no longer lists it."""

import pytest

from gallery import search
from gallery.index import indexing
from gallery.models import Category, Rating, TagAlias
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


@pytest.mark.django_db
def test_a_tag_that_no_tagger_may_set_says_so():
    post, tag = make_post(), make_tag("old", deprecated=True)
    predict(post, make_release(), {tag: 0.9})
    indexing.rebuild([post.pk])
    for text in ("old", "general:old"):
        page = search.find(text, Thresholds(127))
        assert (page.post_ids, page.notes) == ([], ["old is deprecated: it is on only where a person said so."]), text
    assert search.find("ai:old", Thresholds(127)).notes == []


@pytest.mark.django_db
def test_a_tag_that_is_an_alias_now_says_where_its_posts_are():
    post, cat, kitty = make_post(), make_tag("cat"), make_tag("kitty")
    TagAlias.objects.create(name="kitty", tag=cat)
    predict(post, make_release(), {kitty: 0.9})
    indexing.rebuild([post.pk])
    assert search.find("kitty", Thresholds(127)).post_ids == [post.pk]
    page = search.find("unaliased:kitty", Thresholds(127))
    assert (page.post_ids, page.notes) == ([], ["kitty is an alias of cat: posts have that tag instead."])
