"""Tags pictures with a release: batches in, packed arrays out. Knows no profiles: it cuts only at the score floor."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tagger import release as releases
from tagger.model import CamieTagger
from tagger.release import ReleaseError, ReleaseFolder

# Pixels in one pass of the model; more pictures are taken in several passes.
PIXELS_A_PASS = {"cpu": 64 * 128 * 128, "cuda": 64 * 512 * 512}

Prediction = tuple[np.ndarray, np.ndarray]


class Predictor:
    """One release on one device.

    On a CPU the weights run in float32, on CUDA in half precision. A release without a refined stage answers with
    its initial one; `threads` is torch's number of CPU threads, 0 for torch's own choice.
    """

    def __init__(
        self, release_folder: Path | str, device: str = "auto", stage: str = "refined", threads: int = 0
    ) -> None:
        if stage not in ("initial", "refined"):
            raise ReleaseError(f"The stage is {stage!r}; it must be initial or refined.")
        self.release = releases.read(release_folder)
        self.device = choose_device(device)
        self.stage = "initial" if self.release.architecture.stages == "initial" else stage
        if threads:
            torch.set_num_threads(threads)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.model = load_model(self.release, self.device, self.dtype)
        side = self.release.preprocess.size
        self.batch_size = max(1, PIXELS_A_PASS.get(self.device.type, PIXELS_A_PASS["cpu"]) // side**2)

    def predict(self, images: Sequence[Image.Image]) -> list[Prediction]:
        """For each picture its vocabulary indices (int32) and confidences (float32), most confident first."""
        return self.predict_prepared(prepare_all(self, images))

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Decodes and preprocesses one picture, which must be upright; safe in threads, ahead of the model."""
        return self.release.preprocess(image)

    def predict_prepared(self, arrays: Sequence[np.ndarray]) -> list[Prediction]:
        """As `predict`, from what `prepare` returned."""
        predictions: list[Prediction] = []
        for start in range(0, len(arrays), self.batch_size):
            confidences = self.confidences(np.stack(arrays[start : start + self.batch_size]))
            predictions += select(confidences, self.release.score_floor, self.release.max_predictions)
        return predictions

    @torch.inference_mode()
    def confidences(self, pixels: np.ndarray) -> np.ndarray:
        """[B, 3, S, S] -> every tag's confidence, float32 [B, tags]. FloatingPointError if the model overflowed."""
        images = torch.from_numpy(pixels).to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        features = self.model.features(images)
        logits = self.model.initial(features)
        if self.stage == "refined":
            logits = self.model.refined(features, logits)
        confidences = torch.sigmoid(logits.float()).cpu().numpy()
        if not np.isfinite(confidences).all():
            raise FloatingPointError("The model's scores are not finite; the release's weights may be damaged.")
        return confidences


def prepare_all(predictor: Predictor, images: Sequence[Image.Image]) -> list[np.ndarray]:
    """Several pictures in threads: Pillow lets go of the interpreter while it decodes and resizes."""
    if len(images) < 2:
        return [predictor.prepare(image) for image in images]
    with ThreadPoolExecutor(min(len(images), os.cpu_count() or 1, 8)) as pool:
        return list(pool.map(predictor.prepare, images))


def select(confidences: np.ndarray, floor: float, most: int) -> list[Prediction]:
    """Rows of [B, tags] cut at the floor and at `most`, each sorted down; equal confidences go by index."""
    rows, tags = np.nonzero(confidences >= floor)
    kept = confidences[rows, tags]
    order = np.lexsort((tags, -kept, rows))
    rows, tags, kept = rows[order], tags[order].astype(np.int32), kept[order]
    starts = np.searchsorted(rows, np.arange(len(confidences) + 1))
    return [
        (tags[start : min(stop, start + most)], kept[start : min(stop, start + most)])
        for start, stop in zip(starts[:-1], starts[1:], strict=True)
    ]


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises ReleaseError with the remedy."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ReleaseError(f"No device is called {name!r}; use auto, cpu or cuda.") from error
    if device.type not in PIXELS_A_PASS:
        raise ReleaseError(f"The device {name!r} is not supported; use auto, cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ReleaseError(f"There is no {name} on this machine, or torch was installed without CUDA; use cpu.")
    return device


def load_model(release: ReleaseFolder, device: torch.device, dtype: torch.dtype) -> CamieTagger:
    """The release's model in evaluation mode. Its weights never exist twice: made on no device, then assigned."""
    with torch.device("meta"), Uninitialised():
        model = CamieTagger(release.architecture)
    weights = releases.load_weights(release)
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    releases.require_shapes(expected, found, release.weights_file)
    for key in list(weights):
        weights[key] = _moved(weights[key], device, dtype)
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


class Uninitialised(TorchFunctionMode):
    """Skips random starting values, which on the meta device cost seconds: torch loads its compiler for them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _moved(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """On the device in the working dtype, convolutions channels last; counters keep their whole numbers."""
    tensor = tensor.to(device, dtype if tensor.is_floating_point() else None)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
