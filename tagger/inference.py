"""Tags pictures with a release of any kind: batches in, packed arrays out.

Knows no profiles: it cuts only at the score floor. What runs the model is an engine: torch for our own architecture
(tagger/camie.py) and JoyTag's (tagger/vit.py), onnxruntime or OpenVINO for other people's (tagger/onnx.py). Callers
see only `Predictor`.

Mode exact computes in 32 bits, from pixels decoded as in training. Mode fast takes the lower precision that this
machine has, faster or not, and decodes large JPEGs smaller; tagger/fast.py says whether it is worth having and
whether a release bears it.
"""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps

from tagger import release as releases
from tagger.release import ReleaseError, ReleaseFolder
from tagger.selecting import activate, select_one

MODES = ("exact", "fast")
ENGINES = ("auto", "torch", "onnxruntime", "openvino")


class Prediction(NamedTuple):
    """What a tagger says of one picture, most confident first. Unpack it by name.

    `feature` is what its backbone saw, for likeness; None where the engine can't answer it.
    """

    indices: np.ndarray  # int32, in the vocabulary
    confidences: np.ndarray  # float32
    feature: np.ndarray | None  # float16 [feature_size]


class Engine(Protocol):
    """One loaded model. `stage` is what it answers with, `batch_size` how many pictures it takes at once.

    `title` names what computes and how, such as "torch fp32" or "openvino bf16".

    `scores` gives every tag's score, float32 [B, tags], which `activation` turns into a confidence, and the backbone's
    features, float16 [B, feature_size], of the same pass; None from an engine that does not see them.
    """

    title: str
    stage: str
    batch_size: int
    activation: str

    def prepare(self, image: Image.Image) -> np.ndarray: ...

    def scores(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]: ...


class Predictor:
    """One release on one device; `threads` is the number of CPU threads, 0 for the engine's own choice."""

    def __init__(
        self,
        release_folder: Path | str,
        device: str = "auto",
        stage: str = "refined",
        threads: int = 0,
        engine: str = "auto",
        mode: str = "exact",
    ) -> None:
        if mode not in MODES:
            raise ReleaseError(f"The mode is {mode!r}; it must be exact or fast.")
        if threads < 0:
            raise ReleaseError(
                f"The number of threads is {threads}; it must be at least 1, or 0 for the engine's choice."
            )
        if stage not in ("initial", "refined"):
            raise ReleaseError(f"The stage is {stage!r}; it must be initial or refined.")
        self.release = releases.read(release_folder)
        self.engine = open_engine(self.release, device, stage, threads, engine, mode)
        self.mode = mode
        self.stage = self.engine.stage
        self.batch_size = self.engine.batch_size

    def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """What each picture shows, cut at the release's floor and number."""
        return self.predict_prepared(prepare_all(self, images))

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Decodes and preprocesses one picture, which must be upright; safe in threads, ahead of the model."""
        return self.engine.prepare(image)

    def draft(self, image: Image.Image) -> None:
        """Has a large JPEG, opened and not yet decoded, decoded smaller, where this release and mode allow it."""
        preprocess = self.release.preprocess
        if self.mode == "fast" or preprocess.large_jpeg == "draft":
            preprocess.draft(image)

    def prepare_file(self, data: bytes) -> np.ndarray:
        """As a site's worker prepares a post's file. Raises what Pillow raises."""
        pixels = self.prepare_jpeg(io.BytesIO(data))
        if pixels is not None:
            return pixels
        with Image.open(io.BytesIO(data)) as image:
            self.draft(image)
            return self.prepare(ImageOps.exif_transpose(image))

    def prepare_jpeg(self, file: BinaryIO) -> np.ndarray | None:
        """As `prepare`, decoded on the model's own device; None where that can't be or is not this mode's way."""
        decoder = getattr(self.engine, "jpegs", None)
        return decoder.prepare(file.read()) if decoder else None

    def predict_prepared(self, arrays: Sequence[np.ndarray]) -> list[Prediction]:
        """As `predict`, from what `prepare` returned."""
        predictions: list[Prediction] = []
        for start in range(0, len(arrays), self.batch_size):
            found = self._scores(np.stack(arrays[start : start + self.batch_size]))
            predictions += select(
                *found, self.release.score_floor, self.release.max_predictions, self.engine.activation
            )
        return predictions

    def every_stage(self, image: Image.Image, floor: float, most: int) -> dict[str, Prediction]:
        """One picture's tags by each stage that the release has, cut at this floor and number instead of its own."""
        both = self.release.camie is not None and self.release.stage == "refined"
        pixels, found = self.prepare(image)[None], {}
        try:
            for stage in ("refined", "initial") if both else (self.stage,):
                self.engine.stage = stage
                found[stage] = select(*self._scores(pixels), floor, most, self.engine.activation)[0]
        finally:
            self.engine.stage = self.stage
        return found

    def confidences(self, pixels: np.ndarray) -> np.ndarray:
        """A stack of prepared pictures -> every tag's confidence, float32 [B, tags]."""
        return self.answer(pixels)[0]

    def answer(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """As `confidences`, and the features, float16 [B, feature_size], of the same pass where the engine has them.

        FloatingPointError if the model overflowed.
        """
        scores, features = self._scores(pixels)
        return activate(scores, self.engine.activation), features

    def _scores(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        scores, features = self.engine.scores(pixels)
        if not np.isfinite(np.vdot(scores, scores)):  # the quickest look at all of them
            raise FloatingPointError("The model's scores are not finite; the release's weights may be damaged.")
        return scores, features


def open_engine(
    release: ReleaseFolder, device: str, stage: str, threads: int, engine: str, mode: str = "exact"
) -> Engine:
    """The engine that runs this kind of release. Raises ReleaseError with the remedy."""
    if engine not in ENGINES:
        raise ReleaseError(f"No engine is called {engine!r}; use one of {', '.join(ENGINES)}.")
    if release.kind == "vit":
        if engine not in ("auto", "torch"):
            raise ReleaseError(f"The release {release.name} runs with torch; leave the engine at auto.")
        from tagger.vit import VitEngine

        return VitEngine(release, device, threads, mode)
    if release.descriptor is not None:
        if engine == "torch":
            raise ReleaseError(f"The release {release.name} is an ONNX model; run it with onnxruntime or openvino.")
        from tagger.onnx import OnnxEngine

        if engine == "auto":
            engine = "openvino" if mode == "fast" else "onnxruntime"
        return OnnxEngine(release, device, threads, engine, mode)
    if engine == "onnxruntime":
        raise ReleaseError(f"The release {release.name} runs with torch or openvino; leave the engine at auto.")
    from tagger.camie import CamieEngine  # torch takes seconds to load, and other taggers do without it

    return CamieEngine(release, device, stage, threads, mode, engine)


def prepare_all(predictor: Predictor, images: Sequence[Image.Image]) -> list[np.ndarray]:
    """Several pictures in threads: Pillow lets go of the interpreter while it decodes and resizes."""
    if len(images) < 2:
        return [predictor.prepare(image) for image in images]
    with ThreadPoolExecutor(min(len(images), os.cpu_count() or 1, 8)) as pool:
        return list(pool.map(predictor.prepare, images))


def select(
    scores: np.ndarray, features: np.ndarray | None, floor: float, most: int, activation: str = "identity"
) -> list[Prediction]:
    """Rows of [B, tags] cut at the floor and at `most`, each sorted down, with its row of [B, feature_size], if any."""
    return [
        Prediction(*select_one(row, floor, most, activation), None if features is None else features[number])
        for number, row in enumerate(scores)
    ]
