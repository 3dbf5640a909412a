"""Take posts out of sight, and bring them back. Nothing is lost: file, predictions and verdicts stay."""

from __future__ import annotations

from gallery import indexing
from gallery.models import Post, PostStatus


def delete(post: Post) -> None:
    """Out of every search, list and count; the file is served to its people only."""
    _set(post, PostStatus.DELETED)


def restore(post: Post) -> None:
    _set(post, PostStatus.ACTIVE)


def _set(post: Post, status: PostStatus) -> None:
    post.status = status
    post.save(update_fields=["status"])
    indexing.rebuild([post.pk])
