"""Change what is said of a post beside its tags: source, credit and parent. Each change is kept and can be undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction

from gallery import locking, merging
from gallery.index import indexing
from gallery.models import Edit, Post, PostStatus

_FAMILIES = 0x66_61_6D_69  # any number that no other advisory lock of the site uses
_PARENT = Edit.Detail.PARENT


class BadEdit(ValueError):
    """A change that can't be made: one sentence for the person, and the detail that it is about, if one."""

    def __init__(self, sentence: str, detail: str = "") -> None:
        super().__init__(sentence)
        self.detail = detail


@dataclass(frozen=True)
class Change:
    """One edit of a post, and whether the post is still as it left it."""

    edit: Edit
    stands: bool


def value(post: Post, detail: str) -> str:
    """A detail of a post as an edit writes it."""
    if detail == _PARENT:
        return str(post.parent_id or "")
    return getattr(post, detail)


@transaction.atomic
def change(post: Post, wanted: Mapping[str, str], user: AbstractBaseUser | None) -> list[Edit]:
    """Give these details of a post these values, and return what that changed. All or nothing; raises BadEdit.

    A parent is given as its number, none as nothing. Search asks the post's own row, so the next one knows it.
    """
    post, parent = _locked(post, wanted.get(_PARENT, ""))
    if post.status != PostStatus.ACTIVE:
        raise BadEdit("The post was deleted meanwhile: restore it first.")
    edits = [
        Edit(post=post, user=user, detail=detail, before=value(post, detail), after=text)
        for detail, text in wanted.items()
        if text != value(post, detail)
    ]
    for edit in edits:
        if edit.detail != _PARENT:
            setattr(post, edit.detail, edit.after)
            continue
        if edit.after:
            _check_parent(post, parent, edit.after)
        post.parent = parent
    if edits:
        post.save(update_fields=[edit.detail for edit in edits])
        Edit.objects.bulk_create(edits)
        indexing.touch([post.pk])
    return edits


@transaction.atomic
def undo(edit: Edit, user: AbstractBaseUser | None) -> list[Edit]:
    """Give a detail back the value it had before an edit, which is an edit, too. Raises BadEdit."""
    post, _ = _locked(edit.post, edit.before if edit.detail == _PARENT else "")
    if value(post, edit.detail) != edit.after:
        raise BadEdit(f"The {edit.detail} was changed again since: see below what it is now.", edit.detail)
    return change(post, {edit.detail: edit.before}, user)


def changes(post: Post, most: int = 50) -> list[Change]:
    """What was changed of a post, the newest first."""
    found, seen = [], set()
    for edit in post.edits.select_related("user").order_by("-pk")[:most]:
        found.append(Change(edit, edit.detail not in seen and value(post, edit.detail) == edit.after))
        seen.add(edit.detail)
    return found


def _locked(post: Post, parent: str) -> tuple[Post, Post | None]:
    """The post and who shall be its parent, as they are once nobody else changes, merges or deletes them."""
    if parent:
        locking.take_turns(_FAMILIES)  # two edits at once, each without a circle, could make one together
    ids = {post.pk, int(parent or post.pk)}
    rows = {row.pk: row for row in Post.objects.filter(pk__in=ids).order_by("pk").select_for_update(no_key=True)}
    return rows[post.pk], rows.get(int(parent)) if parent else None


def _check_parent(post: Post, parent: Post | None, number: str) -> None:
    """Raises BadEdit unless the one can be the parent of the other."""
    if parent == post:
        raise BadEdit("A post can't be its own parent: write the number of another one, or nothing.", _PARENT)
    if parent is None or parent.status == PostStatus.HELD:
        raise BadEdit(f"There is no post {number}: look up the number in the address of its page.", _PARENT)
    if parent.merged_into_id:
        kept = merging.standing(parent)
        raise BadEdit(f"Post {number} was merged into post {kept.pk}: write that number.", _PARENT)
    if parent.status == PostStatus.DELETED:
        raise BadEdit(f"Post {number} is deleted: write the number of another one, or nothing.", _PARENT)
    if _comes_from(parent, post):
        raise BadEdit(
            f"Post {number} is a child of this post, or of a child of it: change that first, or write another number.",
            _PARENT,
        )


def _comes_from(post: Post, ancestor: Post) -> bool:
    """Whether one finds the ancestor going from parent to parent."""
    with connection.cursor() as cursor:
        cursor.execute(
            "with recursive line (id, parent_id) as (select id, parent_id from post where id = %s"
            " union select p.id, p.parent_id from post p join line on p.id = line.parent_id)"
            " select exists (select from line where id = %s)",
            [post.pk, ancestor.pk],
        )
        return cursor.fetchone()[0]
