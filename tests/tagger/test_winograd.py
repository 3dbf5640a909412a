"""The wide convolutions' other way gives what the plain one gives."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tagger import winograd
from tagger.backbone import build_backbone
from tagger.camie import Uninitialised
from tagger.fused import FusedBackbone, FusedConv


@pytest.mark.parametrize(
    ("batch", "inputs", "outputs", "height", "width"),
    [(1, 64, 96, 16, 16), (2, 8, 16, 12, 20), (1, 5, 7, 9, 13), (3, 4, 4, 3, 2), (1, 3, 3, 1, 1), (1, 4, 6, 80, 300)],
)
def test_the_same_as_the_plain_convolution(batch: int, inputs: int, outputs: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    maps = torch.randn(batch, inputs, height, width).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5, torch.randn(outputs)
    expected = F.silu(F.conv2d(maps.double(), weight.double(), bias.double(), padding=1))
    with torch.inference_mode():
        found = winograd.WinogradConv(weight, bias)(maps)
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - expected).abs().max() < 2e-5


def test_its_matrices_are_a_convolution_s() -> None:
    """back ((kernel g) * (pixels d)) is the sliding product of g and d, to the last digit of float64."""
    back, kernel, pixels = winograd.transforms()
    rng = np.random.default_rng(0)
    d, g = rng.normal(size=6), rng.normal(size=3)
    expected = [d[place : place + 3] @ g for place in range(4)]
    np.testing.assert_allclose(back @ ((kernel @ g) * (pixels @ d)), expected, atol=1e-13)
    np.testing.assert_array_equal(back[:, winograd.ONE // 7], np.ones(4))


def test_v2_l_takes_it_where_its_convolutions_are_wide() -> None:
    """That it then sees the same is in test_engines.py."""
    with torch.device("meta"), Uninitialised():
        backbone = build_backbone("efficientnet_v2_l")
    for dtype, expected in ((torch.float32, 12 if torch.backends.mkl.is_available() else 0), (torch.bfloat16, 0)):
        fused = FusedBackbone(backbone, 512, dtype)
        layers = [layer for block in fused.blocks for layer in block.layers if isinstance(layer, FusedConv)]
        assert sum(layer.by_points for layer in layers) == expected
