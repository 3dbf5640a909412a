"""Pictures that people only try: a file until a worker has read it, an answer in the cache for ten minutes, no row.

The folder is the queue and the message to the workers only a hint: whoever tags looks into it between two batches.
Knows no tagger: `tagging` hands its model over.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from django.conf import settings
from django.core.cache import cache
from PIL.Image import Image

from gallery import pictures
from gallery.likeness import features
from gallery.profiles import to_bytes

KEPT_SECONDS = 600
PER_MINUTE = 20
FLOOR = 0.01  # below a release's own floor: here one may look at what is hardly there
MOST_TAGS = 500
_TAKEN = ".taken"

logger = logging.getLogger(__name__)


def _here(call: Callable[..., Any], *words: Any) -> Any:
    return call(*words)


class TooMany(Exception):
    """A sentence for a person who tries pictures faster than the site allows."""


class Found(Protocol):
    """The tagger's `Prediction`, as far as it is asked here."""

    indices: np.ndarray
    confidences: np.ndarray
    feature: np.ndarray | None


class Stages(Protocol):
    """The tagger's `Predictor`, as far as it is asked here."""

    def draft(self, image: Image) -> None: ...

    def every_stage(self, image: Image, floor: float, most: int) -> Mapping[str, Found]: ...


@dataclass(frozen=True)
class Trial:
    """A picture that a worker has taken."""

    token: str
    file: Path


def put(file: BinaryIO, user_id: int, release_id: int, **about: Any) -> str:
    """Lay a picture out for the workers; returns the token of its answer, which keeps `about`.

    Raises TooMany, and OSError when the disk takes no more.
    """
    _count(user_id)
    forget_old()
    token = secrets.token_urlsafe(16)
    _folder().mkdir(parents=True, exist_ok=True)
    unfinished = _folder() / f".{token}"
    file.seek(0)
    try:
        with unfinished.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    known = {"state": "waiting", "user": user_id, "release": release_id, "since": time.time()}
    cache.set(_key(token), {**about, **known}, KEPT_SECONDS)
    unfinished.rename(_folder() / f"{release_id}.{token}")
    return token


def look(token: str, user_id: int) -> dict[str, Any] | None:
    """What is known of a picture: its `state` is waiting, done or failed. None when forgotten, or another person's."""
    found = cache.get(_key(token))
    return found if found and found["user"] == user_id else None


def waiting_seconds(found: dict[str, Any]) -> float:
    return max(0.0, time.time() - found["since"])


def wanted() -> set[int]:
    """The releases that waiting pictures were sent for."""
    return {int(path.name.partition(".")[0]) for path in _waiting()}


def tag(predictor: Stages, tag_ids: np.ndarray, release_id: int, run: Callable[..., Any] = _here) -> None:
    """Answer a release's waiting pictures with every stage's tags: pairs of tag id and byte, most confident first.

    With them goes the picture's feature, packed. `run` calls the model, in its own thread where it has one: an
    engine answers one at a time.
    """
    for trial in _take(release_id):
        started = time.monotonic()
        try:
            with trial.file.open("rb") as file, pictures.open_picture(file) as image:
                predictor.draft(image)
                stages = run(predictor.every_stage, pictures.upright(image), FLOOR, MOST_TAGS)
        except Exception as error:
            logger.warning("A picture that was tried could not be tagged: %s", error)
            answer(trial.token, state="failed", reason=str(error) or type(error).__name__)
            continue
        tags = {
            stage: _joined(zip(tag_ids[found.indices].tolist(), to_bytes(found.confidences).tolist(), strict=True))
            for stage, found in stages.items()
        }
        feature = features.pack(next(iter(stages.values())).feature)
        answer(trial.token, state="done", tags=tags, feature=feature, seconds=time.monotonic() - started)


def _joined(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Each tag once, as confident as the most confident of the vocabulary's names for it."""
    found: dict[int, int] = {}
    for tag_id, confidence in pairs:
        found.setdefault(tag_id, confidence)
    return list(found.items())


def fail(release_id: int, reason: str) -> None:
    """Answer a release's waiting pictures with why it can't tag them."""
    for trial in _take(release_id):
        answer(trial.token, state="failed", reason=reason)


def _take(release_id: int) -> Iterator[Trial]:
    """The waiting pictures of a release, oldest first; each is this worker's alone, its file gone after."""
    for path in sorted(_waiting(), key=_age):
        release, _, token = path.name.partition(".")
        if int(release) != release_id:
            continue
        taken = path.with_name(path.name + _TAKEN)
        try:
            path.rename(taken)
        except FileNotFoundError:  # another worker was first
            continue
        try:
            yield Trial(token, taken)
        finally:
            taken.unlink(missing_ok=True)


def _waiting() -> list[Path]:
    return [path for path in _files() if path.name[0].isdecimal() and not path.name.endswith(_TAKEN)]


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
    key = f"trying-rate:{user_id}"
    if cache.add(key, 1, timeout=60):  # the minute begins with the first picture
        return
    try:
        tried = cache.incr(key)
    except ValueError:  # the minute ended just now
        return
    if tried > PER_MINUTE:
        raise TooMany(f"You can try {PER_MINUTE} pictures a minute: wait a moment, then go on.")
