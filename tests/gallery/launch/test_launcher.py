"""`manage.py up` as a person meets it. Each site here is a process of its own on its own data folder."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psycopg
import pytest

from gallery.launch import embedded, launcher
from tests.stack import eventually, free_port, launch, start

pytestmark = pytest.mark.slow


def _processes_of(data: Path) -> list[int]:
    """Every process whose environment names this data folder: the launcher, its children and theirs."""
    mark, found = f"MANABOORU_DATA={data}".encode(), []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def _nothing_left(data: Path, seconds: float) -> bool:
    return eventually(lambda: not _processes_of(data), seconds)


def _database_answers(sockets: str) -> bool:
    try:
        psycopg.connect(host=sockets, user="manabooru", dbname="manabooru").close()
    except psycopg.OperationalError:
        return False
    return True


KEPT = "from gallery.models import Tag; print(*Tag.objects.filter(name='kept').values_list('name', flat=True))"


def test_a_killed_launcher_leaves_nothing_and_the_next_start_finds_all(tmp_path):
    data = tmp_path / "data"
    site = start(data)
    assert "/join/" in site.admin_link
    assert len(_processes_of(data)) >= 7
    site.manage("shell", "-c", "from gallery.models import Tag; Tag.objects.create(name='kept')")

    site.process.kill()
    assert _nothing_left(data, 20)

    site = start(data)
    assert "kept" in site.manage(
        "shell", "-c", "from gallery.models import Tag; print(Tag.objects.get(name='kept').name)"
    )
    assert site.stop() == 0
    assert _nothing_left(data, 5)
    assert "kept" in site.manage(
        "shell", "-c", "from gallery.models import Tag; print(Tag.objects.get(name='kept').name)"
    )
    assert _nothing_left(data, 5)


def test_what_dies_is_started_again(tmp_path):
    site = start(tmp_path / "data")
    try:
        beat = next(pid for pid in _processes_of(site.data) if b"beat" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(beat, signal.SIGKILL)
        site.wait_for(r"The beat ended .* starts again", 10)
        postmaster = int((next(site.data.glob("pg*")) / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGKILL)
        site.wait_for(r"The Postgres server ended .* starts again", 10)
        sockets = embedded.announced(site.data)["sockets"]
        assert eventually(lambda: _database_answers(sockets))
    finally:
        site.stop()


def test_a_second_start_and_a_taken_port_are_one_sentence(site, tmp_path):
    second = launch(site.data)
    second.wait_for(rf"already runs at {site.address}/ .*stop it first", 30)
    assert second.process.wait(10) == 1
    other = launch(tmp_path / "other", port=int(site.address.rpartition(":")[2]))
    other.wait_for(r"^Port \d+ on 127.0.0.1 is taken .* --port \d+\.$", 30)
    assert other.process.wait(10) == 1
    assert len(other.said) == 1


def test_a_port_that_cannot_be_had_is_one_sentence():
    with pytest.raises(launcher.LaunchError, match="choose another --host"):
        launcher.check_port("192.0.2.1", free_port())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(launcher.LaunchError, match="is taken by another program"):
            launcher.check_port("127.0.0.1", other.getsockname()[1])


def test_a_data_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(embedded.EmbeddedError, match="can't be written .* MANABOORU_DATA"):
        embedded.start(tmp_path / "file" / "data")
