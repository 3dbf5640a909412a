"""The features of posts: packed small, written with the predictions, and which posts have none yet.

Only a feature's direction counts, so it is stored as whole numbers from -127 to 127, the largest at the end of the
scale; its length is forgotten. A quarter of float32, half of float16.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from django.core.cache import cache
from django.db.models import Exists, OuterRef, QuerySet

from gallery.models import Feature, Post, Prediction, Release, TaggingState

_LARGEST = 127
PAUSE_SECONDS = 600  # so long nobody looks again whether features are missing
_NEVER_SECONDS = 24 * 3600
_COUNT_SECONDS = 30


def pack(feature: np.ndarray | None) -> bytes:
    """One byte a number; empty for none, and for one without a direction."""
    if feature is None:
        return b""
    numbers = np.asarray(feature, np.float32)
    largest = np.abs(numbers).max(initial=0.0)
    if not np.isfinite(largest) or largest == 0:
        return b""
    return np.rint(numbers * (_LARGEST / largest)).astype(np.int8).tobytes()


def unpack(codes: bytes | memoryview) -> np.ndarray:
    """The direction as float32, of length 1."""
    numbers = np.frombuffer(bytes(codes), np.int8).astype(np.float32)
    return numbers / np.linalg.norm(numbers)


def store(release_id: int, found: Mapping[int, np.ndarray | None], final: bool = False) -> None:
    """Keep these posts' features, in the place of empty ones; `final` also keeps that there is none."""
    packed = {post_id: pack(feature) for post_id, feature in found.items()}
    real = [post_id for post_id, codes in packed.items() if codes]
    # A new row, not a changed one: searches read on from the last row that they know.
    Feature.objects.filter(post_id__in=real, release_id=release_id, codes=b"").delete()
    Feature.objects.bulk_create(
        [
            Feature(post_id=post_id, release_id=release_id, codes=codes)
            for post_id, codes in packed.items()
            if codes or final
        ],
        ignore_conflicts=True,
    )


def missing(release_id: int) -> QuerySet[Post]:
    """Posts that this release tagged before it could tell features, newest first."""
    tagged = Post.objects.active().filter(tagging_state=TaggingState.TAGGED)
    return tagged.filter(
        Exists(Prediction.objects.filter(post=OuterRef("pk"), release_id=release_id)),
        ~Exists(Feature.objects.filter(post=OuterRef("pk"), release_id=release_id)),
    ).order_by("-id")


def any_missing(release: Release) -> bool:
    """Whether some could be had; after a no nobody looks again for ten minutes."""
    if release.config.get("kind") != "camie" or cache.get(_complete(release.pk)):
        return False
    if missing(release.pk).exists():
        return True
    none_to_come(release.pk, PAUSE_SECONDS)
    return False


def none_to_come(release_id: int, seconds: int = _NEVER_SECONDS) -> None:
    """Ask nobody for this release's features: its engine has none."""
    cache.set(_complete(release_id), True, seconds)


def _complete(release_id: int) -> str:
    return f"features-complete:{release_id}"


def number() -> int:
    """How many posts the active release was asked about; of hardly any, those with a torn file, it has none.

    Telling them apart would read every feature.
    """
    if (found := cache.get("features")) is None:
        release = Release.objects.filter(active=True).values_list("pk", flat=True).first()
        found = Feature.objects.filter(release_id=release).count() if release else 0
        cache.set("features", found, _COUNT_SECONDS)
    return found
