"""Make a release the site's: its vocabulary and shipped profiles into rows, and one release active."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import DataError, connection, transaction
from django.db.models import Count, Exists, OuterRef
from django.utils import timezone

from gallery import locking, reindexing, tagging
from gallery.index import indexing
from gallery.likeness import matrix, vectors
from gallery.models import Category, Post, PostStatus, Prediction, Preference, Profile, Release, Tag, typed_name
from gallery.tagging import ReleaseError, ReleaseFolder, read_release, site_profiles

__all__ = ["ReleaseError", "install", "loss", "remove", "rebuild_after_change", "use"]

_INSTALL_LOCK = 0x7265_6C65  # any number that no other advisory lock of the site uses


def install(folder: Path | str, *, activate: bool = False, move: bool = False) -> Release:
    """Copy a release folder into the site's and make its rows. The same release again is found, not made twice.

    With `move` the folder itself goes there, for one that was only just received.
    A tag that exists in another category keeps its row and category. Raises ReleaseError.
    """
    source = _read(folder)
    _refuse_long(source)
    with transaction.atomic():
        locking.take_turns(_INSTALL_LOCK)
        release = Release.objects.filter(name=source.name).first()
        if release and release.config != source.config:
            raise ReleaseError(
                f"Another release called {source.name} is installed already: publish this one under a new name."
            )
        target = _copy(source, move)
        if release is None:
            release = _rows_or_no_folder(source, target)
        elif release.path != target:
            release.folder = str(target)
            release.save(update_fields=["folder"])
    if activate:
        use(release)
    return release


def use(release: Release) -> None:
    """Make this the one active release and wake the posts that wait for one. Raises ReleaseError.

    Posts that it has not seen keep the tags of older releases until they are tagged again.
    """
    read_release(release.path)
    with transaction.atomic():
        locking.take_turns(_INSTALL_LOCK)
        Release.objects.filter(active=True).exclude(pk=release.pk).update(active=False)
        Release.objects.filter(pk=release.pk).update(active=True, activated_at=timezone.now())
        transaction.on_commit(_after_change)
    release.refresh_from_db()


def _read(folder: Path | str) -> ReleaseFolder:
    try:
        return read_release(Path(folder).expanduser().resolve())
    except (OSError, RuntimeError, UnicodeError) as error:  # nobody's home, links in a circle, not for us to read
        raise ReleaseError(f"The folder {folder} can't be read ({error}): check the path.") from error


def _after_change() -> None:
    tagging.wake()
    if _changed_posts().exists() and not tagging.send("rebuild_after_change"):
        rebuild_after_change()


def rebuild_after_change() -> int:
    """Rebuild the index of posts for which another prediction counts now; returns how many."""
    ids = list(_changed_posts().values_list("pk", flat=True))
    indexing.rebuild(ids)
    return len(ids)


@dataclass(frozen=True)
class Loss:
    """What goes with a release: on how many posts it predicted, and how many no other release has seen."""

    predictions: int
    only: int
    profiles: int


def loss(release: Release) -> Loss:
    """What removing it would take."""
    others = Prediction.objects.filter(post=OuterRef("post")).exclude(release=release)
    mine = release.predictions.filter(post__status=PostStatus.ACTIVE)
    return Loss(mine.count(), mine.filter(~Exists(others)).count(), Profile.objects.filter(release=release).count())


def remove(release: Release) -> int:
    """Delete a release with its predictions, profiles and files; returns for how many posts another counts now.

    Posts that only it has tagged keep what people said of them. Raises ReleaseError for the active one.
    """
    with transaction.atomic():
        locking.take_turns(_INSTALL_LOCK)
        if Release.objects.select_for_update().get(pk=release.pk).active:
            raise ReleaseError(f"{release.title} is active: activate another release first, then remove it.")
        seen_by_active = Prediction.objects.filter(release__active=True).values("post_id")
        counted = release.predictions.exclude(post_id__in=seen_by_active)
        ids = list(counted.filter(post__status=PostStatus.ACTIVE).values_list("post_id", flat=True))
        removed = release.pk
        _keep_choices(release)
        release.delete()
        transaction.on_commit(lambda: _after_removal(removed, Path(release.folder), ids))
    return len(ids)


def _keep_choices(release: Release) -> None:
    """Let members who chose one of its profiles keep what they see by it: the active release's of the same key."""
    kept = {profile.key: profile for profile in Profile.objects.filter(owner=None, release__active=True)}
    for profile in Profile.objects.filter(owner=None, release=release, key__in=kept):
        Preference.objects.filter(profile=profile).update(profile=kept[profile.key])


def _after_removal(release_id: int, folder: Path, post_ids: list[int]) -> None:
    reindexing.rebuild(post_ids)
    matrix.forget(release_id)
    vectors.forget(release_id)
    if settings.RELEASES_DIR.resolve() in folder.resolve().parents:  # a row may name a folder elsewhere
        shutil.rmtree(folder, ignore_errors=True)


def _changed_posts():
    """Posts that several releases saw: for the others the same prediction counts as before."""
    several = Prediction.objects.values("post_id").annotate(releases=Count("id")).filter(releases__gt=1)
    return Post.objects.active().filter(pk__in=several.values("post_id"))


def _copy(source: ReleaseFolder, move: bool) -> Path:
    """The release's folder under RELEASES_DIR, put there whole or not at all."""
    target = settings.RELEASES_DIR / source.name
    if source.folder == target.resolve():
        return target
    if target.is_dir() and _is_same(target, source):
        return target
    try:
        settings.RELEASES_DIR.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{source.name}.", dir=settings.RELEASES_DIR) as temporary:
            copy = Path(temporary) / "release"
            (shutil.move if move else shutil.copytree)(source.folder, copy)
            copy.chmod(0o755)  # a worker may run as another user
            if target.exists():  # left by an install that died; no row speaks of it
                shutil.rmtree(target)
            copy.rename(target)
    except OSError as error:
        raise ReleaseError(
            f"The release can't be copied into {settings.RELEASES_DIR} ({error.strerror}): make room there."
        ) from error
    return target


def _refuse_long(source: ReleaseFolder) -> None:
    """Before gigabytes are copied: what the rows can't hold."""
    for what, model, column, texts in (
        ("name", Release, "name", [source.name]),
        ("title", Release, "title", [source.title]),
        ("tag", Tag, "name", _row_names(source.vocabulary.names)),
    ):
        most = model._meta.get_field(column).max_length
        if long := [text for text in texts if len(text) > most]:
            raise ReleaseError(f"The release's {what} {long[0][:40]}... is longer than {most} characters: shorten it.")


def _rows_or_no_folder(source: ReleaseFolder, target: Path) -> Release:
    """Its rows; where they can't be made, the copied folder goes, of which nothing else would know."""
    try:
        return _make_rows(source, target)
    except Exception as error:
        if source.folder != target.resolve():
            shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, DataError | ValueError):
            raise ReleaseError(f"The release's files hold what no row can ({error}): publish it again.") from error
        raise


def _is_same(target: Path, source: ReleaseFolder) -> bool:
    try:
        return read_release(target).config == source.config
    except ReleaseError:
        return False


def _make_rows(source: ReleaseFolder, target: Path) -> Release:
    release = Release.objects.create(
        name=source.name,
        title=source.title,
        folder=str(target),
        config=source.config,
        stage=source.stage,
        metrics=source.metrics,
        card=source.card,
        tag_ids=_tag_ids(source.vocabulary.names, source.vocabulary.categories),
    )
    Profile.objects.bulk_create(
        Profile(
            release=release,
            key=shipped.key,
            name=shipped.name,
            description=shipped.description,
            position=position,
            overall=shipped.overall,
            by_category=shipped.by_category,
        )
        for position, shipped in enumerate(site_profiles(source.thresholds, source.stage))
    )
    return release


def _tag_ids(names: list[str], categories: list[str]) -> list[int]:
    """Tag rows for a vocabulary, in its order; made where there are none, 70,000 in a few seconds.

    Named as a search reads names; those of a vocabulary that fall together so are one tag.
    """
    names = _row_names(names)
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into tag (name, category, description, deprecated, post_count)"
            " select name, category, '', false, 0 from unnest(%s::text[], %s::int[]) as new (name, category)"
            # A conflict takes a number for good, and of those the index can hold 8.4 million.
            " where not exists (select from tag where tag.name = new.name) on conflict (name) do nothing",
            [names, [int(Category.named(category)) for category in categories]],
        )
    ids = dict(Tag.objects.filter(name__in=names).values_list("name", "id"))
    return [ids[name] for name in names]


def _row_names(names: list[str]) -> list[str]:
    return [typed_name(name) or name for name in names]
