"""Posts through the model in batches: claimed, decoded ahead in threads, predicted, stored.

A picture that breaks the model or the decoder fails alone. Knows no tagger: `tagging` hands its model over.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol

import numpy as np
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone
from PIL.Image import Image

from gallery import pictures
from gallery.index import indexing
from gallery.likeness import features
from gallery.models import Post, Prediction, TaggingState
from gallery.profiles import to_bytes
from gallery.worker import claiming, pace
from gallery.worker.sending import wake

logger = logging.getLogger(__name__)

_DECODERS = max(4, os.cpu_count() or 1)
_claims: set[float] = set()
_AHEAD = 3  # batches under way: one in the model, one ready for it, one being decoded


class Found(Protocol):
    """The tagger's `Prediction`, as far as it is asked here."""

    indices: np.ndarray
    confidences: np.ndarray
    feature: np.ndarray | None


class Predictor(Protocol):
    """The tagger's, as far as it is asked here."""

    def prepare(self, image: Image) -> np.ndarray: ...

    def draft(self, image: Image) -> None: ...

    def prepare_jpeg(self, file: BinaryIO) -> np.ndarray | None: ...


class Batcher(Protocol):
    """The tagger's, as far as it is asked here."""

    def size(self) -> int: ...

    def predict(self, arrays: Sequence[np.ndarray]) -> Sequence[Found]: ...


@dataclass
class Tagger:
    """The model in this process's memory."""

    release_id: int
    way: tuple[str, str, str]  # how the release was to be run when it was loaded
    predictor: Predictor
    batcher: Batcher
    tag_ids: np.ndarray  # tag id of each vocabulary index


@dataclass
class _Batch:
    posts: list[Post]
    claimed_at: datetime
    pixels: Sequence[Future[np.ndarray]] = ()
    found: Future[Sequence[Found]] = field(default_factory=Future)

    @property
    def alone(self) -> bool:
        """Whether this is a post that was begun before and never finished."""
        return self.posts[0].tagging_attempts > 1


def claims() -> list[float]:
    """When this process claimed the posts that it is at, as the rows say: others know by it what is looked after."""
    return sorted(_claims)


def tag_until(
    tagger: Tagger, deadline: float, goes_on: Callable[[], bool], between: Callable[[Callable[..., Any]], None]
) -> int:
    """Tag waiting posts until none waits, the time is up or `goes_on` denies it; returns how many were tagged.

    `between` is called between two batches with a function that runs a call in the model's thread.
    """
    tagged, under_way = 0, deque[_Batch]()
    with ThreadPoolExecutor(_DECODERS, "decode") as decoders, ThreadPoolExecutor(1, "model") as model:
        try:
            _take(tagger, under_way, decoders, model, most=1)
            if under_way and Post.objects.waiting().exists():
                wake()
            while under_way and goes_on():
                if time.monotonic() < deadline:
                    _take(tagger, under_way, decoders, model)
                tagged += _finish(tagger, under_way.popleft(), model)
                between(lambda *call: model.submit(*call).result())
                if not under_way and time.monotonic() < deadline:
                    _take(tagger, under_way, decoders, model)
        finally:
            tagged += _wind_up(tagger, under_way, model)
    return tagged


def _take(
    tagger: Tagger,
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
        _claims.add(claimed_at.timestamp())
        posts = claiming.claim(tagger.batcher.size(), claimed_at, fresh_only=bool(under_way))
        if not posts:
            _claims.discard(claimed_at.timestamp())
            return
        batch = _Batch(posts, claimed_at, [decoders.submit(pixels_of, tagger.predictor, post) for post in posts])
        batch.found = model.submit(_predict, tagger, batch.pixels)
        under_way.append(batch)


def _wind_up(tagger: Tagger, under_way: deque[_Batch], model: ThreadPoolExecutor) -> int:
    """Before leaving early: what the model has begun is finished, the rest waits again."""
    tagged = 0
    while under_way:
        batch = under_way.popleft()
        if batch.found.cancel():
            for pixels in batch.pixels:
                pixels.cancel()
            claiming.put_back(batch.posts, batch.claimed_at)
            _claims.discard(batch.claimed_at.timestamp())
        else:
            tagged += _finish(tagger, batch, model)
    return tagged


def pixels_of(predictor: Predictor, post: Post) -> np.ndarray:
    with default_storage.open(post.file_path) as file:
        if post.ext == "jpg":
            pixels = predictor.prepare_jpeg(file)
            if pixels is not None:
                return pixels
        with pictures.open_picture(file) as image:
            predictor.draft(image)
            return predictor.prepare(pictures.upright(image))


def _predict(tagger: Tagger, pixels: Sequence[Future[np.ndarray]]) -> Sequence[Found]:
    return tagger.batcher.predict([each.result() for each in pixels])


def _finish(tagger: Tagger, batch: _Batch, model: ThreadPoolExecutor) -> int:
    """Store what was found in a batch; when that fails, take each post by itself, so that one fails alone."""
    try:
        return _finish_all(tagger, batch, model)
    finally:
        _claims.discard(batch.claimed_at.timestamp())


def _finish_all(tagger: Tagger, batch: _Batch, model: ThreadPoolExecutor) -> int:
    try:
        return store(tagger, batch.posts, batch.found.result(), batch.claimed_at)
    except Exception:
        logger.warning("A batch of %d failed: trying its posts one by one", len(batch.posts), exc_info=True)
    tagged = 0
    for post, pixels in zip(batch.posts, batch.pixels, strict=True):
        try:
            found = model.submit(_predict, tagger, [pixels]).result()
            tagged += store(tagger, [post], found, batch.claimed_at)
        except Exception as error:
            logger.warning("Post %s could not be tagged: %s", post.pk, error)
            claiming.give_back(claiming.claimed([post], batch.claimed_at), _reason(error))
    return tagged


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "The picture's file is missing from the storage."
    return str(error) or type(error).__name__


def store(tagger: Tagger, posts: list[Post], found: Sequence[Found], claimed_at: datetime) -> int:
    """Write what was found in the posts that are still ours."""
    with transaction.atomic():
        stored = _write(tagger, posts, found, claimed_at)
    pace.count(stored)
    return stored


def _write(tagger: Tagger, posts: list[Post], found: Sequence[Found], claimed_at: datetime) -> int:
    claimed = claiming.claimed(posts, claimed_at)
    ours = set(claimed.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))
    kept = [(post, each) for post, each in zip(posts, found, strict=True) if post.pk in ours]
    Prediction.objects.bulk_create(
        [row_of(tagger, post, each) for post, each in kept],
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


def row_of(tagger: Tagger, post: Post, found: Found) -> Prediction:
    # Two names of a vocabulary may be one tag here, of which the first is the most confident.
    tag_ids, order = np.unique(tagger.tag_ids[found.indices], return_index=True)
    return Prediction(
        post=post,
        release_id=tagger.release_id,
        tag_ids=tag_ids.tolist(),
        confidences=to_bytes(found.confidences[order]).tobytes(),
    )
