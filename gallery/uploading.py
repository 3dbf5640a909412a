"""Take a file in: verify, hash, refuse copies, store, thumbnails, mark as waiting for the tagger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.db import transaction
from PIL import Image

from gallery import locking, merging, pictures, tagging
from gallery.index import indexing
from gallery.likeness import copies
from gallery.likeness.copies import NearCopy
from gallery.models import THUMBNAIL_SIZES, Post, PostStatus, TagIndex

_CHUNK = 1 << 20
_NEAR_COPIES = 0x6E_65_61_72  # any number that no other advisory lock of the site uses
KEEP_ALL = ""  # near copies are not looked for
ASK = "ask"


class Refused(ValueError):
    """A file that was not taken; the text is one sentence for the person who sent it."""


@dataclass(frozen=True)
class Stored:
    post: Post
    created: bool  # False: the site had this very file already, or it was skipped for a near copy
    near: tuple[NearCopy, ...] = ()  # posts that show nearly the same


def store(
    file: BinaryIO,
    *,
    name: str = "",
    uploader: AbstractBaseUser | None = None,
    source: str = "",
    credit: str = "",
    near: str = KEEP_ALL,
) -> Stored:
    """Make a post of a file open for reading. Raises Refused, and then nothing is stored.

    `near` says what to do with a near copy of a picture that the site has: nothing, a choice of `merging`, or `ASK`,
    which holds it until its uploader chooses.

    A copy (the same bytes) finds the existing post. A deleted one is restored for those who may
    restore it anyway, staff and mostly its uploader, and refused to everybody else.
    """
    sha256, md5, size = _digest(file)
    if known := _again(sha256, uploader):
        return known
    try:
        picture = pictures.inspect(file, THUMBNAIL_SIZES)
    except pictures.BadPicture as error:
        raise Refused(str(error)) from error
    post = Post(
        sha256=sha256,
        md5=md5,
        file_size=size,
        ext=picture.ext,
        width=picture.width,
        height=picture.height,
        animated=picture.animated,
        perceptual_hash=picture.perceptual_hash,
        file_name=_clean_name(name or str(getattr(file, "name", "") or "")),
        source=source.strip(),
        credit=credit.strip(),
        uploader_id=uploader.pk if uploader else None,
    )
    with transaction.atomic():
        locking.take_turns_at_file(sha256)
        if known := _again(sha256, uploader):
            return known
        twins = _near_copies(picture) if near != KEEP_ALL and uploader else ()
        if twins and near == merging.Choice.SKIP:
            return Stored(twins[0].post, created=False, near=twins)
        if twins:
            post.status, post.parent = PostStatus.HELD, twins[0].post
        _write(post, file, picture)
        if twins and near != ASK:
            post = merging.decide(post, merging.Choice(near), uploader).kept
    return Stored(post, created=True, near=twins)


def _near_copies(picture: pictures.Picture) -> tuple[NearCopy, ...]:
    locking.take_turns(_NEAR_COPIES)  # of two that come at one moment, the second finds the first
    with Image.open(picture.thumbnail()) as thumbnail:
        return tuple(copies.of_picture(picture.perceptual_hash, thumbnail))


def delete(post: Post, by: AbstractBaseUser | None = None) -> None:
    """Take a post out of every list and search; its file and its verdicts stay, to restore it.

    Another person's post that the staff delete stays deleted until the staff restore it.
    """
    by_staff = by is not None and by.is_staff and by.pk != post.uploader_id
    still = post.status == PostStatus.DELETED and post.deleted_by_staff
    _set_status(post, PostStatus.DELETED, by_staff or still)


def restore(post: Post) -> None:
    """Bring a deleted post back, as it was; of one that was merged the other gives back what it got."""
    with transaction.atomic():
        if post.merged_into_id:
            merging.take_apart(post)
        _set_status(post, PostStatus.ACTIVE)
    transaction.on_commit(tagging.wake, robust=True)


@transaction.atomic
def _set_status(post: Post, status: PostStatus, deleted_by_staff: bool = False) -> None:
    post.status, post.deleted_by_staff = status, deleted_by_staff
    post.save(update_fields=["status", "deleted_by_staff"])
    indexing.rebuild([post.pk])


def _again(sha256: str, uploader: AbstractBaseUser | None) -> Stored | None:
    """What becomes of a file that the site has already; None when it has not."""
    post = Post.objects.filter(sha256=sha256).first()
    if post is None:
        return None
    if post.status == PostStatus.HELD:
        if uploader and uploader.pk == post.uploader_id:
            return Stored(post, created=True)
        try:
            return Stored(merging.decide(post, merging.Choice.KEEP, post.uploader).kept, created=False)
        except merging.Gone:  # its uploader skips it at this moment
            return None
    post = merging.standing(post)
    if post.status == PostStatus.DELETED:
        if not (uploader and post.may_be_restored_by(uploader)):
            raise Refused("This picture was deleted from the site: ask its staff to restore it.")
        restore(post)
    return Stored(post, created=False)


def _digest(file: BinaryIO) -> tuple[str, str, int]:
    """sha256, md5 and size, read in pieces. Refuses empty and too large files."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    for chunk in _chunks(file):
        size += len(chunk)
        if size > settings.UPLOAD_MAX_MB * 1024 * 1024:
            raise Refused(f"The file is too large: send one of at most {settings.UPLOAD_MAX_MB} MB.")
        sha256.update(chunk)
        md5.update(chunk)
    if size == 0:
        raise Refused("The file is empty: choose a picture.")
    return sha256.hexdigest(), md5.hexdigest(), size


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK):
        yield chunk


def _clean_name(name: str) -> str:
    base = PurePosixPath(name.replace("\\", "/")).name
    return "".join(character for character in base if character.isprintable())[:255]


def _write(post: Post, file: BinaryIO, picture: pictures.Picture) -> None:
    """Files, row and empty index row; when the row fails, the files go again.

    Nobody else owns these paths: they are named by the content, and the caller holds its lock. A
    file already there was left by a process that died, perhaps half written.
    """
    files = {post.file_path: File(file)}
    files |= {post.thumbnail_path(size): ContentFile(webp) for size, webp in picture.thumbnails.items()}
    try:
        for path, content in files.items():
            default_storage.delete(path)
            content.seek(0)
            default_storage.save(path, content)
        post.save()
        if post.status == PostStatus.ACTIVE:
            TagIndex.objects.create(post=post)
    except BaseException:
        for path in files:
            default_storage.delete(path)
        raise
    transaction.on_commit(tagging.wake, robust=True)
