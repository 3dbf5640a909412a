"""Near copies: the same picture resized, recompressed or cut a little, found by perceptual hash and told by colour.

Measured on the seed gallery (tests/gallery/likeness/test_copies.py): within NEAR bits lie all resized and
recompressed pictures and 96% of those cut by 2% at each side, but also different pictures of one shape. Those are
told apart by their colours on a 16 x 16 grid. Cut by 4% or more, turned or mirrored pictures are not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from django.core.files.storage import default_storage
from django.db import connection, transaction
from PIL import Image

from gallery.models import THUMBNAIL_SIZES, Post
from gallery.pictures import colours

NEAR = 10  # bits of 64
ALIKE = 24.0  # mean difference of colours, of 255
_TOLD = 24  # candidates whose colours are looked at, nearest first
_BITS = 16  # of a band; four bands make the hash
_MASK = (1 << _BITS) - 1

# The expression of the index post_hash_bands.
_BANDS = (
    "array[(perceptual_hash & 65535)::int, ((perceptual_hash >> 16) & 65535)::int | 65536,"
    " ((perceptual_hash >> 32) & 65535)::int | 131072, ((perceptual_hash >> 48) & 65535)::int | 196608]"
)
# Hashes that differ in 11 bits or fewer have a band that differs in two or fewer.
_FLIPS = [0, *(1 << i for i in range(_BITS)), *((1 << i) | (1 << j) for i, j in combinations(range(_BITS), 2))]
_DISTANCE = "bit_count((perceptual_hash # %s)::bit(64))"


@dataclass(frozen=True)
class NearCopy:
    """An active post with a picture that is nearly the same; `distance` in bits."""

    post: Post
    distance: int


def of_picture(perceptual_hash: int, thumbnail: Image.Image, most: int = 6, without: int = 0) -> list[NearCopy]:
    """Active posts that show the same picture, the nearest first."""
    found: list[NearCopy] = []
    candidates = within(perceptual_hash, NEAR, without)
    posts = Post.objects.in_bulk([pk for pk, _ in candidates])
    seen = colours(thumbnail)
    for pk, distance in candidates:
        if len(found) < most and pk in posts and _same_colours(posts[pk], seen):
            found.append(NearCopy(posts[pk], distance))
    return found


def of_post(post: Post, most: int = 6) -> list[NearCopy]:
    """As `of_picture`, of a post's own picture."""
    thumbnail = _thumbnail(post)
    if post.perceptual_hash is None or thumbnail is None:
        return []
    return of_picture(post.perceptual_hash, thumbnail, most, without=post.pk)


def within(perceptual_hash: int, distance: int, without: int = 0, most: int = _TOLD) -> list[tuple[int, int]]:
    """Active posts whose hash differs in at most so many bits (11 at most), and in how many, the nearest first."""
    bands = [perceptual_hash >> (_BITS * number) & _MASK for number in range(4)]
    probes = [(band ^ flips) | number << _BITS for number, band in enumerate(bands) for flips in _FLIPS]
    with transaction.atomic(), connection.cursor() as cursor:
        # The planner knows nothing of this expression and would read the whole table.
        cursor.execute("set local enable_seqscan = off")
        cursor.execute(
            f"select id, {_DISTANCE} from post"
            f" where {_BANDS} operator(pg_catalog.&&) %s::int[] and {_DISTANCE} <= %s"
            " and status = 'active' and id <> %s order by 2, 1 limit %s",
            [perceptual_hash, probes, perceptual_hash, distance, without, most],
        )
        found = cursor.fetchall()
        cursor.execute("set local enable_seqscan = on")
    return found


def _same_colours(post: Post, seen: np.ndarray) -> bool:
    thumbnail = _thumbnail(post)
    return thumbnail is not None and float(np.abs(colours(thumbnail) - seen).mean()) <= ALIKE


def _thumbnail(post: Post) -> Image.Image | None:
    try:
        with default_storage.open(post.thumbnail_path(THUMBNAIL_SIZES[0])) as file, Image.open(file) as image:
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except OSError:
        return None
