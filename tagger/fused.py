"""A backbone as a processor likes it: norms folded into convolutions, activations and additions computed with them.

oneDNN does each convolution with all that follows it in one pass over memory, from weights in its own order. torch
offers these operators to its compiler; called directly they need no compiling. Wide 3x3 convolutions, a third of
V2-L's work, go by Winograd's way in float32. The results differ from the plain modules only by rounding.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagger.backbone import Backbone, SamePaddedConv
from tagger.memory import trim
from tagger.winograd import WinogradConv, is_worth

# oneDNN's name of an activation and its parameters.
ACTIVATIONS: dict[type, tuple[str, list[float]]] = {nn.SiLU: ("swish", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}


def can_fuse() -> bool:
    """Whether this torch was built with oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class FusedConv:
    """Sequential(convolution, batch norm, maybe an activation) as one operator, and maybe an addition after it.

    `fold` brings the weights into order and lets the plain ones go.
    """

    def __init__(self, layers: nn.Sequential, side: int, dtype: torch.dtype) -> None:
        """`side` is that of the maps it will see, for which the weights are ordered best."""
        conv = layers[0]
        self.activation = ACTIVATIONS[type(layers[2])] if len(layers) > 2 else ("none", [])
        self.same, self.kernel = isinstance(conv, SamePaddedConv), conv.kernel_size[0]
        self.padding = [0, 0] if self.same else list(conv.padding)
        self.stride, self.dilation, self.groups = list(conv.stride), list(conv.dilation), conv.groups
        self.plain: nn.Sequential | None = layers
        self.side, self.dtype = side, dtype
        about = (self.kernel, self.stride[0], self.groups, conv.in_channels, conv.out_channels)
        self.by_points = dtype == torch.float32 and self.activation[0] == "swish" and is_worth(*about)

    def fold(self) -> None:
        conv, norm = self.plain[0], self.plain[1]
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = (conv.weight * scale.reshape(-1, 1, 1, 1)).to(self.dtype)
        self.bias = (norm.bias - norm.running_mean * scale).to(self.dtype)
        if self.by_points:
            self.winograd, self.plain = WinogradConv(weight, self.bias), None
            return
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self.padding, self.stride, self.dilation, self.groups, [1, conv.in_channels, self.side, self.side]
        )
        self.plain = None

    def after(self, side: int) -> int:
        """The side of its output's maps."""
        if self.same:
            return -(-side // self.stride[0])
        return (side + 2 * self.padding[0] - self.kernel) // self.stride[0] + 1

    def __call__(self, maps: Tensor, added: Tensor | None = None) -> Tensor:
        if self.by_points:
            return self.winograd(maps)
        if self.same:
            maps = self._pad(maps)
        about = (self.padding, self.stride, self.dilation, self.groups)
        if added is not None:
            return torch.ops.mkldnn._convolution_pointwise.binary(
                maps, added, self.weight, self.bias, *about, "add", 1.0, None, [], None
            )
        return torch.ops.mkldnn._convolution_pointwise(maps, self.weight, self.bias, *about, *self.activation, "")

    def _pad(self, maps: Tensor) -> Tensor:
        padding: list[int] = []
        for side in maps.shape[:1:-1]:
            total = max((-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return F.pad(maps, padding) if any(padding) else maps


class Excitation:
    """torchvision's SqueezeExcitation: weighs each channel by what all of them hold."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        # copies: a view would keep the whole file that the weights came from in memory
        self.layers = [
            (conv.weight.flatten(1).to(dtype, copy=True), conv.bias.to(dtype, copy=True))
            for conv in (module.fc1, module.fc2)
        ]

    def __call__(self, maps: Tensor) -> Tensor:
        first, second = self.layers
        weight = F.linear(F.silu(F.linear(maps.mean((2, 3)), *first)), *second)
        return maps.mul_(weight.sigmoid_()[:, :, None, None])


class Block:
    """Layers in a row; with `adds`, their input is added to what comes out."""

    def __init__(self, layers: list[FusedConv | Excitation], adds: bool) -> None:
        self.layers, self.adds = layers, adds
        # oneDNN adds before the activation; these networks add after it, where there is one.
        last = layers[-1]
        self.fused = adds and isinstance(last, FusedConv) and last.activation[0] == "none"

    def __call__(self, maps: Tensor) -> Tensor:
        found = maps
        for layer in self.layers[:-1]:
            found = layer(found)
        if self.fused:
            return self.layers[-1](found, maps)
        found = self.layers[-1](found)
        return found + maps if self.adds else found


class FusedBackbone(nn.Module):
    """Takes a backbone's place for use on a processor; holds copies of its weights and can't be trained.

    `dtype` is what it computes in: the weights are folded in the precision that they come in, and rounded once, then.

    The weights are brought into order when they are first used, so that a tagger is loaded at once; and all before the
    first picture's maps, which would otherwise lie between them in memory.
    """

    def __init__(self, backbone: Backbone, side: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.size, self.dtype = backbone.size, dtype
        self.blocks: list[Block] = []
        self.folded = False
        for layers, adds in parts(backbone):
            fused: list[FusedConv | Excitation] = []
            for layer in layers:
                if not isinstance(layer, nn.Sequential):
                    fused.append(Excitation(layer, dtype))
                    continue
                fused.append(FusedConv(layer, side, dtype))
                side = fused[-1].after(side)
            self.blocks.append(Block(fused, adds))

    def forward(self, images: Tensor) -> Tensor:
        """As Backbone's, for pictures of `side`: [B, 3, S, S] -> [B, size, S/32, S/32]"""
        if not self.folded:
            self._fold()
        maps = images.to(self.dtype).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            maps = block(maps)
        return maps

    def _fold(self) -> None:
        for block in self.blocks:
            for layer in block.layers:
                if isinstance(layer, FusedConv):
                    layer.fold()
        self.folded = True
        trim()


def parts(backbone: Backbone) -> Iterator[tuple[list[nn.Module], bool]]:
    """The layers of each block in order, and whether the block's input is added to its output."""
    for block in backbone.blocks():
        if isinstance(block, nn.Sequential):
            yield [block], False
        else:
            yield list(block.block), getattr(block, "use_res_connect", False) or getattr(block, "adds", False)
