"""THE SEAM: claims waiting posts in batches, asks the tagger, stores predictions, rebuilds the tag index.

The only module that imports the tagger. What it imports at its top, and offers to `releasing`, reads
release folders without torch; `tagger.inference` comes in only where a worker tags, so the web process
never loads torch. Killed at any point, nothing is lost and nothing is done twice: a row says who
claimed it when, and the sweep returns what hung.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from django.conf import settings
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from gallery import claiming, indexing, pace, pictures, trying, workers
from gallery.likeness import features
from gallery.models import Post, Prediction, Release, TaggingState
from gallery.profiles import to_bytes
from gallery.sending import send, wake
from gallery.sweeping import finish_runs, sweep
from tagger.importing.download import bytes_here
from tagger.importing.published import offers
from tagger.release import ReleaseError, ReleaseFolder
from tagger.release import read as read_release
from tagger.thresholds import site_profiles

if TYPE_CHECKING:
    from tagger.batching import Batcher
    from tagger.inference import Prediction as Found
    from tagger.inference import Predictor

__all__ = [
    "ReleaseError",
    "ReleaseFolder",
    "busy_seconds",
    "fill_features",
    "bytes_here",
    "finish_runs",
    "held",
    "import_command",
    "is_stopping",
    "offers",
    "predict_posts",
    "problem",
    "read_release",
    "send",
    "site_profiles",
    "stop",
    "sweep",
    "tag_waiting",
    "try_pictures",
    "wake",
]

logger = logging.getLogger(__name__)

_DECODERS = max(4, os.cpu_count() or 1)
_AHEAD = 3  # batches under way: one in the model, one ready for it, one being decoded
_PROBLEM = "tagger:problem"
_PROBLEM_SECONDS = 120  # the sweep wakes a worker every 30 seconds, which says it again


@dataclass
class _Tagger:
    """The model in this process's memory."""

    release_id: int
    predictor: Predictor
    batcher: Batcher
    tag_ids: np.ndarray  # tag id of each vocabulary index


@dataclass
class _Batch:
    posts: list[Post]
    claimed_at: datetime
    pixels: Sequence[Future[np.ndarray]] = ()
    found: Future[list[Found]] = field(default_factory=Future)

    @property
    def alone(self) -> bool:
        """Whether this is a post that was begun before and never finished."""
        return self.posts[0].tagging_attempts > 1


_loaded: _Tagger | None = None  # one model a process, replaced when another release becomes active
_in_use = threading.Lock()  # held while posts are tagged, so that the model is not freed meanwhile
_last_used = 0.0
_stopping = threading.Event()


def stop() -> None:
    """The worker is ending: finish the batch in the model, let all others wait for the next start."""
    _stopping.set()


def is_stopping() -> bool:
    return _stopping.is_set()


def import_command(kind: str, repository: str, stages: str, name: str, title: str, folder: Path) -> list[str]:
    """The program that downloads into `files` of this folder and makes the release in `release` of it."""
    words = ["--download", "--progress", "--repository", repository, "--stages", stages, "--name", name]
    words += ["--title", title, "--from", str(folder / "files"), "--out", str(folder / "release")]
    return [sys.executable, "-m", "tagger", "import", kind, *words]


def held() -> workers.Held | None:
    """The model in this process's memory."""
    tagger = _loaded
    return workers.Held(tagger.release_id, tagger.predictor.stage, "exact", "torch") if tagger else None


def busy_seconds() -> float:
    """How long the model in this process's memory has been at work."""
    return _loaded.batcher.busy_seconds if _loaded else 0.0


def tag_waiting(seconds: float = 60) -> int:
    """Tag posts that wait until none does or the time is up; returns how many were tagged.

    While more wait than one batch, another worker is woken, or this one again when it is free.
    """
    with _in_use, _freed_when_idle():
        wanted = not _stopping.is_set() and Post.objects.waiting().exists()
        tagger = _active_tagger() if wanted else None
        return _tag_with(tagger, time.monotonic() + seconds) if tagger else 0


def _tag_with(tagger: _Tagger, deadline: float) -> int:
    tagged, under_way = 0, deque[_Batch]()
    with ThreadPoolExecutor(_DECODERS, "decode") as decoders, ThreadPoolExecutor(1, "model") as model:
        try:
            _take(tagger, under_way, decoders, model, most=1)
            if under_way and Post.objects.waiting().exists():
                wake()
            while under_way and not _stopping.is_set() and _is_active(tagger):
                if time.monotonic() < deadline:
                    _take(tagger, under_way, decoders, model)
                tagged += _finish(tagger, under_way.popleft(), model)
                trying.tag(
                    tagger.predictor, tagger.tag_ids, tagger.release_id, lambda *call: model.submit(*call).result()
                )
                if not under_way and time.monotonic() < deadline:
                    _take(tagger, under_way, decoders, model)
        finally:
            tagged += _wind_up(tagger, under_way, model)
    return tagged


def _take(
    tagger: _Tagger,
    under_way: deque[_Batch],
    decoders: ThreadPoolExecutor,
    model: ThreadPoolExecutor,
    most: int = _AHEAD,
) -> None:
    """Claim batches until enough are under way, and begin to decode and predict them.

    Only the model's thread runs the model and only the caller's uses the database.
    """
    while len(under_way) < most and not any(batch.alone for batch in under_way):
        claimed_at = timezone.now()
        posts = claiming.claim(tagger.batcher.size(), claimed_at, fresh_only=bool(under_way))
        if not posts:
            return
        batch = _Batch(posts, claimed_at, [decoders.submit(_pixels, tagger.predictor, post) for post in posts])
        batch.found = model.submit(_predict, tagger, batch.pixels)
        under_way.append(batch)


def _wind_up(tagger: _Tagger, under_way: deque[_Batch], model: ThreadPoolExecutor) -> int:
    """Before leaving early: what the model has begun is finished, the rest waits again."""
    tagged = 0
    while under_way:
        batch = under_way.popleft()
        if batch.found.cancel():
            for pixels in batch.pixels:
                pixels.cancel()
            claiming.put_back(batch.posts, batch.claimed_at)
        else:
            tagged += _finish(tagger, batch, model)
    return tagged


def try_pictures() -> None:
    """Tag the pictures that people only try, each with the release that it was sent for."""
    with _in_use, _freed_when_idle():
        if tagger := _active_tagger():
            trying.tag(tagger.predictor, tagger.tag_ids, tagger.release_id)
    for release_id in trying.wanted():
        try:
            other = _open(Release.objects.get(pk=release_id))
        except (Release.DoesNotExist, ReleaseError) as error:
            trying.fail(release_id, str(error))
        else:
            trying.tag(other.predictor, other.tag_ids, release_id)


def predict_posts(release_id: int, *post_ids: int, seconds: float = 30) -> int:
    """Tag posts by a release that is not active, to compare it; what counts for them stays. Returns how many it did.

    When the time is up it lets the others go first and goes on after them.
    """
    release = Release.objects.filter(pk=release_id, active=False).first()
    seen = Prediction.objects.filter(release_id=release_id, post_id__in=post_ids).values("post_id")
    posts = list(Post.objects.active().filter(pk__in=post_ids).exclude(pk__in=seen)) if release else []
    if not posts:
        return 0
    tagger, done, deadline = _open(release), 0, time.monotonic() + seconds
    for number, post in enumerate(posts, 1):
        try:
            found = tagger.predictor.predict_prepared([_pixels(tagger.predictor, post)])[0]
        except Exception as error:
            logger.warning("Post %s could not be tagged by %s: %s", post.pk, release.name, error)
            continue
        Prediction.objects.bulk_create([_row(tagger, post, found)], ignore_conflicts=True)
        features.store(release_id, {post.pk: found.feature})
        done += 1
        if time.monotonic() > deadline and posts[number:]:
            send("predict_posts", release_id, *(later.pk for later in posts[number:]))
            break
    return done


def fill_features(seconds: float = 20) -> int:
    """Ask again for the features of posts that were tagged without, while nothing else waits; returns how many."""
    deadline, done = time.monotonic() + seconds, 0
    with _in_use, _freed_when_idle():
        tagger = _active_tagger()
        if tagger and not hasattr(tagger.predictor.engine, "answer"):
            features.none_to_come(tagger.release_id)
            return 0
        while tagger and time.monotonic() < deadline and not _stopping.is_set() and not Post.objects.waiting().exists():
            posts = list(features.missing(tagger.release_id)[: tagger.batcher.size()])
            found = {post.pk: _feature(tagger, post) for post in posts}
            features.store(tagger.release_id, found, final=True)
            done += len(found)
            if not posts:
                break
    return done


def _feature(tagger: _Tagger, post: Post) -> np.ndarray | None:
    try:
        return tagger.batcher.predict([_pixels(tagger.predictor, post)])[0].feature
    except Exception as error:
        logger.warning("Post %s has no feature: %s", post.pk, error)
        return None


def _active_tagger() -> _Tagger | None:
    """The active release's model, loaded on first use in this process; None without an active release."""
    global _loaded
    release = Release.objects.filter(active=True).first()
    if release is None:
        return None
    if _loaded is None or _loaded.release_id != release.pk:
        _loaded = None  # let the old model's memory go before the new one comes
        try:
            _loaded = _open(release)
        except Exception as error:
            cache.set(_PROBLEM, f"{release.title} can't be loaded, so nothing is tagged: {error}", _PROBLEM_SECONDS)
            raise
        cache.delete(_PROBLEM)
        workers.tell()
    return _loaded


def problem() -> str:
    """Why the worker can't tag anything at all, for the staff; empty when it can."""
    return cache.get(_PROBLEM, "")


def _open(release: Release) -> _Tagger:
    from tagger.batching import Batcher
    from tagger.inference import Predictor

    predictor = Predictor(release.path, device=settings.TAGGER_DEVICE, threads=settings.TAGGER_THREADS)
    batcher = Batcher(predictor, settings.TAGGER_BATCH)
    return _Tagger(release.pk, predictor, batcher, np.array(release.tag_ids, np.int64))


@contextmanager
def _freed_when_idle() -> Iterator[None]:
    """After the work, look once more when the idle time is over."""
    global _last_used
    try:
        yield
    finally:
        _last_used = time.monotonic()
        if _loaded and settings.TAGGER_IDLE_SECONDS:
            timer = threading.Timer(settings.TAGGER_IDLE_SECONDS, _free, [_last_used])
            timer.daemon = True
            timer.start()


def _free(last_used: float) -> None:
    """Let the model go, unless it was used since."""
    global _loaded
    with _in_use:
        if last_used == _last_used and _loaded:
            from tagger.batching import free_memory

            _loaded = None
            free_memory()
            workers.tell()
            logger.info("The model is freed after %d idle seconds", settings.TAGGER_IDLE_SECONDS)


def _is_active(tagger: _Tagger) -> bool:
    return Release.objects.filter(pk=tagger.release_id, active=True).exists()


def _pixels(predictor: Predictor, post: Post) -> np.ndarray:
    with default_storage.open(post.file_path) as file:
        if post.ext == "jpg":
            pixels = predictor.prepare_jpeg(file)
            if pixels is not None:
                return pixels
        with pictures.open_picture(file) as image:
            return predictor.prepare(pictures.upright(image))


def _predict(tagger: _Tagger, pixels: Sequence[Future[np.ndarray]]) -> list[Found]:
    return tagger.batcher.predict([each.result() for each in pixels])


def _finish(tagger: _Tagger, batch: _Batch, model: ThreadPoolExecutor) -> int:
    """Store what was found in a batch; when that fails, take each post by itself, so that one fails alone."""
    try:
        return _store(tagger, batch.posts, batch.found.result(), batch.claimed_at)
    except Exception:
        logger.warning("A batch of %d failed: trying its posts one by one", len(batch.posts), exc_info=True)
    tagged = 0
    for post, pixels in zip(batch.posts, batch.pixels, strict=True):
        try:
            found = model.submit(_predict, tagger, [pixels]).result()
            tagged += _store(tagger, [post], found, batch.claimed_at)
        except Exception as error:
            logger.warning("Post %s could not be tagged: %s", post.pk, error)
            claiming.give_back(claiming.claimed([post], batch.claimed_at), _reason(error))
    return tagged


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "The picture's file is missing from the storage."
    return str(error) or type(error).__name__


def _store(tagger: _Tagger, posts: list[Post], found: Sequence[Found], claimed_at: datetime) -> int:
    """Write what was found in the posts that are still ours."""
    with transaction.atomic():
        stored = _write(tagger, posts, found, claimed_at)
    pace.count(stored)
    return stored


def _write(tagger: _Tagger, posts: list[Post], found: Sequence[Found], claimed_at: datetime) -> int:
    claimed = claiming.claimed(posts, claimed_at)
    ours = set(claimed.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))
    kept = [(post, each) for post, each in zip(posts, found, strict=True) if post.pk in ours]
    Prediction.objects.bulk_create(
        [_row(tagger, post, each) for post, each in kept],
        update_conflicts=True,
        unique_fields=["post", "release"],
        update_fields=["tag_ids", "confidences", "created_at"],
    )
    features.store(tagger.release_id, {post.pk: each.feature for post, each in kept})
    Post.objects.filter(pk__in=ours).update(
        tagging_state=TaggingState.TAGGED, tagging_attempts=0, tagging_error="", tagging_started_at=None
    )
    indexing.rebuild(ours)
    return len(ours)


def _row(tagger: _Tagger, post: Post, found: Found) -> Prediction:
    tag_ids = tagger.tag_ids[found.indices]
    order = np.argsort(tag_ids)
    return Prediction(
        post=post,
        release_id=tagger.release_id,
        tag_ids=tag_ids[order].tolist(),
        confidences=to_bytes(found.confidences[order]).tobytes(),
    )
