"""From a picture to the model's input: one way for training, evaluation and use, its values stored in the release.

The published Camie v1 values are Preprocess(512, pad_color=(0, 0, 0), alpha="drop"); v2 pads with (124, 116, 104)
and normalises by ImageNet's mean and standard deviation.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
GEOMETRIES = ("letterbox", "square", "stretch")
# A picture so narrow that its square would be larger than this is letterboxed: the same up to the filter's edge.
LARGEST_SQUARE = 100_000_000
ALPHA_RULES = ("drop", "composite")
LARGE_JPEG_RULES = ("whole", "draft")
LARGE = 2048  # pixels of the long side from which on a JPEG may be drafted
DRAFTED = "drafted"  # in a drafted picture's `info`: its full width and height, and by what it was divided


class PreprocessError(ValueError):
    """A sentence saying which preprocessing value is wrong."""


@dataclass(frozen=True)
class Preprocess:
    """Call it with an upright picture of any mode: float32 [3, size, size], RGB.

    geometry letterbox keeps the aspect, resizes and pads; square pads first and resizes the square; stretch does not
    keep it. alpha drop takes the colours under transparent parts, as the published code does; composite lays the
    picture on `pad_color`. mean and std are of the 0 to 1 scale. large_jpeg draft says that training called `draft` on
    its pictures; whole, which published and older releases mean, that it decoded them in full.
    """

    size: int
    geometry: str = "letterbox"
    filter: str = "lanczos"
    pad_color: tuple[int, int, int] = (255, 255, 255)
    alpha: str = "composite"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    large_jpeg: str = "whole"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 8:
            raise PreprocessError(f"The picture size is {self.size!r}; it must be a whole number of at least 8.")
        choices = {"geometry": GEOMETRIES, "filter": FILTERS, "alpha": ALPHA_RULES, "large_jpeg": LARGE_JPEG_RULES}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise PreprocessError(f"The {name} is {getattr(self, name)!r}; it must be {' or '.join(known)}.")
        for name in ("pad_color", "mean", "std"):
            self._freeze_triple(name)
        if any(not isinstance(value, int) or not 0 <= value <= 255 for value in self.pad_color):
            raise PreprocessError("The pad_color must be three whole numbers from 0 to 255.")
        if (self.mean is None) != (self.std is None) or 0 in (self.std or ()):
            raise PreprocessError("mean and std must both be given or both be null, and std must not be 0.")

    def _freeze_triple(self, name: str) -> None:
        value = getattr(self, name)
        if value is None and name != "pad_color":
            return
        if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
            raise PreprocessError(f"The {name} is {value!r}; it must be three numbers.")
        object.__setattr__(self, name, tuple(value))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Preprocess":
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(config) - known):
            raise PreprocessError(f"The preprocessing has unknown settings: {', '.join(unknown)}.")
        if "size" not in config:
            raise PreprocessError("The preprocessing lacks its size.")
        return cls(**config)

    def to_config(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def __call__(self, image: Image.Image) -> np.ndarray:
        return self.normalise(self.place(self.opaque(image)))

    def draft(self, image: Image.Image) -> None:
        """Lets the decoder of a JPEG of `LARGE` pixels or more leave out the finest detail; other pictures stay.

        To be called before the picture is decoded. It shrinks by 2, 4 or 8 as far as the long side stays at least
        one and a half times this input size, so that the filter still does the last and visible step. Not for
        geometry square.
        """
        (width, height), scale = image.size, self.draft_scale(*image.size)
        if scale == 1 or image.format not in ("JPEG", "MPO"):
            return
        if image.draft(None, (width // scale, height // scale)) is not None:
            image.info[DRAFTED] = (width, height, scale)

    def draft_scale(self, width: int, height: int) -> int:
        """By what `draft` divides the sides of a JPEG of this size; 1 where it leaves it whole."""
        if max(width, height) < LARGE or self.geometry == "square":
            return 1
        wide = (scale for scale in (8, 4, 2) if 2 * max(width, height) >= 3 * scale * self.size)
        return next((scale for scale in wide if min(width, height) >= scale), 1)

    def opaque(self, image: Image.Image) -> Image.Image:
        """Any mode to RGB by this alpha rule."""
        image = eight_bit(image)
        if self.alpha == "composite" and image.has_transparency_data:
            image = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, (*self.pad_color, 255)), image).convert("RGB")
        return image if image.mode == "RGB" else image.convert("RGB")

    def place(self, image: Image.Image) -> Image.Image:
        """RGB of any size to RGB of size x size."""
        if self.geometry == "square" and max(image.size) ** 2 <= LARGEST_SQUARE:
            return self.centred(image, max(image.size)).resize((self.size, self.size), FILTERS[self.filter])
        if DRAFTED not in image.info:
            return self.centred(image.resize(self.inner_size(*image.size), FILTERS[self.filter]), self.size)
        from tagger.drafted import resize  # torch takes seconds to load, and only large pictures need it

        width, height, scale = image.info[DRAFTED]
        part = width / scale, height / scale  # the last row and column may reach beyond the picture
        if part[0] > image.width or part[1] > image.height or (width > height) != (image.width > image.height):
            part, width, height = image.size, height, width  # it was turned upright since
        return self.centred(resize(image, self.inner_size(width, height), self.filter, part), self.size)

    def centred(self, image: Image.Image, side: int) -> Image.Image:
        """RGB in the middle of a square of the pad colour; an odd slack goes to the right and bottom."""
        if image.size == (side, side):
            return image
        canvas = Image.new("RGB", (side, side), self.pad_color)
        canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return canvas

    def inner_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height inside the square; the published code truncates the short side, from a float aspect."""
        if self.geometry == "stretch":
            return self.size, self.size
        aspect = width / height
        if aspect > 1:
            return self.size, max(1, int(self.size / aspect))
        return max(1, int(self.size * aspect)), self.size

    def normalise(self, image: Image.Image) -> np.ndarray:
        """RGB of size x size to float32 [3, size, size], 0 to 1 or by mean and std."""
        pixels = np.asarray(image, dtype=np.uint8).transpose(2, 0, 1).astype(np.float32)
        pixels /= 255
        if self.mean is not None and self.std is not None:
            pixels -= np.array(self.mean, dtype=np.float32)[:, None, None]
            pixels /= np.array(self.std, dtype=np.float32)[:, None, None]
        return pixels


def eight_bit(image: Image.Image) -> Image.Image:
    """Brings 16-bit, 32-bit and float greys to 8 bits; Pillow's own conversion cuts them off at 255 instead."""
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    if image.mode.startswith("I;16") or grey.max() > 255:
        grey = grey / 257
    elif image.mode == "F" and grey.max() <= 1:
        grey = grey * 255
    return Image.fromarray(np.rint(grey.clip(0, 255)).astype(np.uint8))
