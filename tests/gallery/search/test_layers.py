"""What the release said, where the index no longer lists it."""

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from gallery import correcting, search
from gallery.index import indexing
from gallery.models import Category, Rating, TagAlias
from gallery.profiles import Thresholds
from gallery.search import tagcounts
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
    TagAlias.objects.create(name="cats", tag=cat)  # which never was a tag
    page = search.find("unaliased:cats", Thresholds(127))
    assert (page.post_ids, page.notes) == ([], ["cats is an alias of cat: posts have that tag instead."])


@pytest.mark.django_db
def test_tags_are_counted_only_as_far_as_the_number_matters():
    """Reading the category of each tag of each post would take minutes on a large site."""
    post, release, tags = make_post(), make_release(), [make_tag(f"tag_{number}") for number in range(30)]
    predict(post, release, dict.fromkeys(tags, 0.9))
    indexing.rebuild([post.pk])
    with CaptureQueriesContext(connection) as asked:
        assert search.find("tagcount:3..5,<2", Thresholds(127)).post_ids == []
    [statement] = [query["sql"] for query in asked if "unnest(i.tag_ids)" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"explain (analyze, timing off) {statement}".replace("%", "%%"))
        plan = [line for (line,) in cursor.fetchall()]
    assert any("Limit" in line and "rows=6" in line.partition("actual")[2] for line in plan), plan
    assert not any(" on tag t" in line for line in plan), plan


@pytest.mark.django_db
@pytest.mark.parametrize("most", [1 << 20, 1])
def test_a_search_for_many_numbers_of_tags_sends_their_bytes_a_few_times_at_most(most, monkeypatch):
    """With millions of tags, a hundred times would take a minute."""
    monkeypatch.setattr(tagcounts, "_SENT_MOST", most)
    tags = {make_tag("hat"): 0.9, make_tag("cat"): 0.4, make_tag("dog"): 0.6, make_tag("wada", Category.ARTIST): 0.9}
    post, other = make_post(), make_post()
    predict(post, make_release(), tags)
    indexing.rebuild([post.pk, other.pk])
    strict = Thresholds(127, {int(Category.GENERAL): 100}, {next(iter(tags)).pk: 250})
    terms = [f"-gentags:{number}" for number in (0, 1, 3, 4)]
    with CaptureQueriesContext(connection) as asked:
        found = search.find(" ".join(["gentags:2..", *terms, "gentags:<3 arttags:>0,9 tagcount:3"]), strict).post_ids
    assert found == [post.pk]
    [statement] = [query["sql"] for query in asked if "unnest(i.tag_ids)" in query["sql"]]
    assert (statement.count("least(u.tag_id"), statement.count("join tag t")) == ((8, 0) if most > 1 else (1, 7))
    assert sum("max(id)" in query["sql"] for query in asked) <= 4  # for three kinds, and once to read tags
    assert search.find("gentags:3 tagcount:4", Thresholds(127, {int(Category.GENERAL): 100}, {})).post_ids == [post.pk]
    assert search.find("gentags:0 tagcount:0 arttags:..0", strict).post_ids == [other.pk]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text", ["gentags:2", "gentags:>1", "gentags:2..3", "gentags:<3,9..", "arttags:1", "-gentags:<2"]
)
def test_a_new_tag_is_counted_at_once(text):
    post, release = make_post(), make_release()
    hat, cat = make_tag("hat"), make_tag("cat")
    predict(post, release, {hat: 0.9, cat: 0.2})
    indexing.rebuild([post.pk])
    assert search.find("gentags:1 arttags:0 tagcount:..1", Thresholds(127)).post_ids == [post.pk]
    for name in ("dog", "artist:wada"):
        correcting.add(post, name, None)
    assert search.find(text, Thresholds(127)).post_ids == [post.pk]
    assert search.find("gentags:2", Thresholds(127, {}, {hat.pk: 240})).post_ids == []
    assert search.find("order:gentags", Thresholds(127)).post_ids == [post.pk]


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["gentags:2", "order:gentags"])
def test_tags_are_counted_while_others_make_tags(text, monkeypatch):
    """Tags are made behind every statement that reads them."""
    post, release = make_post(), make_release()
    predict(post, release, {make_tag("hat"): 0.9, make_tag("cat"): 0.9})
    indexing.rebuild([post.pk])
    monkeypatch.setattr(tagcounts, "_known", tagcounts._Categories(np.zeros(0, np.int8), 0.0))
    made = []

    def between(execute, sql, *rest):
        result = execute(sql, *rest)
        if "max(id)" in sql:
            with connection.connection.cursor() as other:
                made.append(f"made_{len(made)}")
                columns = "(name, category, description, deprecated, post_count)"
                other.execute(f"insert into tag {columns} values (%s, 0, '', false, 0)", made[-1:])
        return result

    with connection.execute_wrapper(between):
        assert search.find(text, Thresholds(127)).post_ids == [post.pk]
    assert made
