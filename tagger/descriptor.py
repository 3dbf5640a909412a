"""What one must know to run another project's ONNX tagger: the part `descriptor` of a release's config.json.

    "input":  {"name": null (the first), "layout": "NCHW" | "NHWC", "channels": "RGB" | "BGR",
               "scale": 1 | 255 (a channel's brightest value, before mean and std),
               and all of tagger/preprocess.py: size, geometry, filter, pad_color, alpha, mean, std}
    "output": {"name": null | "prediction", "index": 0, "activation": "sigmoid" | "identity" (scores from 0 to 1)}
    "vocabulary": {"file": "selected_tags.csv", "format": "csv" | "json" | "lines",
                   csv:  "name", "category", "count": columns; the last two may be null,
                   json: "names", "categories": dotted paths to {"0": name} or [name], and {name: category} or null}
    "categories": {"4": "character"}: beside Danbooru's numbers and our own names, which are always known
    "exclusive_categories": ["rating"]
    "thresholds": {"overall": 0.35, "character": 0.85}: balanced numbers, or {mode: number} for several modes

An output's name wins over its index. The importer reads the vocabulary and thresholds into the release's own files;
what runs the model needs only input and output. Knows neither torch nor onnxruntime.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from tagger.preprocess import Preprocess, PreprocessError
from tagger.selecting import ACTIVATIONS

LAYOUTS = ("NCHW", "NHWC")
CHANNELS = ("RGB", "BGR")
PARTS = {"input", "output", "vocabulary", "categories", "exclusive_categories", "thresholds"}


class DescriptorError(ValueError):
    """A sentence saying which part of a descriptor is missing or wrong."""


@dataclass(frozen=True)
class Output:
    name: str | None = None
    index: int = 0
    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        _choice("output's activation", self.activation, ACTIVATIONS)
        if isinstance(self.index, bool) or not isinstance(self.index, int) or self.index < 0:
            raise DescriptorError(f"The output's index is {self.index!r}; it must be a whole number of at least 0.")


@dataclass(frozen=True)
class Descriptor:
    preprocess: Preprocess
    output: Output
    input_name: str | None = None
    layout: str = "NCHW"
    channels: str = "RGB"
    scale: float = 1

    def __post_init__(self) -> None:
        _choice("layout", self.layout, LAYOUTS)
        _choice("channel order", self.channels, CHANNELS)
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float) or self.scale <= 0:
            raise DescriptorError(f"The scale is {self.scale!r}; it must be a number above 0, such as 1 or 255.")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Descriptor":
        """The parts that run the model; PARTS that only the importer needs are let through. Raises DescriptorError."""
        if not isinstance(config, Mapping):
            raise DescriptorError("The descriptor is not a JSON object.")
        if unknown := sorted(set(config) - PARTS):
            raise DescriptorError(f"The descriptor has unknown parts: {', '.join(unknown)}.")
        given = config.get("input")
        if not isinstance(given, Mapping):
            raise DescriptorError("The descriptor lacks its part input.")
        own = {"name", "layout", "channels", "scale"}
        try:
            preprocess = Preprocess.from_config({key: value for key, value in given.items() if key not in own})
        except PreprocessError as error:
            raise DescriptorError(f"The descriptor's input is wrong: {error}") from error
        output = config.get("output", {})
        if unknown := sorted(set(output) - {field.name for field in fields(Output)}):
            raise DescriptorError(f"The descriptor's output has unknown settings: {', '.join(unknown)}.")
        rest = {key: given[key] for key in ("layout", "channels", "scale") if key in given}
        return cls(preprocess, Output(**output), given.get("name"), **rest)

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        side = self.preprocess.size
        return (3, side, side) if self.layout == "NCHW" else (side, side, 3)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """An upright picture of any mode to the model's input without its batch axis, float32."""
        pixels = self.preprocess.place(self.preprocess.opaque(image))
        if self.scale == 1:
            array = self.preprocess.normalise(pixels)
        else:
            array = self._scaled(pixels)
        if self.channels == "BGR":
            array = array[::-1]
        if self.layout == "NHWC":
            array = array.transpose(1, 2, 0)
        return np.ascontiguousarray(array)

    def _scaled(self, pixels: Image.Image) -> np.ndarray:
        """As Preprocess.normalise, on another scale; 0 to 255 stays the whole numbers that it was."""
        array = np.asarray(pixels, dtype=np.uint8).transpose(2, 0, 1).astype(np.float32)
        if self.scale != 255:
            array *= self.scale / 255
        if self.preprocess.mean is not None and self.preprocess.std is not None:
            array -= np.array(self.preprocess.mean, dtype=np.float32)[:, None, None]
            array /= np.array(self.preprocess.std, dtype=np.float32)[:, None, None]
        return array


def _choice(what: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise DescriptorError(f"The {what} is {value!r}; it must be {' or '.join(known)}.")
