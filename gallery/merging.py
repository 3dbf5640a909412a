"""What becomes of a picture that is nearly one the site has: skip it, keep both, or make one post of the two.

Until its uploader says so it is *held*: stored, its near copy as its parent, and shown to nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser
from django.core.files.storage import default_storage
from django.db import connection, models, transaction

from gallery import locking, tagging
from gallery.index import indexing
from gallery.models import THUMBNAIL_SIZES, Category, Edit, Post, PostStatus, Verdict


class Choice(models.TextChoices):
    SKIP = "skip", "skip it"
    KEEP = "keep", "keep both"
    MERGE = "merge", "merge"


class Gone(LookupError):
    """The held picture was skipped meanwhile, in another window: there is nothing left to choose for."""


@dataclass(frozen=True)
class Outcome:
    """The post that stands after a choice, and the one that does not, if there still is one."""

    kept: Post
    gone: Post | None = None


def held_by(user: AbstractBaseUser) -> models.QuerySet[Post]:
    """Pictures that wait for this person's choice, oldest first."""
    rows = Post.objects.filter(status=PostStatus.HELD, uploader=user)
    return rows.select_related("parent__uploader", "uploader").order_by("pk")


@transaction.atomic
def decide(post: Post, choice: Choice, user: AbstractBaseUser) -> Outcome:
    """Do with a held picture what its uploader chose. One that was decided meanwhile stays as it is. Raises Gone."""
    # Its parent is read after the wait for the lock: a merge meanwhile gives it another one.
    post = Post.objects.select_for_update().filter(pk=post.pk).first()
    if post is None:
        raise Gone
    if post.status != PostStatus.HELD:
        return Outcome(standing(post))
    twin = standing(post.parent) if post.parent else None
    if choice == Choice.SKIP:
        _throw_away(post)
        return Outcome(twin or post)
    if choice == Choice.MERGE and twin:
        post, twin = _locked(post, twin)
    _activate(post, twin)
    if choice == Choice.MERGE and twin and twin.status == PostStatus.ACTIVE:
        return _merge(post, twin, user)
    return Outcome(post)


def would_stay(post: Post, twin: Post, user: AbstractBaseUser) -> Post:
    """Of two near copies the one with more pixels, the older of equals; another person's post always stays."""
    larger = post.width * post.height > twin.width * twin.height
    return post if larger and twin.may_be_changed_by(user) else twin


def _locked(post: Post, twin: Post) -> tuple[Post, Post]:
    """Both rows as they are once nobody else changes them; the twin is what stands for it by then."""
    while True:
        rows = Post.objects.filter(pk__in=[post.pk, twin.pk]).order_by("pk").select_for_update()
        found = {row.pk: row for row in rows}
        post, twin = found[post.pk], found[twin.pk]
        if twin.merged_into_id is None:
            return post, twin
        twin = standing(twin)  # merged since it was read


def _merge(post: Post, twin: Post, user: AbstractBaseUser) -> Outcome:
    """One post of two locked ones: the better picture with both's verdicts. The other is deleted and points to it."""
    kept = would_stay(post, twin, user)
    gone = twin if kept == post else post
    _give_verdicts(gone, kept)
    Post.objects.filter(parent=gone).exclude(pk=kept.pk).update(parent=kept)
    _give_details(gone, kept, user)
    if kept.parent_id == gone.pk:
        kept.parent_id = gone.parent_id
    kept.save(update_fields=["source", "credit", "parent"])
    gone.status, gone.merged_into, gone.parent = PostStatus.DELETED, kept, None
    gone.save(update_fields=["status", "merged_into", "parent"])
    indexing.rebuild([post.pk, twin.pk])
    return Outcome(kept, gone)


@transaction.atomic
def take_apart(post: Post) -> None:
    """Undo a merge on the row of the one that went: whoever got verdicts from it, or through it, gives them back.

    Its children stay with the other post: which of them came from here is not noted. So do its source and credit, each
    of them an edit of that post, which can be undone there.
    """
    path = _locked_path(post)
    if not path:  # taken apart meanwhile
        return
    through = _merged_into(post)
    Verdict.objects.filter(post__in=path, merged_from__in=[post.pk, *through]).delete()
    post.merged_into, post.parent = None, path[-1]
    post.save(update_fields=["merged_into", "parent"])
    indexing.rebuild([row.pk for row in path])


def _locked_path(post: Post) -> list[Post]:
    """The posts that this one was merged into, once nobody else merges them or takes them apart."""
    locked: list[int] = []
    while True:
        path = _path(post)
        rows = sorted([post.pk, *(row.pk for row in path)])
        if rows == locked:
            return path
        # A merge writes verdicts that point to the post they came from, which no lock of the key may stop.
        found = Post.objects.filter(pk__in=rows).order_by("pk").select_for_update(no_key=True)
        locked = list(found.values_list("pk", flat=True))
        post.refresh_from_db(fields=["merged_into"])


def _merged_into(post: Post) -> set[int]:
    """Every post that was merged into this one, through several merges."""
    found: set[int] = set()
    while more := set(Post.objects.filter(merged_into__in=[post.pk, *found]).values_list("pk", flat=True)) - found:
        found |= more
    return found


def _path(post: Post) -> list[Post]:
    """The posts that this one was merged into, one into the next; empty if it was not."""
    path, seen = [], {post.pk}
    while post.merged_into_id and post.merged_into_id not in seen:
        seen.add(post.merged_into_id)
        post = Post.objects.select_related("uploader").get(pk=post.merged_into_id)
        path.append(post)
    return path


def standing(post: Post) -> Post:
    """The post that this one was merged into, through several merges; itself if it was not."""
    return [post, *_path(post)][-1]


def _activate(post: Post, twin: Post | None) -> None:
    post.status, post.parent = PostStatus.ACTIVE, twin
    post.save(update_fields=["status", "parent"])
    indexing.rebuild([post.pk])
    transaction.on_commit(tagging.wake, robust=True)


def _throw_away(post: Post) -> None:
    """Row and files; nobody but its uploader ever saw it."""
    paths = [post.file_path, *(post.thumbnail_path(size) for size in THUMBNAIL_SIZES)]
    Post.objects.filter(pk=post.pk).delete()
    transaction.on_commit(lambda: _remove(post.sha256, paths), robust=True)


@transaction.atomic
def _remove(sha256: str, paths: list[str]) -> None:
    """The files of a post that is gone, unless the same bytes have come again meanwhile: then they are that post's."""
    locking.take_turns_at_file(sha256)
    if not Post.objects.filter(sha256=sha256).exists():
        for path in paths:
            default_storage.delete(path)


def _give_details(gone: Post, kept: Post, user: AbstractBaseUser) -> None:
    """What is known of one and not of the other is said of that, too, each an edit of it; the caller stores it."""
    given = {
        detail: getattr(gone, detail)
        for detail in (Edit.Detail.SOURCE, Edit.Detail.CREDIT)
        if getattr(gone, detail) and not getattr(kept, detail)
    }
    for detail, text in given.items():
        setattr(kept, detail, text)
    Edit.objects.bulk_create(Edit(post=kept, user=user, detail=detail, after=text) for detail, text in given.items())
    if given:
        indexing.touch([kept.pk])


def _give_verdicts(gone: Post, kept: Post) -> None:
    """What was said of one is said of the other, by whom, when and of which picture; its own verdicts stand."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into verdict (post_id, tag_id, answer, user_id, at, release_id, confidence, origin, merged_from_id)"
            " select %(kept)s, v.tag_id, v.answer, v.user_id, v.at, v.release_id, v.confidence, v.origin,"
            " coalesce(v.merged_from_id, %(gone)s)"
            " from verdict v join tag t on t.id = v.tag_id where v.post_id = %(gone)s"
            " and not (v.answer and t.category = %(rating)s and exists (select from verdict o join tag r on"
            " r.id = o.tag_id where o.post_id = %(kept)s and o.answer and r.category = %(rating)s))"
            " on conflict (post_id, tag_id) do nothing",
            {"kept": kept.pk, "gone": gone.pk, "rating": int(Category.RATING)},
        )
