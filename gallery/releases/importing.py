"""Get a published tagger from a model hub and install it: the row says how far it is, a worker does it.

The work itself is a program of its own (`python -m tagger import`), so that a download can be ended at once, at any
place, and no worker keeps the memory that it took. What came stays until the release is installed or the row is
removed: a broken, cancelled or killed download goes on where it stopped.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from gallery import locking, tagging
from gallery.launch.processes import dies_with_us
from gallery.models import Release, ReleaseImport
from gallery.releases import releasing

logger = logging.getLogger(__name__)

State = ReleaseImport.State
_LOCK = 0x696D_706F  # with an import's id; any number that no other advisory lock of the site uses
_LOOK_SECONDS = 0.5
_END_SECONDS = 5
_UNSENT_SECONDS = 20  # a worker that is free begins within this time
_NO_WORKER = "No worker could be reached: see that Redis runs, then go on."
# The hub's own ways: offline is for what must never ask; its newer transfer can't go on where it stopped.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "0",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


class ImportRefused(ValueError):
    """A sentence for the person."""


def start(key: str, user: AbstractBaseUser | None) -> ReleaseImport:
    """Have a worker get one of `tagging.offers()`. Raises ImportRefused."""
    offer = next((offer for offer in tagging.offers() if offer.key == key), None)
    if offer is None:
        raise ImportRefused("This tagger is not known: choose one of the list.")
    if Release.objects.filter(name=key).exists():
        raise ImportRefused(f"{offer.title} is installed already: remove it first to get it anew.")
    if ReleaseImport.objects.filter(name=key, state__in=ReleaseImport.UNDER_WAY).exists():
        raise ImportRefused(f"{offer.title} is being downloaded already: see below.")
    stopped = ReleaseImport.objects.filter(name=key).exclude(state=State.DONE).first()
    if stopped:
        return go_on(stopped)
    row = ReleaseImport.objects.create(
        kind=offer.kind, repository=offer.repository, stages=offer.stages, name=key, started_by=user
    )
    transaction.on_commit(lambda: _send(row), robust=True)
    return row


def go_on(row: ReleaseImport) -> ReleaseImport:
    """Take a failed or cancelled import up where it stopped."""
    stopped = ReleaseImport.objects.filter(pk=row.pk, state__in=(State.FAILED, State.CANCELLED))
    if stopped.update(state=State.WAITING, error="", finished_at=None):
        transaction.on_commit(lambda: _send(row), robust=True)
    row.refresh_from_db()
    return row


def cancel(row: ReleaseImport) -> None:
    """Let the worker stop within a second; what came stays."""
    under_way = ReleaseImport.objects.filter(pk=row.pk, state__in=ReleaseImport.UNDER_WAY)
    under_way.update(state=State.CANCELLED, finished_at=timezone.now())
    row.refresh_from_db()


def remove(row: ReleaseImport) -> None:
    """Forget an import that is not under way, with what came of it. Raises ImportRefused."""
    with transaction.atomic():
        row = ReleaseImport.objects.select_for_update().get(pk=row.pk)
        if row.is_under_way:
            raise ImportRefused("This download is under way: cancel it first.")
        folder = row.folder
        row.delete()
    shutil.rmtree(folder, ignore_errors=True)


def title(row: ReleaseImport) -> str:
    """What people read of it before it is a release."""
    return next((offer.title for offer in tagging.offers() if offer.key == row.name), row.name)


def sweep() -> int:
    """Ask again for imports that no worker is at; returns how many."""
    before = timezone.now() - timedelta(seconds=_UNSENT_SECONDS)
    left = 0
    for row in ReleaseImport.objects.filter(state__in=ReleaseImport.UNDER_WAY, created_at__lt=before):
        with locking.held(_LOCK, row.pk) as nobody_at_it:
            pass
        left += nobody_at_it and tagging.send("get_release", row.pk)
    return left


def run(import_id: int) -> None:
    """What the worker does; nothing when it was done or cancelled meanwhile, or another one does it."""
    with locking.held(_LOCK, import_id) as ours:
        row = ReleaseImport.objects.filter(pk=import_id, state__in=ReleaseImport.UNDER_WAY).first()
        if not ours or row is None:
            return
        try:
            if _get(row):
                _install(row)
        except (ImportRefused, releasing.ReleaseError) as error:
            _fail(row, str(error))
        except OSError as error:
            _fail(row, f"The files can't be written ({error.strerror or error}): make room on the server's disk.")
        except Exception as error:
            _fail(row, f"The import broke off: {error}")
            raise


def _send(row: ReleaseImport) -> None:
    if not tagging.send("get_release", row.pk):
        _fail(row, _NO_WORKER)


def _fail(row: ReleaseImport, sentence: str) -> None:
    """Unless it was cancelled or removed meanwhile."""
    under_way = ReleaseImport.objects.filter(pk=row.pk, state__in=ReleaseImport.UNDER_WAY)
    under_way.update(state=State.FAILED, error=sentence, finished_at=timezone.now())


def _get(row: ReleaseImport) -> bool:
    """Download and make the release; False when it was cancelled or this worker is to end."""
    row.folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(row.folder / "release", ignore_errors=True)
    _note(row, state=State.DOWNLOADING)
    said, errors, pause = row.folder / "said.jsonl", row.folder / "errors.txt", threading.Event()
    with _program(row, said, errors) as process:
        while process.poll() is None:
            pause.wait(_LOOK_SECONDS)
            if tagging.is_stopping() or not _note(row, **_progress(row, said)):
                return False
    if process.returncode:
        lines = errors.read_text("utf-8", errors="replace").strip().splitlines()
        raise ImportRefused(lines[-1] if lines else f"The import ended with code {process.returncode}: go on.")
    return True


@contextmanager
def _program(row: ReleaseImport, said: Path, errors: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program that downloads and makes the release, ended when we leave."""
    command = tagging.import_command(row.kind, row.repository, row.stages, row.name, title(row), row.folder)
    with said.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=settings.BASE_DIR,
            env={**os.environ, **_ENVIRONMENT},
            preexec_fn=dies_with_us(),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _progress(row: ReleaseImport, said: Path) -> dict[str, object]:
    """What the program said last and how much has come. Raises ImportRefused when the disk is too small."""
    lines = [json.loads(line) for line in said.read_text("utf-8").splitlines() if line.endswith("}")]
    plans = [line["files"] for line in lines if line.get("files")]
    if not plans:
        return {}
    total = sum(plans[-1].values())
    making = lines[-1]["files"] is None
    done = total if making else min(total, tagging.bytes_here(row.folder / "files", plans[-1]))
    if row.total != total:
        _check_room(row, total, 2 * total - done)  # the files, and the release made of them
    return {"state": State.MAKING if making else State.DOWNLOADING, "total": total, "done": done}


def _check_room(row: ReleaseImport, total: int, needed: int) -> None:
    free = shutil.disk_usage(row.folder).free
    if free < needed:
        raise ImportRefused(
            f"The files take {filesizeformat(total)} and the release as much again, but only {filesizeformat(free)}"
            " are free: make room on the server's disk, then go on."
        )


def _note(row: ReleaseImport, **fields: object) -> bool:
    """Keep the row up to date; False when it was cancelled or removed."""
    under_way = ReleaseImport.objects.filter(pk=row.pk, state__in=ReleaseImport.UNDER_WAY)
    for name, value in fields.items():
        setattr(row, name, value)
    return bool(under_way.update(**fields) if fields else under_way.exists())


def _install(row: ReleaseImport) -> None:
    release = releasing.install(row.folder / "release", move=True)
    if _note(row, state=State.DONE, release=release, finished_at=timezone.now()):
        shutil.rmtree(row.folder, ignore_errors=True)
