"""What a page shows of its posts' tags is what a loop over each post's tags would."""

import random
from collections import Counter
from types import SimpleNamespace

import pytest

from gallery.index.page_rows import PageRows
from gallery.models import Category, TagIndex
from gallery.profiles import Thresholds
from gallery.search import page_tags
from tests.gallery.making import make_post, make_tag

pytestmark = pytest.mark.django_db


def shown_one_by_one(row, tags, thresholds):
    """The slow way, of one post."""
    found = [
        (byte, tags[tag_id])
        for tag_id, byte in zip(row.tag_ids, bytes(row.confidences)[1:], strict=True)
        if byte >= thresholds.byte(tag_id, tags[tag_id].category)
    ]
    return [tag.name for _, tag in sorted(found, key=lambda each: -each[0])]


@pytest.mark.parametrize("seed", range(5))
def test_shown_tags_are_those_that_are_on_most_confident_first(seed):
    chance = random.Random(seed)
    categories = [Category.GENERAL, Category.CHARACTER, Category.RATING, Category.YEAR]
    tags = {tag.pk: tag for tag in (make_tag(f"tag_{n}", chance.choice(categories)) for n in range(30))}
    posts = [make_post() for _ in range(12)]
    TagIndex.objects.all().delete()
    rows = []
    for post in posts[:-1]:  # the last one has no row, as a deleted post has none
        ids = sorted(chance.sample(sorted(tags), chance.randrange(len(tags))))
        packed = bytes([0, *(chance.randrange(1, 256) for _ in ids)])
        rows.append(TagIndex.objects.create(post=post, tag_ids=ids, confidences=packed, rating=None))
    by_tag = {tag_id: chance.randrange(1, 255) for tag_id in chance.sample(sorted(tags), 3)}
    thresholds = Thresholds(chance.randrange(1, 255), {int(Category.CHARACTER): chance.randrange(1, 255)}, by_tag)
    read = PageRows.read([post.pk for post in posts], thresholds)
    shown = {post_id: [tag.name for tag in found] for post_id, found in read.shown(thresholds).items()}
    slow = {row.post_id: shown_one_by_one(row, tags, thresholds) for row in rows}
    assert shown == slow
    beside = page_tags([post.pk for post in posts], thresholds, per_category=99, rows=read)
    frequency = Counter(name for names in slow.values() for name in names)
    assert {tag.name: count for found in beside.values() for tag, count in found} == frequency
    for found in beside.values():
        assert found == sorted(found, key=lambda each: (-each[1], each[0].name))


def test_posts_without_tags_show_none():
    post = make_post()
    TagIndex.objects.update_or_create(post=post, defaults={"tag_ids": [], "confidences": b"\0", "rating": None})
    assert PageRows.read([post.pk], Thresholds(1)).shown(Thresholds(1)) == {post.pk: []}
    assert PageRows.read([], Thresholds(1)).shown(Thresholds(1)) == {}
    assert PageRows.of_posts([SimpleNamespace()], Thresholds(1)).shown(Thresholds(1)) == {}
