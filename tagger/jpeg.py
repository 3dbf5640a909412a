"""JPEG files decoded on the model's device (nvJPEG through torchvision) and resized there as Pillow resizes.

Pillow's filters are products with two matrices, rounded to bytes after each, so the resize differs by at most one
step of 255. nvJPEG's own decoding differs from Pillow's by a few steps, so exact mode has no use for it. What it
can't do goes to Pillow: pictures turned by EXIF, four colours, geometry square, pictures that training drafted.
"""

import io
import logging
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tagger.preprocess import Preprocess

logger = logging.getLogger(__name__)

_ORIENTATION = 0x0112


class DeviceJpegs:
    """Safe in threads: torchvision locks its decoder."""

    def __init__(self, preprocess: Preprocess, device: torch.device) -> None:
        from torchvision.io import decode_jpeg  # optional for whoever only runs the model

        self.preprocess, self.device = preprocess, device
        self._decode = decode_jpeg
        self._works = preprocess.geometry != "square"

    def prepare(self, data: bytes) -> np.ndarray | None:
        """As Preprocess does, float32 [3, S, S]; None when Pillow must do it."""
        if not self._works or not is_plain(data, self.preprocess):
            return None
        try:
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            return self._place(self._decode(encoded, mode=_rgb(), device=self.device)).cpu().numpy()
        except (RuntimeError, AttributeError) as error:
            if isinstance(error, AttributeError) or "not compiled with nvjpeg" in str(error).lower():
                self._works = False  # none will ever be decoded by this torchvision
            logger.info("A JPEG goes to Pillow: %s", error)
            return None

    def _place(self, image: Tensor) -> Tensor:
        """uint8 [3, H, W] -> float32 [3, S, S]"""
        p = self.preprocess
        width, height = p.inner_size(image.shape[2], image.shape[1])
        small = resize(image, width, height, p.filter)
        canvas = torch.tensor(p.pad_color, dtype=torch.float32, device=image.device)[:, None, None]
        canvas = canvas.expand(3, p.size, p.size).clone()
        left, top = (p.size - width) // 2, (p.size - height) // 2
        canvas[:, top : top + height, left : left + width] = small
        canvas /= 255
        if p.mean is not None and p.std is not None:
            mean, std = (torch.tensor(each, device=image.device)[:, None, None] for each in (p.mean, p.std))
            canvas = (canvas - mean) / std
        return canvas


def is_plain(data: bytes, preprocess: Preprocess) -> bool:
    """Whether a JPEG is RGB or grey, stands upright, and was decoded whole in training."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if preprocess.large_jpeg == "draft" and preprocess.draft_scale(*image.size) > 1:
                return False
            return image.mode in ("RGB", "L") and image.getexif().get(_ORIENTATION, 1) == 1
    except Exception:  # whatever is wrong with it, Pillow's way says it better
        return False


def resize(image: Tensor, width: int, height: int, name: str) -> Tensor:
    """uint8 [3, H, W] -> whole numbers as float32 [3, height, width], by Pillow's filter of that name."""
    found = image.float()
    if width != image.shape[2]:
        found = (found @ weights(image.shape[2], width, name, image.device).T).add_(0.5).floor_().clamp_(0, 255)
    if height != image.shape[1]:
        found = (weights(image.shape[1], height, name, image.device) @ found).add_(0.5).floor_().clamp_(0, 255)
    return found


def weights(size: int, wanted: int, name: str, device: torch.device) -> Tensor:
    """[wanted, size]: what each old pixel gives to each new one (Pillow's precompute_coeffs)."""
    support, kernel = KERNELS[name]
    scale = size / wanted
    stretch = max(scale, 1.0)
    centres = (torch.arange(wanted, device=device, dtype=torch.float64) + 0.5)[:, None] * scale
    places = torch.arange(size, device=device, dtype=torch.float64)[None]
    first = (centres - support * stretch + 0.5).floor().clamp(min=0)
    end = (centres + support * stretch + 0.5).floor()
    found = kernel((places - centres + 0.5) / stretch)
    found = torch.where((places >= first) & (places < end), found, torch.zeros_like(found))
    return (found / found.sum(dim=1, keepdim=True)).float()


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), torch.zeros_like(x))


def _bicubic(x: Tensor) -> Tensor:
    x, a = x.abs(), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


KERNELS: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {
    "lanczos": (3.0, _lanczos),
    "bicubic": (2.0, _bicubic),
    "bilinear": (1.0, _bilinear),
}


def _rgb() -> object:
    from torchvision.io import ImageReadMode

    return ImageReadMode.RGB


def open_decoder(preprocess: Preprocess, device: torch.device) -> DeviceJpegs | None:
    """A decoder where it saves work: on CUDA, with torchvision installed."""
    if device.type != "cuda":
        return None
    try:
        return DeviceJpegs(preprocess, device)
    except ImportError:
        return None
