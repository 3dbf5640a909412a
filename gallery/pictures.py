"""Picture files only: verify, measure, turn upright, thumbnail, perceptual hash. Knows no rows.

What a file is gets decided by its bytes, never by its name.
"""

from __future__ import annotations

import io
import itertools
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from django.conf import settings
from PIL import Image, ImageOps, UnidentifiedImageError

# JPEG files of many phones hold a second picture and open as MPO; they are JPEG to everybody else.
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "AVIF": "avif"}
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
_ORIENTATION = 0x0112
_LEAST_FRAME = 0.1  # megapixels that any frame counts for: a million tiny ones are work, too
_MARGIN = 0.003  # of the strongest frequency: the least that finds all seed pictures again at half their size
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_AT_ONCE = 120.0  # megapixels that one process decodes at a time: about ten bytes of memory each

warnings.simplefilter("error", Image.DecompressionBombWarning)


class BadPicture(ValueError):
    """A file that can't be taken; the text is one sentence for the person who sent it."""


@dataclass(frozen=True)
class Picture:
    """What was found in a picture file; width and height are as displayed."""

    ext: str
    width: int
    height: int
    animated: bool
    perceptual_hash: int
    thumbnails: dict[int, bytes]  # longest side: WebP file

    def thumbnail(self) -> io.BytesIO:
        """The smallest one."""
        return io.BytesIO(self.thumbnails[min(self.thumbnails)])


class Room:
    """Lets in what has room beside the others, of so much in all; what is larger than that comes in alone."""

    def __init__(self, most: float) -> None:
        self.most, self.taken, self.change = most, 0.0, threading.Condition()

    @contextmanager
    def __call__(self, much: float) -> Iterator[None]:
        much = min(much, self.most)
        with self.change:
            self.change.wait_for(lambda: self.taken + much <= self.most)
            self.taken += much
        try:
            yield
        finally:
            with self.change:
                self.taken -= much
                self.change.notify_all()


_room = Room(_AT_ONCE)


def inspect(file: BinaryIO, sizes: tuple[int, ...] = ()) -> Picture:
    """Read a picture file to its end and make its thumbnails from the same decode.

    Raises BadPicture for anything but a whole JPEG, PNG, WebP, GIF or AVIF within the site's limits.
    """
    with open_picture(file) as image:
        ext = _EXTENSIONS[image.format or ""]
        width, height = _displayed_size(image)
        _check_size(width, height, _told_frames(image))
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
        try:
            with _room(width * height / 1e6):
                first = _first_frame(image, max(sizes, default=360), animated)
                if animated:
                    _read_frames(image, width, height)
        except BadPicture:
            raise
        except Exception as error:  # decoders raise anything at all on hostile bytes
            raise _damaged() from error
    thumbnails = {size: _thumbnail(first, size) for size in sorted(sizes, reverse=True)}
    return Picture(ext, width, height, animated, perceptual_hash(first), thumbnails)


def _first_frame(image: Image.Image, largest: int, animated: bool) -> Image.Image:
    """Upright, no side above `largest`."""
    image.draft("RGB", (largest, largest))
    image.load()
    first = _flat(image.copy() if animated else image)
    first.thumbnail((largest, largest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return ImageOps.exif_transpose(first)


def _told_frames(image: Image.Image) -> int:
    """How many frames the file's head tells of; a GIF's doesn't, and Pillow would walk through all of it to count."""
    return 1 if image.format in ("MPO", "GIF") else getattr(image, "n_frames", 1)


def _read_frames(image: Image.Image, width: int, height: int) -> None:
    """Decode every frame, and give up where they become too many."""
    for number in itertools.count(1):
        try:
            image.seek(number)
        except EOFError:
            return
        _check_size(width, height, number + 1)
        image.load()


def open_picture(file: BinaryIO) -> Image.Image:
    """An opened, not yet decoded image of one of the site's formats. Raises BadPicture."""
    Image.MAX_IMAGE_PIXELS = settings.UPLOAD_MAX_MEGAPIXELS * 1_000_000
    file.seek(0)
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise BadPicture(
            "This file is not a picture that can be taken: send a JPEG, PNG, WebP, GIF or AVIF."
        ) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadPicture(
            f"The picture has too many pixels: make it smaller than {settings.UPLOAD_MAX_MEGAPIXELS} megapixels."
        ) from error
    except Exception as error:
        raise _damaged() from error


def upright(image: Image.Image) -> Image.Image:
    """The current frame as RGB or RGBA, eight bits, turned as its EXIF orientation says."""
    return ImageOps.exif_transpose(_flat(image))


def _flat(image: Image.Image) -> Image.Image:
    """The image itself when it is RGB or RGBA, else converted; a colour profile is kept only where it still fits."""
    if image.mode not in ("RGB", "RGBA", "P"):
        image.info.pop("icc_profile", None)
    if image.mode.startswith("I"):  # 16 bits of grey
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def perceptual_hash(image: Image.Image) -> int:
    """64 bits of the picture's coarse structure as a signed number: near pictures differ in few bits.

    The lowest 8 x 8 frequencies of a 32 x 32 grey picture against their median (Zauner 2010, pHash), with a margin:
    a symmetric picture has many at the median itself, where rounding alone would decide the bit.
    """
    grey = np.asarray(_on_white(image).convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    waves = np.cos(np.pi / 32 * np.outer(np.arange(8), np.arange(32) + 0.5))  # 8 x 32: DCT-II, low rows
    low = waves @ grey @ waves.T
    waves_only = low.ravel()[1:]  # without the mean brightness
    bits = low > np.median(waves_only) + _MARGIN * np.abs(waves_only).max()
    return int.from_bytes(np.packbits(bits).tobytes(), "big", signed=True)


def colours(image: Image.Image) -> np.ndarray:
    """Mean colours on a 16 x 16 grid, float32 [16, 16, 3]: what tells pictures of one shape apart."""
    flat = _on_white(image).convert("RGB")
    return np.asarray(flat.resize((16, 16), Image.Resampling.BOX), np.float32)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    background = Image.new("RGB", image.size, "white")
    background.paste(image, mask=image.getchannel("A"))
    return background


def _thumbnail(image: Image.Image, size: int) -> bytes:
    """A WebP file of the picture within size x size; small pictures stay as large as they are."""
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=80, method=4)
    return out.getvalue()


def _displayed_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    try:
        turned = image.getexif().get(_ORIENTATION) in _TURNED
    except Exception as error:  # EXIF is bytes from outside, too
        raise _damaged() from error
    return (height, width) if turned else (width, height)


def _check_size(width: int, height: int, frames: int) -> None:
    megapixels = width * height / 1_000_000
    if megapixels > settings.UPLOAD_MAX_MEGAPIXELS:
        raise BadPicture(
            f"The picture has {megapixels:.0f} megapixels: "
            f"make it smaller than {settings.UPLOAD_MAX_MEGAPIXELS} megapixels."
        )
    most = settings.UPLOAD_MAX_ANIMATION_MEGAPIXELS / max(megapixels, _LEAST_FRAME)
    if frames > max(1, most):
        raise BadPicture(
            f"The animation has more than {int(most):,} frames of {width} x {height} pixels: "
            "make it smaller or shorter."
        )


def _damaged() -> BadPicture:
    return BadPicture("The picture is damaged or cut short: open it in an editor and save it again.")
