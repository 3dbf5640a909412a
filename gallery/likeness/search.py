"""Look-alikes: the posts whose features point nearest to that of a post or of a picture.

Exact while a release has few features, by pgvector's graph where it has many and the server has the extension.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gallery.likeness import matrix, vectors
from gallery.likeness.features import unpack
from gallery.models import Feature, Post, Release

_SPARE = 24  # found beyond what is wanted: some are deleted
_MOST = 1000  # candidates, however many of them are deleted


@dataclass(frozen=True)
class LookAlike:
    post_id: int
    likeness: float  # cosine, 1 for the same


def of_post(post: Post, most: int) -> list[LookAlike] | None:
    """The active posts most like this one, as the active release sees it, else the newest that saw it.

    None when no release has.
    """
    rows = Feature.objects.filter(post=post).exclude(codes=b"")
    row = rows.order_by("-release__active", "-release_id").first()
    return None if row is None else of_direction(row.release_id, unpack(row.codes), most, without=post.pk)


def of_direction(release_id: int, direction: np.ndarray, most: int, without: int = 0) -> list[LookAlike]:
    """The active posts whose features, by this release, point most nearly there."""
    find = vectors.nearest if vectors.has_graph(release_id) else matrix.nearest
    wanted = most + _SPARE
    while True:
        found = find(release_id, direction, wanted)
        active = set(Post.objects.active().filter(pk__in=[pk for pk, _ in found]).values_list("pk", flat=True))
        kept = [LookAlike(pk, cosine) for pk, cosine in found if pk in active and pk != without]
        if len(kept) >= most or len(found) < wanted or wanted > _MOST:
            return kept[:most]
        wanted *= 4


def release_id() -> int | None:
    """The release that new pictures are seen by."""
    return Release.objects.filter(active=True).values_list("pk", flat=True).first()
