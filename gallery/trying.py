"""Pictures that people only try: a file until a worker has read it, an answer in the cache for ten minutes, no row.

The folder is the queue and the message to the workers only a hint: whoever tags looks into it between two batches.
Knows no tagger; `tagging` answers.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.core.cache import cache

KEPT_SECONDS = 600
PER_MINUTE = 20
FLOOR = 0.01  # below a release's own floor: here one may look at what is hardly there
MOST_TAGS = 500
_TAKEN = ".taken"


class TooMany(Exception):
    """A sentence for a person who tries pictures faster than the site allows."""


@dataclass(frozen=True)
class Trial:
    """A picture that a worker has taken."""

    token: str
    release_id: int
    file: Path


def put(file: BinaryIO, user_id: int, release_id: int) -> str:
    """Lay a picture out for the workers; returns the token of its answer. Raises TooMany."""
    _count(user_id)
    forget_old()
    token = secrets.token_urlsafe(16)
    _folder().mkdir(parents=True, exist_ok=True)
    unfinished = _folder() / f".{token}"
    file.seek(0)
    with unfinished.open("wb") as copy:
        shutil.copyfileobj(file, copy)
    cache.set(
        _key(token), {"state": "waiting", "user": user_id, "release": release_id, "since": time.time()}, KEPT_SECONDS
    )
    unfinished.rename(_folder() / f"{release_id}.{token}")
    return token


def look(token: str, user_id: int) -> dict[str, Any] | None:
    """What is known of a picture: its `state` is waiting, done or failed. None when forgotten, or another person's."""
    found = cache.get(_key(token))
    return found if found and found["user"] == user_id else None


def waiting_seconds(found: dict[str, Any]) -> float:
    return max(0.0, time.time() - found["since"])


def take(release_id: int | None = None) -> Iterator[Trial]:
    """The waiting pictures (of one release), oldest first; each is this worker's alone, its file gone after."""
    for path in sorted(_files(), key=_age):
        release, _, token = path.name.partition(".")
        if not release.isdecimal() or path.name.endswith(_TAKEN) or (release_id and int(release) != release_id):
            continue
        taken = path.with_name(path.name + _TAKEN)
        try:
            path.rename(taken)
        except FileNotFoundError:  # another worker was first
            continue
        try:
            yield Trial(token, int(release), taken)
        finally:
            taken.unlink(missing_ok=True)


def answer(token: str, **fields: Any) -> None:
    """Keep an answer; that of a picture forgotten by now goes nowhere."""
    if found := cache.get(_key(token)):
        cache.set(_key(token), {**found, **fields}, KEPT_SECONDS)


def drop(token: str) -> None:
    """Nobody waits for this picture any more."""
    cache.delete(_key(token))
    for path in _files():
        if path.name.endswith(f".{token}"):
            path.unlink(missing_ok=True)


def forget_old() -> None:
    """Remove pictures that no worker read in time."""
    for path in _files():
        if time.time() - _age(path) > KEPT_SECONDS:
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return settings.DATA_DIR / "trying"


def _files() -> list[Path]:
    try:
        return list(_folder().iterdir())
    except FileNotFoundError:
        return []


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _key(token: str) -> str:
    return f"trying:{token}"


def _count(user_id: int) -> None:
    key = f"trying-rate:{user_id}:{int(time.time() // 60)}"
    cache.add(key, 0, timeout=90)
    if cache.incr(key) > PER_MINUTE:
        raise TooMany(f"You can try {PER_MINUTE} pictures a minute: wait a moment, then go on.")
