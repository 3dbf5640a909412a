"""Random changes of a whole batch of pictures at once, drawn from a generator the caller seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import Augment
from training.feeding.targets import yes_tags

GREY = (0.299, 0.587, 0.114)


def flippable(rows: Sequence[Mapping[str, Any]], augment: Augment) -> np.ndarray:
    """bool [rows]: pictures whose tags hold none of the words that tell left from right or name text."""
    words = set(augment.no_flip_words)
    if not augment.flip:
        return np.ones(len(rows), dtype=bool)
    return np.array([not any(words & set(split_words(tag)) for tag in yes_tags(row)) for row in rows], dtype=bool)


def split_words(tag: str) -> list[str]:
    return tag.replace("-", "_").replace("(", "").replace(")", "").split("_")


class Varied:
    """Applies a recipe's augmentation. Pictures are [B, 3, S, S] from 0 to 1."""

    def __init__(self, augment: Augment, pad_color: tuple[int, ...], device: torch.device) -> None:
        self.augment = augment
        self.pad = torch.tensor(pad_color, dtype=torch.float32, device=device).div(255).view(1, 3, 1, 1)
        self.grey = torch.tensor(GREY, device=device).view(1, 3, 1, 1)

    def __call__(self, unit: Tensor, flippable: Tensor, generator: torch.Generator) -> Tensor:
        """`flippable` is bool [B]; the generator lives on the CPU, so that a device draws the same."""
        if not self.augment.anything():
            return unit
        count, device = len(unit), unit.device
        draws = torch.rand((count, 8), generator=generator)
        signed = draws * 2 - 1
        flips = (draws[:, 0] < self.augment.flip) & flippable.cpu()
        if self.augment.geometric():
            unit = resample(unit, self.matrices(signed, flips).to(device), self.pad)
        elif flips.any():
            unit[flips.to(device)] = unit[flips.to(device)].flip(3)
        return self.recolour(unit, signed.to(device))

    def matrices(self, signed: Tensor, flips: Tensor) -> Tensor:
        """From output to input coordinates, [B, 2, 3]: scale, turn, flip, shift."""
        a = self.augment
        zoom = 1 / (1 + signed[:, 1] * a.scale)
        angle = torch.deg2rad(signed[:, 2] * a.rotate)
        mirror = 1 - 2 * flips.float()
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        shift_x, shift_y = signed[:, 3] * a.shift * 2, signed[:, 4] * a.shift * 2
        rows = [cos * mirror, -sin, shift_x, sin * mirror, cos, shift_y]
        return torch.stack(rows, dim=1).view(-1, 2, 3)

    def recolour(self, unit: Tensor, signed: Tensor) -> Tensor:
        """Brightness, then contrast about the middle, then saturation; kept from 0 to 1."""
        a = self.augment
        if not (a.brightness or a.contrast or a.saturation):
            return unit
        factor = signed.view(-1, 8, 1, 1)
        gain = (1 + factor[:, 5:6] * a.brightness) * (1 + factor[:, 6:7] * a.contrast)
        unit = unit * gain + (0.5 - 0.5 * (1 + factor[:, 6:7] * a.contrast))
        if a.saturation:
            grey = (unit * self.grey).sum(dim=1, keepdim=True)
            unit = torch.lerp(grey.expand_as(unit), unit, 1 + factor[:, 7:8] * a.saturation)
        return unit.clamp_(0, 1)


def resample(unit: Tensor, matrices: Tensor, pad: Tensor) -> Tensor:
    """Pictures [B, 3, S, S] moved by 2x3 matrices [B, 2, 3]; `pad` [1, 3, 1, 1] is the colour beyond the edge."""
    grid = F.affine_grid(matrices, list(unit.shape), align_corners=False)
    moved = F.grid_sample(unit - pad, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.add_(pad).contiguous(memory_format=torch.channels_last)
