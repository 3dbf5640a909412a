import io
import json
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from django.conf import settings
from django.core.management import call_command
from PIL import Image

from gallery import pictures, uploading
from gallery.likeness import copies
from gallery.models import Post
from tests.gallery.making import make_post
from tests.gallery.test_pictures import file_of

SEED = settings.BASE_DIR / "gallery" / "seed"


@cache
def seed() -> list[Image.Image]:
    names = [row["file"] for row in json.loads((SEED / "seed.json").read_text("utf-8"))["pictures"]]
    found = []
    for name in names:
        with Image.open(SEED / name) as image:
            found.append(pictures._on_white(image.convert("RGBA")).convert("RGB"))
    return found


def small(image: Image.Image) -> Image.Image:
    """As the site looks at it."""
    copy = image.copy()
    copy.thumbnail((360, 360), Image.Resampling.LANCZOS)
    return copy


@cache
def signs() -> list[tuple[int, np.ndarray]]:
    return [sign(image) for image in seed()]


def sign(image: Image.Image) -> tuple[int, np.ndarray]:
    return pictures.perceptual_hash(small(image)), pictures.colours(small(image))


def are_near(one: tuple[int, np.ndarray], other: tuple[int, np.ndarray]) -> bool:
    bits = ((one[0] ^ other[0]) & (2**64 - 1)).bit_count()
    return bits <= copies.NEAR and float(np.abs(one[1] - other[1]).mean()) <= copies.ALIKE


def scaled(part: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((max(1, round(image.width * part)), max(1, round(image.height * part))))


def saved(form: str, quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        image.save(file := io.BytesIO(), form, quality=quality)
        return Image.open(file).convert("RGB")

    return change


def cut(part: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        x, y = round(image.width * part), round(image.height * part)
        return image.crop((x, y, image.width - x, image.height - y))

    return change


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (scaled(0.5), 1),
        (scaled(0.25), 1),
        (scaled(1.5), 1),
        (saved("JPEG", 30), 1),
        (saved("WEBP", 30), 1),
        (lambda image: saved("JPEG", 50)(scaled(0.5)(image)), 1),
        (cut(0.01), 1),
        (cut(0.02), 0.95),
    ],
    ids=["half", "quarter", "larger", "jpeg", "webp", "half jpeg", "cut 1%", "cut 2%"],
)
def test_changed_copies_are_found(change, least):
    """Of the seed gallery's pictures at least so many."""
    found = [are_near(own, sign(change(image))) for own, image in zip(signs(), seed(), strict=True)]
    assert np.mean(found) >= least


def test_different_pictures_are_told_apart():
    """Of 11,175 pairs three: two differ in a face's expression alone, one in a face and its hair."""
    all_of = signs()
    near = sum(are_near(all_of[i], all_of[j]) for i in range(len(all_of)) for j in range(i))
    assert near <= 3


@pytest.mark.django_db
def test_every_hash_within_the_distance_is_found_and_no_other():
    rng = np.random.default_rng(3)
    base = int(rng.integers(-(2**63), 2**63))
    expected = {}
    for flips in [*range(12), 13, 20, 32] * 3:
        bits = sum(1 << int(bit) for bit in rng.choice(64, flips, replace=False))
        number = (base ^ bits) & (2**64 - 1)
        post = make_post(perceptual_hash=number - 2**64 if number >= 2**63 else number)
        expected[post.pk] = flips
    make_post(perceptual_hash=None)
    make_post(perceptual_hash=base, status="deleted")
    make_post(perceptual_hash=base, status="held")
    near = {pk: flips for pk, flips in expected.items() if flips <= 11}
    found = copies.within(base, 11, most=99)
    assert dict(found) == near
    assert [flips for _, flips in found] == sorted(near.values())
    first = found[0][0]
    assert first not in dict(copies.within(base, 4, without=first))


@pytest.mark.django_db
def test_near_copies_of_a_stored_post(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    post = uploading.store(file_of(seed()[0]), name="one.png").post
    copy = uploading.store(file_of(scaled(0.5)(seed()[0])), name="copy.png").post
    uploading.store(file_of(seed()[1]), name="other.png")
    [found] = copies.of_post(post)
    assert found.post == copy and found.distance <= copies.NEAR
    uploading.delete(copy)
    assert copies.of_post(post) == []


@pytest.mark.django_db
def test_a_missing_thumbnail_is_no_near_copy(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    post = uploading.store(file_of(seed()[0]), name="one.png").post
    make_post(perceptual_hash=post.perceptual_hash)
    assert copies.of_post(post) == []
    assert copies.of_post(Post.objects.exclude(pk=post.pk).get()) == []


@pytest.mark.django_db
def test_hashes_are_made_anew_from_the_samples(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    post = uploading.store(file_of(seed()[0]), name="one.png").post
    fresh = post.perceptual_hash
    Post.objects.filter(pk=post.pk).update(perceptual_hash=~fresh)
    lost = make_post(perceptual_hash=5)
    call_command("rebuild_hashes", stdout=(said := io.StringIO()))
    post.refresh_from_db()
    assert ((post.perceptual_hash ^ fresh) & (2**64 - 1)).bit_count() <= 2
    assert Post.objects.get(pk=lost.pk).perceptual_hash == 5
    assert "1 posts are hashed anew. 1 have no sample." in said.getvalue()
