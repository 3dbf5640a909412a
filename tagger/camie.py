"""Runs our own model with torch: a release of kind camie on one device."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tagger import jpeg, tuning
from tagger import release as releases
from tagger.architecture import Architecture
from tagger.backbone import Backbone
from tagger.compiled import OpenVinoBackbone, installed
from tagger.context import TagKeys, used_tags
from tagger.fast import has_amx
from tagger.fused import FusedBackbone, can_fuse
from tagger.memory import keep_memory, trim
from tagger.model import CamieTagger
from tagger.release import ReleaseError, ReleaseFolder

logger = logging.getLogger(__name__)

FAST = {"cpu": torch.bfloat16, "cuda": torch.float16}  # half precision rounds eight times finer
NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
# Of a backbone in fast mode on a processor. bfloat16's rounding does most harm there: the starter's features are off by
# 7.4 % without, 7.0 % with the stem alone, 2.5 % with these, 2.1 % with four; its tags agree to 96.2 %, 97.5, 98.5 and
# 98.8 % (the worse stage, by torch). They are 2.0 % of V2-L's multiplications and 2.4 % of its time in exact mode.
EXACT_BLOCKS = 3
PIXELS_CACHED = 512 * 512  # of one pass of the backbone on a processor; a second picture of Camie's size costs more
# Pixels in one pass of the model; more pictures are taken in several passes.
PIXELS_A_PASS = {"cpu": 64 * 128 * 128, "cuda": 64 * 512 * 512}


class CamieEngine:
    """Exact: float32. Fast: bfloat16 on a CPU, but for the backbone's first `EXACT_BLOCKS`; on CUDA half precision, and
    float32 for pictures that overflow it.

    A release without a refined stage answers with its initial one.
    """

    activation = "sigmoid"

    def __init__(
        self,
        release: ReleaseFolder,
        device: str,
        stage: str,
        threads: int,
        mode: str = "exact",
        runtime: str = "auto",
    ) -> None:
        self.release = release
        self.device = choose_device(device)
        self.stage = "initial" if release.stage == "initial" else stage
        if threads:
            torch.set_num_threads(threads)
        self.dtype = FAST[self.device.type] if mode == "fast" else torch.float32
        whole = torch.float32 if self.device.type == "cpu" else self.dtype  # rounded when its norms are folded
        self.model = load_model(release, self.device, self.dtype, whole)
        self._exact: CamieTagger | None = None  # in 32 bits, for what half precision can't hold
        self.runtime, self.keys = "torch", None
        self.quickest: tuning.Quickest | None = None
        if self.device.type == "cpu":
            best = "openvino" if mode == "fast" and installed() and has_amx() else "torch"
            self._suit_processor(best if runtime == "auto" else runtime, threads)
        elif runtime == "openvino":
            raise ReleaseError("OpenVINO runs on the CPU here; use torch for cuda.")
        else:
            self.quickest = self._quickest(exact=mode == "exact")
        self.jpegs = jpeg.open_decoder(release.preprocess, self.device) if mode == "fast" else None
        self.batch_size = max(1, PIXELS_A_PASS[self.device.type] // release.preprocess.size**2)

    @torch.inference_mode()
    def _suit_processor(self, runtime: str, threads: int) -> None:
        model, side = self.model, self.release.preprocess.size
        keep_memory()
        if runtime == "openvino" and not installed():
            raise ReleaseError("openvino is not installed; run pip install openvino.")
        self.runtime = runtime
        model.backbone = suited(model.backbone, side, self.dtype, runtime, threads)
        architecture = model.architecture
        if architecture.stages == "full" and architecture.attention == "chunk":
            self.keys = TagKeys(model)
        trim()

    @torch.inference_mode()
    def _quickest(self, exact: bool) -> tuning.Quickest:
        with exact_products():
            return tuning.on_cuda(
                self.model.features,
                self.model.initial,
                device=self.device,
                dtype=self.dtype,
                side=self.release.preprocess.size,
                folder=self.release.folder,
                exact=exact,
            )

    def prepare(self, image: Image.Image) -> np.ndarray:
        """float32 [3, S, S]"""
        return self.release.preprocess(image)

    @property
    def title(self) -> str:
        return f"{self.runtime} {NAMES[self.dtype]}{' (CUDA)' if self.device.type == 'cuda' else ''}"

    @torch.inference_mode()
    def scores(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[B, 3, S, S] -> logits, float32 [B, tags], and the pooled features, float16 [B, feature_size]"""
        logits, features = (found.float() for found in self._pass(pixels))
        if self.dtype == torch.float16 and (over := overflowed(logits)).any():
            logits[over], features[over] = self._pass_exactly(pixels[over.cpu().numpy()])
        return logits.cpu().numpy(), features.half().cpu().numpy()

    def _pass(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """[B, 3, S, S] -> logits [B, tags] of this engine's stage, and features [B, feature_size]"""
        with exact_products():
            features = torch.cat([self._features(part) for part in np.split(pixels, self._cuts(len(pixels)))])
            logits = self.model.initial(features)
            if self.stage == "refined":
                context = self.model.context(logits)
                logits = self.model.rescored(features, self._used_tags(features, context))
        return logits, features

    def _pass_exactly(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """As `_pass` in exact mode's precision, by a copy of the model that is loaded when it is first needed."""
        if self._exact is None:
            logger.warning("%s overflows in half precision: such pictures are done in 32 bits", self.release.name)
            self._exact = load_model(self.release, self.device, torch.float32)
        with exact_products():
            images = torch.from_numpy(pixels).to(self.device).contiguous(memory_format=torch.channels_last)
            features = self._exact.features(images)
            logits = self._exact.initial(features)
            if self.stage == "refined":
                logits = self._exact.rescored(features, self._exact.used_tags(features, self._exact.context(logits)))
        return logits, features

    def _cuts(self, count: int) -> list[int]:
        """Where a batch is cut for the backbone, whose maps should stay in a processor's caches."""
        if self.device.type != "cpu":
            return []
        return list(range(0, count, max(1, PIXELS_CACHED // self.release.preprocess.size**2)))[1:]

    def _features(self, pixels: np.ndarray) -> Tensor:
        """[B, 3, S, S] -> [B, feature_size]"""
        model = self.model
        if self.quickest is None and not isinstance(model.backbone, Backbone):  # a processor's form rounds by itself
            return model.pool(model.backbone(torch.from_numpy(pixels)))
        images = torch.from_numpy(pixels).to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        return (self.quickest or model.features)(images)

    def _used_tags(self, features: Tensor, context: Tensor) -> Tensor:
        if self.keys is None:
            return self.model.used_tags(features, context)
        return used_tags(self.model, self.keys, features, context)


def suited(backbone: Backbone, side: int, dtype: torch.dtype, runtime: str, threads: int) -> nn.Module:
    """A backbone in float32 as this processor runs it; it takes pictures in float32 and answers in `dtype`."""

    def run(part: Backbone, side: int, channels: int) -> nn.Module:
        if runtime == "openvino":
            return OpenVinoBackbone(part, side, dtype, threads, channels)
        return FusedBackbone(part, side, dtype)

    if runtime != "openvino" and not can_fuse():
        return backbone.to(dtype)
    if dtype == torch.float32:
        return run(backbone, side, 3)
    first, others = backbone.parts(EXACT_BLOCKS)
    exact = FusedBackbone(first, side, torch.float32) if can_fuse() else first
    return nn.Sequential(exact, run(others, first.side(side), first.size))


def overflowed(logits: Tensor) -> Tensor:
    """bool [B]: the rows of [B, tags] that a number format could not hold."""
    return ~logits.isfinite().all(dim=1)


@contextmanager
def exact_products() -> Iterator[None]:
    """On CUDA torch rounds the factors of float32 convolutions to 10 bits unless told otherwise."""
    if not torch.backends.cudnn.is_available():
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


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


def empty_model(architecture: Architecture) -> CamieTagger:
    """On torch's meta device: every name and shape, and no memory."""
    with torch.device("meta"), Uninitialised():
        return CamieTagger(architecture)


def load_model(
    release: ReleaseFolder, device: torch.device, dtype: torch.dtype, backbone: torch.dtype | None = None
) -> CamieTagger:
    """The release's model in evaluation mode. Its weights never exist twice: made on no device, then assigned.

    `backbone` is the dtype of that part, where it is another.
    """
    model = empty_model(release.architecture)
    # Two mappings of one file, so that the backbone's is gone when its weights were brought into another order.
    weights = releases.load_weights(release, "backbone.") | releases.load_weights(release, "backbone.", others=True)
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    releases.require_shapes(expected, found, release.weights_file)
    for key in list(weights):
        weights[key] = _moved(weights[key], device, backbone or dtype if key.startswith("backbone.") else dtype)
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
    """On the device in the working dtype, convolutions channels last on CUDA; counters keep their whole numbers."""
    tensor = tensor.to(device, dtype if tensor.is_floating_point() else None)
    last = tensor.ndim == 4 and device.type == "cuda"
    return tensor.contiguous(memory_format=torch.channels_last) if last else tensor
