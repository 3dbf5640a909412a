"""A backup is made in this process; it is restored by `manage.py restore` into a database and folders of its own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from gallery import backups, correcting
from gallery.models import Post, Tag, Verdict
from tests.gallery import working
from tests.gallery.making import make_tag, make_user
from tests.stack import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(tagging_site):
    """Three posts, a verdict, a key."""
    (tagging_site / "secret_key").write_text("nobody guesses this")
    posts = [working.upload(number) for number in range(3)]
    correcting.record(posts[0], make_tag("kept_for_years"), True, make_user("ann"))
    return tagging_site


@pytest.fixture
def elsewhere(tmp_path_factory):
    """The environment of an empty site: a new database, a new data folder."""
    url = urlsplit(os.environ["DATABASE_URL"])
    with connection.cursor() as cursor:
        cursor.execute("drop database if exists restored with (force)")
        cursor.execute("create database restored")
    data = tmp_path_factory.mktemp("elsewhere")
    yield {**os.environ, "DATABASE_URL": url._replace(path="/restored").geturl(), "MANABOORU_DATA": str(data)}
    with connection.cursor() as cursor:
        cursor.execute("drop database restored with (force)")


def restored(environment: dict[str, str], folder) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "restore", str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_a_backup_brings_everything_back_elsewhere(site, tmp_path_factory, elsewhere):
    working.install(site / "made" / "tiny")
    folder = tmp_path_factory.mktemp("backup") / "new"
    said: list[str] = []
    assert backups.backup(folder, said.append).posts == 3
    assert stat.S_IMODE((folder / "database.dump").stat().st_mode) == 0o600  # password hashes are in it
    result = restored(elsewhere, folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 posts are back" in result.stdout
    with psycopg.connect(elsewhere["DATABASE_URL"]) as there:
        assert there.execute("select count(*) from post").fetchone() == (3,)
        tags = "select u.username, t.name from verdict v join auth_user u on u.id = user_id join tag t on t.id = tag_id"
        assert there.execute(tags).fetchall() == [("ann", "kept_for_years")]
        tag = Tag.objects.get(name="kept_for_years")
        found = "select count(*) from tag_index where tag_ids @> array[%s]"
        assert there.execute(found, [tag.pk]).fetchone() == (1,)
        # New rows get new numbers.
        there.execute("insert into tag_change (gone, come) values ('{}', '{}')")
        ((place,),) = there.execute("select folder from release").fetchall()
    data = elsewhere["MANABOORU_DATA"]
    assert Path(data, "secret_key").read_text() == "nobody guesses this"
    assert place == f"{data}/releases/tiny" and os.path.isfile(f"{place}/config.json")
    for post in Post.objects.all():
        assert Path(data, "media", post.file_path).read_bytes() == (site / "media" / post.file_path).read_bytes()
    again = restored(elsewhere, folder)
    assert again.returncode and "has posts or accounts" in again.stderr


def test_what_another_program_keeps_in_the_database_is_not_touched(site, tmp_path_factory, elsewhere):
    folder = tmp_path_factory.mktemp("backup")
    backups.backup(folder, lambda sentence: None)
    with psycopg.connect(elsewhere["DATABASE_URL"]) as there:
        there.execute("create table invoices (id int); insert into invoices values (7)")
    result = restored(elsewhere, folder)
    assert result.returncode and "not Manabooru's (invoices)" in result.stderr
    with psycopg.connect(elsewhere["DATABASE_URL"]) as there:
        assert there.execute("select id from invoices").fetchall() == [(7,)]


def test_a_damaged_dump_leaves_the_empty_site_as_it_was(site, tmp_path_factory, elsewhere):
    folder = tmp_path_factory.mktemp("backup")
    backups.backup(folder, lambda sentence: None)
    whole = (folder / "database.dump").read_bytes()
    (folder / "database.dump").write_bytes(whole[: len(whole) * 9 // 10])
    result = restored(elsewhere, folder)
    assert result.returncode and "pg_restore failed" in result.stderr
    with psycopg.connect(elsewhere["DATABASE_URL"]) as there:
        assert there.execute("select to_regclass('post')").fetchone() == (None,)


_KILLED = """
import os, shutil
from pathlib import Path
from gallery import backups

def copy(source, target, size):
    whole = source.read()
    target.write(whole[:whole.rindex(b"ALTER TABLE")])
    target.flush()
    os.kill(os.getpid(), 9)

shutil.copyfileobj = copy
backups._load(Path({dump!r}))
"""


def test_a_restore_that_is_killed_leaves_the_empty_site_as_it_was(site, tmp_path_factory, elsewhere):
    folder = tmp_path_factory.mktemp("backup")
    backups.backup(folder, lambda sentence: None)
    words = ["shell", "-v", "0", "-c", _KILLED.format(dump=str(folder / "database.dump"))]
    assert subprocess.run([sys.executable, str(settings.BASE_DIR / "manage.py"), *words], env=elsewhere).returncode < 0
    with psycopg.connect(elsewhere["DATABASE_URL"], autocommit=True) as there:
        others = "select count(*) from pg_stat_activity where datname = 'restored' and pid <> pg_backend_pid()"
        assert eventually(lambda: there.execute(others).fetchone() == (0,), 20)  # its psql may have work left
        assert there.execute("select to_regclass('post')").fetchone() == (None,)


def test_only_installed_releases_are_saved(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backup")
    release = working.install(site / "made" / "tiny", activate=False)
    (site / "releases" / ".upload.half").mkdir()
    (site / "releases" / ".upload.half" / "model.safetensors").write_bytes(b"half")
    backups.backup(folder, lambda sentence: None)
    assert [path.name for path in (folder / "releases").iterdir()] == ["tiny"]
    release.delete()
    (folder / "releases" / ".DS_Store").write_text("of a file manager")
    backups.backup(folder, lambda sentence: None)
    assert [path.name for path in (folder / "releases").iterdir()] == [".DS_Store"]


def test_an_upload_while_files_are_copied_is_no_alarm(site, tmp_path_factory, monkeypatch):
    copy = backups._copy_tree

    def slow(source, target, say, **ways):
        copied = copy(source, target, say, **ways)
        working.upload(11)
        return copied

    monkeypatch.setattr(backups, "_copy_tree", slow)
    assert backups.backup(tmp_path_factory.mktemp("backup"), lambda sentence: None).missing == []


def test_files_on_a_coarse_clock_are_not_copied_again(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backup")
    backups.backup(folder, lambda sentence: None)
    for path in (folder / "media").rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    assert backups.backup(folder, lambda sentence: None).copied == 0


def test_the_next_backup_copies_what_is_new(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backup")
    first = backups.backup(folder, lambda sentence: None)
    assert first.copied and not first.missing
    assert backups.backup(folder, lambda sentence: None).copied == 0
    post = working.upload(7)
    assert backups.backup(folder, lambda sentence: None).copied == len(list((site / "media").rglob(f"*{post.sha256}*")))
    assert (folder / "media" / post.file_path).is_file() and not list(folder.rglob("*.part"))


def test_an_original_that_is_gone_is_named(site, tmp_path_factory):
    post = Post.objects.first()
    (site / "media" / post.file_path).unlink()
    outcome = backups.backup(tmp_path_factory.mktemp("backup"), lambda sentence: None)
    assert outcome.missing == [post.file_path]
    assert "1 originals are not there" in backups.missing_sentence(outcome)


def test_a_broken_backup_leaves_the_older_one_whole(site, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("backup")
    backups.backup(folder, lambda sentence: None)
    before = (folder / "database.dump").read_bytes()
    Verdict.objects.all().delete()

    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backups.shutil, "copy2", full)
    working.upload(9)
    with pytest.raises(backups.BackupError, match="No space left"):
        backups.backup(folder, lambda sentence: None)
    assert (folder / "database.dump").read_bytes() == before


def test_what_cannot_be_a_backup_is_refused(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backup")
    with pytest.raises(backups.BackupError, match="inside the data folder"):
        backups.backup(site / "backup")
    with pytest.raises(backups.BackupError, match="holds no whole backup"):
        backups.restore(folder)
    (folder / "holiday.txt").write_text("mine")
    with pytest.raises(backups.BackupError, match="holds something else"):
        backups.backup(folder)
    (folder / "backup.json").write_text(
        json.dumps({"format": 1, "migrations": [["gallery", "9999_later"]], "posts": 1})
    )
    with pytest.raises(backups.BackupError, match="newer Manabooru"):
        backups.restore(folder)


def test_a_site_in_use_is_not_overwritten(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backup")
    backups.backup(folder, lambda sentence: None)
    with pytest.raises(backups.BackupError, match="has posts or accounts"):
        backups.restore(folder)
    assert Post.objects.count() == 3
