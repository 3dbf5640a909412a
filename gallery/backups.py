"""A backup of the whole site in one folder, and the way back.

    backup.json     when it was made, by which version of the tables, how many posts
    database.dump   all rows, by pg_dump; without what is made of the others again
    media/          originals and thumbnails
    releases/       the installed taggers
    secret_key      unless it is in the settings

A picture's file never changes under its name, so the next backup to the same folder copies the new ones alone. The
site may go on meanwhile: the rows are those of one moment, and files are never taken away from a post.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from gallery.launch import embedded
from gallery.likeness import vectors
from gallery.models import Post, Release

FORMAT = 1
_SAME_SECONDS = 2.0  # what file systems round times of change to, at most
_MADE_AGAIN = "feature_vector"  # of pgvector, which not every server has
_EACH = 1000
_HEAD_LINES = 60  # of a dump, among which are all its settings

Say = Callable[[str], object]


class BackupError(Exception):
    """A sentence for the person at the shell, with the remedy."""


@dataclass(frozen=True)
class Outcome:
    """`missing` are the originals that posts name and that are not there, as paths in `media`."""

    posts: int
    copied: int
    missing: list[str]


def backup(folder: Path, say: Say = print) -> Outcome:
    """Write a backup, or bring the one in this folder up to date. Raises BackupError; the older one is whole then."""
    folder = folder.expanduser().resolve()
    if folder.is_relative_to(settings.DATA_DIR.resolve()):
        raise BackupError(f"{folder} is inside the data folder, and would be lost with it: choose another one.")
    ours = any((folder / name).is_file() for name in ("backup.json", "database.dump.new"))
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise BackupError(f"{folder} holds something else: choose an empty folder, or one with a backup.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        about, releases = _about(), [release.path for release in Release.objects.defer(*Release.bulk())]
        newest = Post.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        say("Saving the database ...")
        (folder / "database.dump.new").touch(0o600)  # password hashes are in it
        _dump(folder / "database.dump.new")
        copied = _copy_tree(Path(settings.MEDIA_ROOT), folder / "media", say)
        for release in releases:
            copied += _copy_tree(release, folder / "releases" / release.name, say, by_time=True)
        _copy_key(settings.DATA_DIR, folder)
        (folder / "database.dump.new").replace(folder / "database.dump")
        _write(folder / "backup.json", about)
        _drop_others(folder / "releases", {release.name for release in releases})
    except OSError as error:
        raise BackupError(f"The backup can't be written ({error}): see to that and run it again.") from error
    return Outcome(about["posts"], copied, _missing(folder / "media", newest))


def restore(folder: Path, say: Say = print) -> Outcome:
    """Fill an empty site from a backup, of this version or an older one. Raises BackupError."""
    folder = folder.expanduser().resolve()
    about = _read(folder)
    _require_empty()
    try:
        copied = _copy_tree(folder / "media", Path(settings.MEDIA_ROOT), say)
        copied += _copy_tree(folder / "releases", settings.RELEASES_DIR, say, by_time=True)
        _copy_key(folder, settings.DATA_DIR)
    except OSError as error:
        raise BackupError(f"The files can't be copied ({error}): see to that and run it again.") from error
    say("Restoring the database ...")
    _load(folder / "database.dump")
    call_command("migrate", interactive=False, verbosity=0)
    vectors.prepare()
    shutil.rmtree(settings.DATA_DIR / "likeness", ignore_errors=True)  # of the rows that were there before
    for release in Release.objects.defer(*Release.bulk()):
        Release.objects.filter(pk=release.pk).update(folder=str(settings.RELEASES_DIR / release.path.name))
    _forget()
    with connection.cursor() as cursor:
        cursor.execute("analyze")
    return Outcome(about["posts"], copied, _missing(Path(settings.MEDIA_ROOT)))


def missing_sentence(outcome: Outcome) -> str:
    some = ", ".join(outcome.missing[:3])
    return f"{len(outcome.missing):,} originals are not there, such as {some}: look for them in an older backup."


def _about() -> dict[str, Any]:
    applied = MigrationLoader(connection).applied_migrations
    return {
        "format": FORMAT,
        "made_at": timezone.now().isoformat(timespec="seconds"),
        "migrations": sorted(list(key) for key in applied),
        "posts": Post.objects.count(),
    }


def _read(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "backup.json").read_text("utf-8"))
        known = about["format"] == FORMAT
        applied = {tuple(key) for key in about["migrations"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"{folder} holds no whole backup ({error}): choose the folder that one was made in."
        ) from error
    newer = applied - set(MigrationLoader(connection).graph.nodes)
    if not known or newer:
        raise BackupError("This backup was made by a newer Manabooru: update this one first, then restore it.")
    if not (folder / "database.dump").is_file():
        raise BackupError(f"{folder / 'database.dump'} is not there: choose a folder with a whole backup.")
    return about


def _require_empty() -> None:
    """Raises BackupError where something would be lost: posts, accounts, or what another program keeps there."""
    ours, there = _own_tables(), _tables()
    if others := sorted(there - ours):
        raise BackupError(
            f"The database holds what is not Manabooru's ({', '.join(others[:3])}): make an empty one for it and name"
            " that in DATABASE_URL."
        )
    users = get_user_model()
    if any(model._meta.db_table in there and model.objects.exists() for model in (Post, users)):
        raise BackupError(
            "This site has posts or accounts, and they would be lost: set MANABOORU_DATA to a new folder (and"
            " DATABASE_URL to an empty database, if it is set) and restore there."
        )


def _tables() -> set[str]:
    """Names of all tables and views of the schema `public`, partitions under their table's name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select coalesce(p.relname, c.relname) from pg_class c left join pg_inherits i on i.inhrelid = c.oid"
            " left join pg_class p on p.oid = i.inhparent"
            " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')"
            " and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')"  # an extension's
        )
        return {row[0] for row in cursor.fetchall()}


def _own_tables() -> set[str]:
    state = MigrationLoader(connection).project_state()
    names = {model._meta.db_table for model in state.apps.get_models(include_auto_created=True)}
    return names | {"django_migrations", _MADE_AGAIN}


def _forget() -> None:
    """Delete what the cache knows of the site that was there; the server may be other programs', too."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    for key in client.scan_iter(cache.make_key("*")):
        client.delete(key)
    client.close()


def _drop_others(folder: Path, wanted: set[str]) -> None:
    """Take releases out of the backup that the site has no more."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path.name not in wanted:  # a file is of another program, which looked at the folder
            shutil.rmtree(path)


def _same(one: os.stat_result, other: os.stat_result, by_time: bool) -> bool:
    apart = abs(one.st_mtime - other.st_mtime) if by_time else 0
    return one.st_size == other.st_size and apart <= _SAME_SECONDS


def _copy_tree(source: Path, target: Path, say: Say, *, by_time: bool = False) -> int:
    """Copy what is new or another, which times of change tell where files may change; returns how many files."""
    copied = 0
    for path in _files(source):
        to = target / path.relative_to(source)
        try:
            if to.is_file() and _same(path.stat(), to.stat(), by_time):
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            part = to.with_name(to.name + ".part")
            shutil.copy2(path, part)
            part.replace(to)
        except FileNotFoundError:
            if path.exists():
                raise
            continue  # it was only there for a moment
        copied += 1
        if copied % _EACH == 0:
            say(f"  {copied:,} new files in {target.name}")
    return copied


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".part"))


def _copy_key(source: Path, target: Path) -> None:
    key = source / "secret_key"
    if key.is_file() and not os.environ.get("SECRET_KEY"):
        shutil.copy2(key, target / "secret_key")


def _write(path: Path, about: dict[str, Any]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    new.replace(path)


def _missing(media: Path, newest: int | None = None) -> list[str]:
    """Originals of posts up to `newest` that are not there; later ones came while the files were copied."""
    posts = Post.objects.only("sha256", "ext").order_by("pk")
    paths = (post.file_path for post in (posts if newest is None else posts.filter(pk__lte=newest)).iterator())
    return [path for path in paths if not (media / path).is_file()]


def _dump(path: Path) -> None:
    words = ["pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--exclude-table={_MADE_AGAIN}"]
    with _started([*words, f"--file={path}"]) as dumping:
        _require_success(dumping)


def _load(path: Path) -> None:
    """The tables of the dump in place of all that there are, in one transaction."""
    with tempfile.TemporaryDirectory() as work:
        wanted = Path(work, "wanted")
        with _started(["pg_restore", "--list", str(path)]) as listing:
            lines = _require_success(listing).splitlines(keepends=True)
        wanted.write_bytes(b"".join(line for line in lines if b" EXTENSION - vector" not in line))
        words = ["pg_restore", "--no-owner", "--no-privileges", "--no-comments", f"--use-list={wanted}", "--file=-"]
        psql = ["psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
        with _started([*words, str(path)]) as reading, _started(psql, stdin=subprocess.PIPE) as writing:
            _feed(reading, writing)
            _require_success(reading)
            _require_success(writing)
    connection.close()
    connection.close_pool()  # these sessions knew the tables that were there before
    ContentType.objects.clear_cache()


def _feed(reading: subprocess.Popen[bytes], writing: subprocess.Popen[bytes]) -> None:
    assert reading.stdout and writing.stdin
    with suppress(BrokenPipeError):  # what went wrong is said on its other channel
        writing.stdin.write(b"begin;\nset client_min_messages = warning;\n")
        for table in sorted(_tables()):
            writing.stdin.write(f"drop table {connection.ops.quote_name(table)} cascade;\n".encode())
        for line in itertools.islice(reading.stdout, _HEAD_LINES):
            if not line.startswith(b"SET transaction_timeout"):  # servers before 17 don't know it
                writing.stdin.write(line)
        shutil.copyfileobj(reading.stdout, writing.stdin, 1 << 20)
        if reading.wait() == 0:  # whatever ends before this, killed or not, leaves the tables as they were
            writing.stdin.write(b"commit;\n")
        writing.stdin.close()
    writing.stdin = None


def _started(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """One of Postgres's programs, for the site's database."""
    about = connection.settings_dict
    named = {"PGDATABASE": "NAME", "PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD"}
    environment = {name: about[key] for name, key in named.items() if about[key]}
    extra = {f"PG{name.upper()}": value for name, value in about["OPTIONS"].items() if name.startswith("ssl")}
    return subprocess.Popen(
        [embedded.postgres_binaries() / words[0], *words[1:]],
        env=os.environ | environment | extra,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def _require_success(program: subprocess.Popen[bytes]) -> bytes:
    """What it printed, once it has ended."""
    printed, complaint = program.communicate()
    if program.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines() or [f"code {program.returncode}"]
        raise BackupError(f"{Path(program.args[0]).name} failed: {' '.join(lines[:3])}")
    return printed
