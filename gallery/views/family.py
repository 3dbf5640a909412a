"""The parent and the children of a post, as its page shows them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from gallery.models import Post, PostStatus
from gallery.views.blacklist import hiding


def family_context(request: HttpRequest, post: Post) -> dict[str, Any]:
    """Everything post/family.html shows."""
    family = _family(post)
    return {"family": family, "hidden": _hidden(request, post, family)}


def _family(post: Post) -> list[tuple[str, list[Post]]]:
    """The post's parent with all its children, and the post's own children; deleted ones left out."""
    if not (post.parent_id or post.has_children):
        return []
    families = [post.pk] + ([post.parent_id] if post.parent_id else [])
    rows = Post.objects.active().filter(parent__in=families).order_by("pk")
    children, siblings = [row for row in rows if row.parent_id == post.pk], []
    if post.parent and post.parent.status == PostStatus.ACTIVE:
        siblings = [row for row in rows if row.parent_id == post.parent_id]
    found = []
    if siblings or (post.parent and post.parent.status == PostStatus.ACTIVE):
        found.append(("Parent and its children" if siblings else "Parent", [post.parent, *siblings]))
    if children:
        found.append(("Children", children))
    return found


def _hidden(request: HttpRequest, post: Post, family: list[tuple[str, list[Post]]]) -> frozenset[int]:
    """Those of its family that the visitor's blacklist hides; the post itself was asked for."""
    others = {other.pk for _, posts in family for other in posts} - {post.pk}
    return hiding(request, sorted(others)).hidden
