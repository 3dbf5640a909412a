"""What runs on a processor gives what the plain model gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from tagger import camie
from tagger import release as releases_of
from tagger.backbone import build_backbone
from tagger.camie import load_model
from tagger.context import TagKeys, used_tags
from tagger.fused import FusedBackbone, can_fuse
from tagger.inference import Predictor
from tagger.release import ReleaseError
from tests.tagger import releases
from tests.tagger.test_inference import pictures


def seen(backbone: nn.Module, images: torch.Tensor) -> nn.Module:
    """With the statistics of these pictures: a random net far from its statistics makes noise of rounding."""
    for module in backbone.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        backbone.train()(images)
    return backbone.eval()


@pytest.mark.parametrize(
    ("name", "side"), [("efficientnet_tiny", 64), ("efficientnet_lite0", 97), ("efficientnet_v2_l", 64)]
)
def test_a_fused_backbone_sees_the_same(name: str, side: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 3, side, side)
    backbone = seen(build_backbone(name), images)
    assert can_fuse()
    with torch.inference_mode():
        expected = backbone(images)
        found = FusedBackbone(backbone, side, torch.float32)(images)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-3 * expected.std()


def test_tags_met_before_cost_nothing_and_change_nothing() -> None:
    model = releases.model(attention="chunk", embedding_size=32, heads=4)
    keys, features = TagKeys(model), torch.randn(3, 320)
    with torch.inference_mode():
        context = model.context(model.initial(features))
        expected = model.used_tags(features, context)
        assert expected.std() > 0.1
        for _ in range(2):
            torch.testing.assert_close(used_tags(model, keys, features, context), expected, atol=1e-5, rtol=1e-5)
        assert keys.known.sum() == context.unique().numel() < len(keys.known)
        other = torch.randn(1, 320)
        context = torch.arange(len(keys.known))[None]
        torch.testing.assert_close(
            used_tags(model, keys, other, context), model.used_tags(other, context), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("attention", ["chunk", "token"])
def test_exact_mode_is_the_plain_model(tmp_path: Path, engine: str, attention: str) -> None:
    folder = releases.write(tmp_path / "one", attention=attention).folder
    predictor = Predictor(folder, "cpu", engine=engine)
    assert predictor.engine.title == f"{engine} fp32"
    plain = load_model(predictor.release, torch.device("cpu"), torch.float32)
    pixels = np.stack([predictor.prepare(image) for image in pictures(5)])
    with torch.inference_mode():
        initial, refined = plain(torch.from_numpy(pixels))
    for stage, logits in (("initial", initial), ("refined", refined)):
        predictor.engine.stage = stage
        found, features = predictor.answer(pixels)
        np.testing.assert_allclose(found, torch.sigmoid(logits).numpy(), atol=1e-4)
        assert features.shape == (5, 320)
    assert not np.allclose(initial, refined, atol=0.1)


def test_pictures_larger_than_the_cache_go_one_by_one(tmp_path: Path) -> None:
    folder = releases.write(tmp_path / "one").folder
    predictor = Predictor(folder, "cpu")
    pixels = np.stack([predictor.prepare(image) for image in pictures(5)])
    assert predictor.engine._cuts(5) == []
    whole = predictor.confidences(pixels)
    size = predictor.release.preprocess.size
    most = camie.PIXELS_CACHED // size**2
    assert predictor.engine._cuts(2 * most + 1) == [most, 2 * most]
    single = np.concatenate([predictor.confidences(pixels[place : place + 1]) for place in range(5)])
    np.testing.assert_allclose(single, whole, atol=1e-5)


def test_openvino_computes_in_bfloat16_when_asked(tmp_path: Path) -> None:
    folder = releases.write(tmp_path / "one").folder
    exact = Predictor(folder, "cpu")
    quick = Predictor(folder, "cpu", engine="openvino", mode="fast")
    assert quick.engine.title == "openvino bf16"
    pixels = np.stack([exact.prepare(image) for image in pictures(3)])
    assert 1e-5 < np.abs(quick.confidences(pixels) - exact.confidences(pixels)).max() < 0.2


def test_our_own_model_is_not_run_by_onnxruntime(tmp_path: Path) -> None:
    folder = releases.write(tmp_path / "one").folder
    with pytest.raises(ReleaseError, match="torch or openvino"):
        Predictor(folder, "cpu", engine="onnxruntime")


def test_the_weights_file_is_mapped_in_two_parts(tmp_path: Path) -> None:
    release = releases.write(tmp_path / "one")
    backbone = releases_of.load_weights(release, "backbone.")
    rest = releases_of.load_weights(release, "backbone.", others=True)
    assert set(backbone) | set(rest) == set(releases_of.load_weights(release))
    assert not set(backbone) & set(rest)
    assert all(key.startswith("backbone.") for key in backbone)
