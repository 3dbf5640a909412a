"""3x3 convolutions with a quarter of the multiplications (Winograd's F(4x4, 3x3), arXiv:1509.09308).

A tile of 4x4 results is taken from 6x6 pixels: these are brought to 36 points, multiplied by the kernel's 36 there, and
brought back. Over all tiles that is 36 products of matrices. At the points 0, 1, -1, 1/2, -2 and infinity the rounding
error of float32 is three times that of the plain convolution, and at the usual ones six times.
"""

from fractions import Fraction
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TILE, KERNEL = 4, 3
SIDE = TILE + KERNEL - 1
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))  # and infinity
ONE = POINTS.index(Fraction(1)) * (SIDE + 1)  # there a number is added to every result of a tile
TILES = 64  # at once, so that what is between stays near the processor
CHANNELS = 64  # fewer on either side, and the way to the points and back costs more than it saves


def transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For one dimension: back to results [4, 6], of a kernel [6, 3], of pixels [6, 6] (Toom and Cook)."""
    finite = range(len(POINTS))
    scale = [prod(POINTS[i] - POINTS[j] for j in finite if j != i) for i in finite]
    back = [[point**power for point in POINTS] + [Fraction(power == TILE - 1)] for power in range(TILE)]
    kernel = [[POINTS[i] ** power / scale[i] for power in range(KERNEL)] for i in finite]
    kernel.append([Fraction(power == KERNEL - 1) for power in range(KERNEL)])
    pixels = [polynomial([POINTS[j] for j in finite if j != i]) for i in finite] + [polynomial(list(POINTS))]
    return tuple(np.array(matrix, dtype=np.float64) for matrix in (back, kernel, pixels))


def polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of the polynomial with these roots, lowest first, filled up to six."""
    found = [Fraction(1)]
    for root in roots:
        found = [low - root * here for low, here in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)]
    return found + [Fraction(0)] * (SIDE - len(found))


class WinogradConv:
    """A 3x3 convolution of stride 1 with zeros around, its bias and SiLU."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """[K, C, 3, 3] and [K], float32"""
        back, kernel, pixels = transforms()
        outputs, inputs = weight.shape[:2]
        points = np.einsum("ay,bx,kcyx->abck", kernel, kernel, weight.double().numpy())
        self.weight = torch.from_numpy(points.reshape(SIDE * SIDE, inputs, outputs)).float()
        self.bias = bias
        self.pixels, self.back = (torch.from_numpy(np.kron(one, one)).float() for one in (pixels, back))

    def __call__(self, maps: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, K, H, W], both channels last"""
        batch, inputs, height, width = maps.shape
        down, across, outputs = -(-height // TILE), -(-width // TILE), self.weight.shape[2]
        edge = (0, 0, 1, across * TILE - width + 1, 1, down * TILE - height + 1)
        padded = F.pad(maps.permute(0, 2, 3, 1), edge)  # [B, H', W', C]
        image, row, pixel, one = padded.stride()
        tiles = padded.as_strided(
            (SIDE, SIDE, batch, down, across, inputs), (row, pixel, image, TILE * row, TILE * pixel, one)
        )
        found = maps.new_empty(batch, down, TILE, across, TILE, outputs)
        places = found.permute(2, 4, 0, 1, 3, 5)  # [4, 4, B, down, across, K]
        rows = max(1, TILES // (across * batch))
        for start in range(0, down, rows):
            self._some(tiles[:, :, :, start : start + rows], places[:, :, :, start : start + rows])
        whole = found.view(batch, down * TILE, across * TILE, outputs)[:, :height, :width].permute(0, 3, 1, 2)
        return whole.contiguous(memory_format=torch.channels_last)

    def _some(self, tiles: Tensor, places: Tensor) -> None:
        """[6, 6, B, rows, across, C] -> [4, 4, B, rows, across, K]"""
        at_points = torch.mm(self.pixels, tiles.reshape(SIDE * SIDE, -1))
        products = torch.bmm(at_points.view(SIDE * SIDE, -1, self.weight.shape[1]), self.weight)
        products[ONE] += self.bias
        results = torch.mm(self.back, products.view(SIDE * SIDE, -1))
        torch.ops.aten.silu.out(results.view(places.shape), out=places)


def is_worth(kernel: int, stride: int, groups: int, inputs: int, outputs: int) -> bool:
    """Whether such a convolution is quicker this way; MKL must be there to multiply the matrices."""
    plain = kernel == KERNEL and stride == 1 and groups == 1
    return plain and min(inputs, outputs) >= CHANNELS and torch.backends.mkl.is_available()
