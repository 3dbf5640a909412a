"""`similar:123`: the posts most like a post, near copies first. A list of them keeps that order unless told another."""

from __future__ import annotations

import numpy as np
from django.core.cache import cache

from gallery.likeness import copies
from gallery.likeness import search as likeness
from gallery.models import Post, PostStatus
from gallery.search.orders import Order
from gallery.search.predicates import NOTHING, Condition, Predicate
from gallery.search.terms import Context, Field
from gallery.search.values import BadValue, Ranges, Sql, percent, read_ranges, whole

MOST = 100  # posts that one term means
_KEPT_SECONDS = 300  # so a list stays as it is from page to page

Value = tuple[int, Ranges]
Likeness = list[tuple[int, float]]  # post and cosine, near copies first with 1


def read(text: str) -> Value:
    """`123`, or `123,>50%` for those that are as like; raises BadValue."""
    number, comma, confidence = text.partition(",")
    try:
        post_id = whole(number.strip()).start
    except BadValue:
        raise BadValue("give the number of a post, as in similar:123 or similar:123,>50%") from None
    return post_id, read_ranges(confidence, percent) if comma else ()


def condition(value: Value, context: Context) -> Predicate:
    found = posts_like(value, context)
    return Condition(Sql("i.post_id = any(%s)", (found,)), selective=True) if found else NOTHING


def order_by_likeness(value: Value, context: Context) -> Order:
    """The order of a search that must be like a post and names no other order."""
    key = Sql("coalesce(array_position(%s::bigint[], i.post_id), 2147483647)", (posts_like(value, context),))
    return Order(f"similar_{value[0]}", (key,), ("int",), descending=False)


def posts_like(value: Value, context: Context) -> tuple[int, ...]:
    """The posts that a term means, the most alike first; looked for once in a search."""
    if value not in context.known:
        context.known[value] = _posts_like(value, context)
    return context.known[value]


def _posts_like(value: Value, context: Context) -> tuple[int, ...]:
    post_id, ranges = value
    post = Post.objects.filter(pk=post_id).first()
    if post is None or not (post.status == PostStatus.ACTIVE or _may_see(post, context)):
        context.names.note(f"There is no post {post_id}: give similar: the number of one.")
        return ()
    near, alike = _compared(post)
    if alike is None:
        context.names.note(
            f"The tagger has not looked at post {post_id} yet, or its release can't compare pictures:"
            " only near copies were searched."
        )
    found = near + [each for each in alike or [] if each[0] not in dict(near)]
    if ranges:
        cosines = np.array([cosine for _, cosine in found])
        kept = np.logical_or.reduce([each.mask(cosines) for each in ranges])
        found = [each for each, keep in zip(found, kept, strict=True) if keep]
    if len(found) > MOST:
        context.names.note(f"The {MOST} posts most like post {post_id} were searched.")
    return tuple(pk for pk, _ in found[:MOST])


def _may_see(post: Post, context: Context) -> bool:
    return context.viewer is not None and post.may_be_changed_by(context.viewer)


def _compared(post: Post) -> tuple[Likeness, Likeness | None]:
    """Near copies and look-alikes of a post; no look-alikes where no release has a feature of it."""
    key = f"similar-to:{post.pk}"
    if (kept := cache.get(key)) is not None:
        return kept
    near = [(each.post.pk, 1.0) for each in copies.of_post(post)]
    alike = likeness.of_post(post, MOST + 1)
    if alike is None:
        return near, None
    found = near, [(each.post_id, min(1.0, each.likeness)) for each in alike]
    cache.set(key, found, _KEPT_SECONDS)
    return found


SIMILAR = Field(read, condition)
