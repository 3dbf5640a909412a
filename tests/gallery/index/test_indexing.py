import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gallery import correcting
from gallery.index import indexing
from gallery.models import (
    Category,
    Post,
    PostStatus,
    Prediction,
    Rating,
    Release,
    Tag,
    TagAlias,
    TagChange,
    TagImplication,
    TagIndex,
    Verdict,
)
from tests.gallery.making import make_post, make_release, make_tag, predict


def index_of(post: Post) -> dict[str, int]:
    """The post's index row as {tag name: byte}."""
    row = TagIndex.objects.get(post=post)
    assert row.tag_ids == sorted(set(row.tag_ids))
    assert bytes(row.confidences)[0] == 0
    names = Tag.objects.in_bulk(row.tag_ids)
    return {names[tag_id].name: byte for tag_id, byte in zip(row.tag_ids, bytes(row.confidences)[1:], strict=True)}


@pytest.mark.django_db
def test_the_active_release_counts_else_the_newest():
    a, b, c = (make_tag(name) for name in "abc")
    first, second, third = make_release("1", active=False), make_release("2", active=False), make_release("3")
    post, other = make_post(), make_post()
    predict(post, third, {a: 1.0})
    for each in (post, other):
        predict(each, second, {b: 1.0})
        predict(each, first, {c: 1.0})
    Prediction.objects.filter(release=second).update(created_at=timezone.now() + timedelta(hours=1))
    indexing.rebuild([post.pk, other.pk])
    assert index_of(post) == {"a": 254}
    assert index_of(other) == {"b": 254}


@pytest.mark.django_db
def test_aliases_implications_and_verdicts():
    kitten, cat, animal, feline, dog = (make_tag(name) for name in ("kitten", "cat", "animal", "feline", "dog"))
    TagAlias.objects.create(name="feline", tag=cat)
    TagImplication.objects.create(tag=kitten, implied=feline)  # through the alias: cat
    TagImplication.objects.create(tag=cat, implied=animal)
    TagImplication.objects.create(tag=animal, implied=kitten)  # a cycle ends
    release, post = make_release(), make_post()
    predict(post, release, {feline: 0.5, cat: 0.25, dog: 0.9})
    Verdict.objects.create(post=post, tag=dog, answer=False)
    Verdict.objects.create(post=post, tag=kitten, answer=False)
    indexing.rebuild([post.pk])
    assert index_of(post) == {"cat": 127, "animal": 127}
    Verdict.objects.filter(tag=kitten).update(answer=True)
    indexing.rebuild([post.pk])
    assert index_of(post) == {"kitten": 255, "cat": 255, "animal": 255}
    Verdict.objects.create(post=post, tag=feline, answer=False)
    indexing.rebuild([post.pk])
    assert index_of(post) == {"kitten": 255, "animal": 255}


@pytest.mark.django_db
def test_deprecated_tags_are_on_only_when_a_person_says_so():
    old, new = make_tag("old", deprecated=True), make_tag("new")
    TagImplication.objects.create(tag=new, implied=old)
    release, post = make_release(), make_post()
    predict(post, release, {old: 1.0, new: 1.0})
    indexing.rebuild([post.pk])
    assert index_of(post) == {"new": 254}
    Verdict.objects.create(post=post, tag=old, answer=True)
    indexing.rebuild([post.pk])
    assert index_of(post) == {"old": 255, "new": 254}


@pytest.mark.django_db
def test_a_post_has_one_rating():
    tags = {rating: make_tag(rating.tag_name, Category.RATING) for rating in Rating}
    release, post, unrated = make_release(), make_post(), make_post()
    predict(post, release, {tags[Rating.GENERAL]: 0.2, tags[Rating.EXPLICIT]: 0.2, tags[Rating.SENSITIVE]: 0.1})

    def rating() -> int | None:
        indexing.rebuild([post.pk, unrated.pk])
        assert len(index_of(post)) == 1
        return TagIndex.objects.get(post=post).rating

    assert rating() == Rating.EXPLICIT  # the stricter of equals
    Verdict.objects.create(post=post, tag=tags[Rating.EXPLICIT], answer=False)
    assert rating() == Rating.GENERAL
    Verdict.objects.create(post=post, tag=tags[Rating.QUESTIONABLE], answer=True)
    assert rating() == Rating.QUESTIONABLE
    assert TagIndex.objects.get(post=unrated).rating is None


@pytest.mark.django_db
def test_deleted_posts_have_no_row():
    post = make_post()
    indexing.rebuild([post.pk])
    Post.objects.filter(pk=post.pk).update(status=PostStatus.DELETED)
    indexing.rebuild([post.pk, 10**9])
    assert not TagIndex.objects.exists()


@pytest.mark.django_db
def test_many_posts_take_few_queries(django_assert_max_num_queries):
    tag, release = make_tag("a"), make_release()
    posts = [make_post() for _ in range(50)]
    for post in posts:
        predict(post, release, {tag: 0.5})
    with django_assert_max_num_queries(12):
        indexing.rebuild([post.pk for post in posts])
    assert TagIndex.objects.filter(tag_ids=[tag.id]).count() == 50


def slow_row(names, ratings, predictions, verdicts, aliases, implications, deprecated):
    """The rules of the module's docstring, one after the other, by names, to a fixed point."""

    def real(name):
        for _ in range(20):
            name = aliases.get(name, name)
        return name

    tags = {}
    for name, byte in predictions.items():
        if real(name) not in deprecated:
            tags[real(name)] = max(byte, tags.get(real(name), 0))
    answers = {}
    for direct in (False, True):
        for name, answer in verdicts:
            if (real(name) == name) is direct:
                answers[real(name)] = answer
    tags = {name: byte for name, byte in tags.items() if answers.get(name) is not False}
    tags.update({name: 255 for name, answer in answers.items() if answer})
    reach = {name: {name} for name in names}  # reach goes through refused tags, too
    for _ in names:
        for start in names:
            for tag, implied in implications:
                if tag in reach[start]:
                    reach[start].add(real(implied))
    implied = dict(tags)
    for start, byte in tags.items():
        for name in reach[start] - {start}:
            if answers.get(name) is False or (name in deprecated and name not in answers):
                continue
            implied[name] = max(byte, implied.get(name, 0))
    implied = {name: byte for name, byte in implied.items() if byte}
    present = [name for name in implied if name in ratings]
    best = max(present, key=lambda name: (bool(answers.get(name)), implied[name], ratings[name]), default=None)
    row = {name: byte for name, byte in implied.items() if name not in ratings or name == best}
    return row, ratings.get(best)


_NAMES = [*"abcde", *(rating.tag_name for rating in Rating)]
_RATINGS = {rating.tag_name: rating for rating in Rating}
_name, _plain = st.sampled_from(_NAMES), st.sampled_from("abcde")


@pytest.mark.django_db
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    predictions=st.dictionaries(_name, st.integers(0, 254)),
    verdicts=st.lists(st.tuples(_name, st.booleans()), unique_by=lambda pair: pair[0], max_size=5),
    alias=st.one_of(st.just({}), st.tuples(_plain, _plain).map(lambda pair: dict([pair]))),
    implications=st.sets(st.tuples(_name, _name).filter(lambda pair: pair[0] != pair[1]), max_size=6),
    deprecated=st.sets(_plain, max_size=2),
)
def test_rows_equal_a_slow_reference(predictions, verdicts, alias, implications, deprecated):
    for model in (Post, Tag):
        model.objects.all().delete()
    tags = {
        name: make_tag(name, Category.RATING if name in _RATINGS else Category.GENERAL, deprecated=name in deprecated)
        for name in _NAMES
    }
    for name, target in alias.items():
        TagAlias.objects.create(name=name, tag=tags[target])
    for tag, implied in implications:
        TagImplication.objects.create(tag=tags[tag], implied=tags[implied])
    post = make_post()
    release = Release.objects.first() or make_release()
    predict(
        post, release, {tags[name]: (byte + 0.5) / 254 if byte < 254 else 1.0 for name, byte in predictions.items()}
    )
    for name, answer in verdicts:
        Verdict.objects.create(post=post, tag=tags[name], answer=answer)
    indexing.rebuild([post.pk])
    expected = slow_row(_NAMES, _RATINGS, predictions, verdicts, alias, implications, deprecated)
    assert (index_of(post), TagIndex.objects.get(post=post).rating) == expected


@pytest.mark.django_db(transaction=True)
def test_two_changes_of_one_post_at_once_both_count():
    post, tags = make_post(), [make_tag(name) for name in "abcdef"]
    start = threading.Barrier(len(tags))

    def say_yes(tag: Tag) -> None:
        start.wait()
        correcting.record(post, tag, True, None)
        connection.close()

    threads = [threading.Thread(target=say_yes, args=(tag,)) for tag in tags]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert index_of(post) == {tag.name: 255 for tag in tags}


@pytest.mark.django_db
def test_a_row_keeps_what_the_release_said_where_the_index_says_otherwise():
    hat, cat, dog, animal, alias = (make_tag(name) for name in ("hat", "cat", "dog", "animal", "chapeau"))
    TagImplication.objects.create(tag=cat, implied=animal)
    TagAlias.objects.create(name="chapeau", tag=hat)
    release, post = make_release(), make_post()
    predict(post, release, {hat: 0.5, alias: 0.75, cat: 0.5})
    indexing.rebuild([post.pk])
    assert TagIndex.objects.get(post=post).overruled == [animal.id << 8]
    Verdict.objects.create(post=post, tag=hat, answer=False)
    Verdict.objects.create(post=post, tag=dog, answer=True)
    indexing.rebuild([post.pk])
    assert TagIndex.objects.get(post=post).overruled == sorted([hat.id << 8 | 190, dog.id << 8, animal.id << 8])
    Verdict.objects.all().delete()
    TagImplication.objects.all().delete()
    indexing.rebuild([post.pk])
    assert TagIndex.objects.get(post=post).overruled is None


@pytest.mark.django_db
def test_a_row_that_stays_the_same_is_not_written():
    tag, release, post = make_tag("a"), make_release(), make_post()
    predict(post, release, {tag: 0.5})
    indexing.rebuild([post.pk])
    before, changes = TagIndex.objects.get(post=post).updated_at, TagChange.objects.count()
    indexing.rebuild([post.pk])
    assert (TagIndex.objects.get(post=post).updated_at, TagChange.objects.count()) == (before, changes)
