"""Who works on which waiting post: claimed for one worker, given back when it could not be tagged.

A row says who claimed it when; nobody else takes it until it is given back, by its worker or by the sweep.
"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet

from gallery.models import Post, TaggingState


def claim(number: int, claimed_at: datetime, *, fresh_only: bool = False) -> list[Post]:
    """Up to `number` waiting posts that nobody began yet; if there are none, one that somebody did.

    A post that was begun before and never finished may have killed its worker: it goes alone, after
    all others and with nothing else in flight, so that it takes no innocent post down with it.
    """
    posts = _claim(Post.objects.waiting().filter(tagging_attempts=0), number, claimed_at)
    if not posts and not fresh_only:
        posts = _claim(Post.objects.waiting(), 1, claimed_at)
    return posts


def _claim(waiting: QuerySet[Post], number: int, claimed_at: datetime) -> list[Post]:
    with transaction.atomic():
        posts = list(waiting.select_for_update(skip_locked=True)[:number])
        if posts:
            Post.objects.filter(pk__in=[post.pk for post in posts]).update(
                tagging_state=TaggingState.TAGGING,
                tagging_attempts=F("tagging_attempts") + 1,
                tagging_started_at=claimed_at,
            )
    for post in posts:
        post.tagging_attempts += 1
    return posts


def claimed(posts: list[Post], claimed_at: datetime) -> QuerySet[Post]:
    """Those that are still ours: the sweep may have given a slow one to another worker."""
    return Post.objects.filter(
        pk__in=[post.pk for post in posts], tagging_state=TaggingState.TAGGING, tagging_started_at=claimed_at
    )


def put_back(posts: list[Post], claimed_at: datetime) -> int:
    """Posts that were claimed and not begun wait as if nobody had taken them."""
    return claimed(posts, claimed_at).update(
        tagging_state=TaggingState.WAITING, tagging_attempts=F("tagging_attempts") - 1, tagging_started_at=None
    )


def give_back(posts: QuerySet[Post], reason: str) -> int:
    """Let claimed posts wait again; those that were tried often enough fail, with the reason."""
    posts = posts.filter(tagging_state=TaggingState.TAGGING)
    tired = posts.filter(tagging_attempts__gte=settings.TAGGING_ATTEMPTS)
    failed = tired.update(tagging_state=TaggingState.FAILED, tagging_error=reason, tagging_started_at=None)
    return failed + posts.update(tagging_state=TaggingState.WAITING, tagging_error=reason, tagging_started_at=None)
