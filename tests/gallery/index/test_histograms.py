from __future__ import annotations

import random

import numpy as np
import pytest
from django.core.cache import cache
from django.db import connection

from gallery.index import histograms, indexing
from gallery.models import Post, PostStatus, Prediction, Tag, TagChange, TagIndex
from gallery.profiles import to_bytes
from tests.gallery.making import make_post, make_release, make_tag, predict


@pytest.fixture(autouse=True)
def nothing_remembered():
    cache.clear()


@pytest.mark.django_db
def test_all_is_counted_anew_when_asked():
    hat, cat, gone = make_tag("hat"), make_tag("cat"), make_tag("gone", histogram=[3] + [0] * 255, post_count=3)
    for byte in (100, 100, 255):
        TagIndex.objects.create(post=make_post(), tag_ids=[hat.id, cat.id], confidences=bytes([0, byte, 7]))
    TagIndex.objects.create(post=make_post())
    assert histograms.refresh(force=True)
    hat.refresh_from_db()
    cat.refresh_from_db()
    gone.refresh_from_db()
    assert (hat.histogram[100], hat.histogram[255], sum(hat.histogram), hat.post_count) == (2, 1, 3, 3)
    assert (cat.histogram[7], gone.histogram, gone.post_count) == (3, None, 0)
    assert histograms.indexed_posts() == 4


@pytest.mark.django_db
def test_changes_are_taken_in_and_nothing_is_done_without_any():
    histograms.refresh()
    tag, release, post = make_tag("a"), make_release(), make_post()
    predict(post, release, {tag: 0.5})
    indexing.rebuild([post.pk])
    assert histograms.refresh()
    assert not histograms.refresh()
    tag.refresh_from_db()
    assert (tag.histogram[127], tag.post_count) == (1, 1)
    Post.objects.filter(pk=post.pk).update(status=PostStatus.DELETED)
    indexing.rebuild([post.pk])
    assert histograms.refresh()
    tag.refresh_from_db()
    assert (tag.histogram, tag.post_count) == (None, 0)


@pytest.mark.django_db
def test_many_changes_add_up_to_a_count_of_everything():
    chance = random.Random(3)
    tags, release = [make_tag(f"tag{n}") for n in range(12)], make_release()
    posts = [make_post() for _ in range(15)]
    for _ in range(6):
        for post in chance.sample(posts, 6):
            Prediction.objects.filter(post=post).delete()
            predict(post, release, {tag: chance.random() for tag in chance.sample(tags, 5)})
            Post.objects.filter(pk=post.pk).update(status=chance.choice(PostStatus.values))
        indexing.rebuild([post.pk for post in posts])
        if chance.random() < 0.5:
            histograms.refresh()
    histograms.refresh()
    kept = dict(Tag.objects.values_list("id", "histogram"))
    histograms.refresh(force=True)
    assert dict(Tag.objects.values_list("id", "histogram")) == kept
    assert any(kept.values())


@pytest.mark.django_db(transaction=True)
def test_a_count_and_what_is_written_meanwhile_are_of_one_moment(monkeypatch):
    """A post that is indexed while all are counted is in the histogram once, after the next refresh."""
    tag, release, early, late = make_tag("a"), make_release(), make_post(), make_post()
    for post in (early, late):
        predict(post, release, {tag: 1.0})
    indexing.rebuild([early.pk])
    count = histograms._count_all

    def counted_while_somebody_writes() -> tuple[np.ndarray, np.ndarray]:
        _elsewhere(lambda: indexing.rebuild([late.pk]))
        return count()

    monkeypatch.setattr(histograms, "_count_all", counted_while_somebody_writes)
    TagChange.objects.create()
    assert histograms._take()
    tag.refresh_from_db()
    assert tag.post_count == 1
    histograms.refresh()
    tag.refresh_from_db()
    assert (tag.post_count, tag.histogram[254]) == (2, 2)


def _elsewhere(act) -> None:
    """Do something on a connection of its own."""
    import threading

    def run() -> None:
        try:
            act()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@pytest.mark.django_db
def test_rows_come_packed():
    rows = [([3, 70_000], [0.5, 1.0]), ([], []), ([9], [0.25])]
    for tag_ids, confidences in rows:
        packed = b"\0" + to_bytes(np.array(confidences)).tobytes()
        TagIndex.objects.create(post=make_post(), tag_ids=tag_ids, confidences=packed)
    (found,) = histograms.packed_rows("select tag_ids, confidences from tag_index order by post_id")
    assert [part.tolist() for part in found] == [[3, 70_000, 9], [2, 0, 1], [127, 254, 63]]
