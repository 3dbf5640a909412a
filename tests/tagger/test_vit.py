"""JoyTag's safetensors: the model against a literal transcription in numpy of the published one, and its importer."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tagger import fast
from tagger.importing import command
from tagger.importing.published import JOYTAG
from tagger.inference import Predictor
from tagger.release import ReleaseError
from tagger.vit import VisionTransformer, VitArchitecture, expected_shapes, load_vit
from tests.tagger.importing.test_onnx_model import joytag, joytag_scores

STEM = "conv:c=64;ln;relu;conv:c=128;ln;relu;conv:c=256;ln;relu;conv:c=512;ln;relu;conv:c=768,s=1,k=1,p=0"
PUBLISHED = {
    "class": "ViT",
    "n_tags": 5813,
    "image_size": 448,
    "num_blocks": 12,
    "patch_size": 16,
    "d_model": 768,
    "mlp_dim": 3072,
    "num_heads": 12,
    "stochdepth_rate": 0.05,
    "use_sine": True,
    "loss_type": "focal2",
    "cnn_stem": STEM,
}
SMALL = PUBLISHED | {
    "n_tags": 5,
    "image_size": 64,
    "num_blocks": 2,
    "d_model": 32,
    "mlp_dim": 48,
    "num_heads": 4,
    "cnn_stem": "conv:c=8;ln;relu;conv:c=12;bn;gelu;conv:c=16;conv:c=16;gelu;conv:c=32,s=1,k=1,p=0",
}


def random_weights(config: dict[str, object], seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    weights = {}
    for key, shape in expected_shapes(VitArchitecture.from_config(config)).items():
        if key.endswith(("num_batches_tracked", "position_ids")):
            weights[key] = torch.arange(math.prod(shape)).reshape(shape)
        elif key.endswith("running_var"):
            weights[key] = torch.rand(shape) + 0.5
        else:
            weights[key] = torch.randn(shape) * (1.5 / math.sqrt(max(1, math.prod(shape[1:]))))
    return weights


class Literal:
    """The published forward pass, step by step and in float64. No torch."""

    def __init__(self, config: dict[str, object], weights: dict[str, torch.Tensor]) -> None:
        self.config = config
        self.w = {key: tensor.double().numpy() for key, tensor in weights.items()}

    def linear(self, key: str, x: np.ndarray) -> np.ndarray:
        return x @ self.w[f"{key}.weight"].T + self.w[f"{key}.bias"]

    def layer_norm(self, key: str, x: np.ndarray) -> np.ndarray:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-5) * self.w[f"{key}.weight"] + self.w[f"{key}.bias"]

    def conv(self, key: str, x: np.ndarray, stride: int, padding: int) -> np.ndarray:
        weight, bias = self.w[f"{key}.weight"], self.w[f"{key}.bias"]
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
        side, kernel = (x.shape[1] - weight.shape[2]) // stride + 1, weight.shape[2]
        found = np.empty((len(weight), side, side))
        for row in range(side):
            for column in range(side):
                patch = x[:, row * stride : row * stride + kernel, column * stride : column * stride + kernel]
                found[:, row, column] = np.tensordot(weight, patch, 3) + bias
        return found

    def stem(self, x: np.ndarray) -> np.ndarray:
        for number, line in enumerate(self.config["cnn_stem"].split(";")):
            kind, _, rest = line.partition(":")
            key = f"patch_embeddings.conv.{number}"
            if kind == "conv":
                options = dict(option.split("=") for option in rest.split(","))
                x = self.conv(key, x, int(options.get("s", 2)), int(options.get("p", 1)))
            elif kind == "ln":
                x = self.layer_norm(f"{key}.norm", x.transpose(2, 1, 0)).transpose(2, 1, 0)
            elif kind == "bn":
                mean, variance = self.w[f"{key}.running_mean"], self.w[f"{key}.running_var"]
                scale = self.w[f"{key}.weight"] / np.sqrt(variance + 1e-5)
                x = (x - mean[:, None, None]) * scale[:, None, None] + self.w[f"{key}.bias"][:, None, None]
            elif kind == "relu":
                x = np.maximum(x, 0)
            else:
                x = gelu(x)
        return x

    def positions(self, side: int) -> np.ndarray:
        depth = self.config["d_model"]
        rows = []
        for y in range(side):
            for x in range(side):
                omega = [1 / 10000 ** (k / (depth // 4 - 1)) for k in range(depth // 4)]
                parts = [math.sin, x], [math.cos, x], [math.sin, y], [math.cos, y]
                rows.append([function(place * each) for function, place in parts for each in omega])
        return np.array(rows)

    def block(self, key: str, x: np.ndarray) -> np.ndarray:
        depth, heads = self.config["d_model"], self.config["num_heads"]
        qkv = self.linear(f"{key}.qkv_proj", self.layer_norm(f"{key}.norm1", x))
        out = np.empty_like(x)
        for head in range(heads):
            place = slice(head * depth // heads, (head + 1) * depth // heads)
            q, k, v = (qkv[:, part * depth : (part + 1) * depth][:, place] for part in range(3))
            scores = q @ k.T / math.sqrt(depth // heads)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, place] = shares / shares.sum(-1, keepdims=True) @ v
        x = x + self.linear(f"{key}.out_proj", out) * self.w[f"{key}.skip_init1.skip"]
        hidden = gelu(self.linear(f"{key}.mlp.linear1", self.layer_norm(f"{key}.norm2", x)))
        return x + self.linear(f"{key}.mlp.linear2", hidden) * self.w[f"{key}.skip_init2.skip"]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        patch = self.config["patch_size"]
        stemmed = self.config.get("cnn_stem") is not None
        maps = self.stem(image) if stemmed else self.conv("patch_embeddings", image, patch, 0)
        tokens = maps.reshape(len(maps), -1).T
        table = self.positions(maps.shape[1]) if self.config["use_sine"] else self.w["pos_embedding.embedding.weight"]
        tokens = tokens + table
        for number in range(self.config["num_blocks"]):
            tokens = self.block(f"blocks.{number}", tokens)
        tokens = self.layer_norm("norm", tokens)
        if self.config.get("head_mean_after"):
            return self.linear("head", tokens).mean(0)
        return self.linear("head", tokens.mean(0))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


@pytest.mark.parametrize(
    "changes",
    [{}, {"head_mean_after": True}, {"use_sine": False, "cnn_stem": None}, {"cnn_stem": None, "patch_size": 8}],
)
def test_the_model_is_the_published_one(changes: dict[str, object]) -> None:
    config = {key: value for key, value in (SMALL | changes).items() if value is not None}
    weights = random_weights(config)
    model = VisionTransformer(VitArchitecture.from_config(config))
    model.load_state_dict(weights)
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        found = model.eval()(images).numpy()
    literal = Literal(config, weights)
    expected = np.stack([literal(image) for image in images.double().numpy()])
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_published_shape_has_the_published_number_of_weights() -> None:
    """91.5 million, as the model's page says; the names of a block and of the stem as the published code has them."""
    shapes = expected_shapes(VitArchitecture.from_config(PUBLISHED))
    assert round(sum(math.prod(shape) for shape in shapes.values()) / 1e6, 1) == 91.5
    names = ["norm1", "norm2", "qkv_proj", "out_proj", "mlp.linear1", "mlp.linear2"]
    block = {f"blocks.11.{name}.{leaf}" for name in names for leaf in ("weight", "bias")}
    block |= {"blocks.11.skip_init1.skip", "blocks.11.skip_init2.skip"}
    assert {key for key in shapes if key.startswith("blocks.11.")} == block
    assert shapes["patch_embeddings.conv.12.weight"] == (768, 512, 1, 1)
    assert shapes["patch_embeddings.conv.1.norm.weight"] == (64,)
    assert {key for key in shapes if not key.startswith(("blocks.", "patch_embeddings."))} == {
        "norm.weight",
        "norm.bias",
        "head.weight",
        "head.bias",
    }


def files(folder: Path, config: dict[str, object] | None = None, **changes: torch.Tensor) -> Path:
    """As published, but small."""
    config = config or SMALL
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "top_tags.txt").write_text("1girl\nsolo\nlong hair\nsmile\nred eyes\n", "utf-8")
    save_file(random_weights(SMALL) | changes, folder / "model.safetensors")
    return folder


def imported(source: Path, out: Path, *words: str) -> int:
    return command.main(["joytag", "--from", str(source), "--out", str(out), *words])


def test_the_published_files_become_a_release(tmp_path: Path) -> None:
    """The whole way from a transparent picture: white around it, bicubic, CLIP's mean and deviation."""
    legacy = {"head.weight": torch.randn(14, 32), "head.bias": torch.randn(14)}
    source = files(tmp_path / "files", **legacy)
    assert imported(source, tmp_path / "joytag") == 0
    predictor = Predictor(tmp_path / "joytag", "cpu", threads=1)
    assert (predictor.engine.title, predictor.stage) == ("torch fp32", "refined")
    assert predictor.release.vocabulary.names == ["1girl", "solo", "long_hair", "smile", "red_eyes"]
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 50, 4), dtype=np.uint8), "RGBA")
    canvas = Image.new("RGB", (50, 50), (255, 255, 255))
    canvas.paste(picture.convert("RGB"), (0, 10))
    pixels = np.asarray(canvas.resize((64, 64), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    mean, std = (np.array(JOYTAG.descriptor["input"][key]) for key in ("mean", "std"))
    weights = random_weights(SMALL) | {key: tensor[:5] for key, tensor in legacy.items()}
    expected = Literal(SMALL, weights)(((pixels - mean) / std).transpose(2, 0, 1))
    found, features = predictor.answer(predictor.prepare(picture)[None])
    np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-expected)), atol=1e-4)
    assert features is None
    with pytest.raises(ReleaseError, match="another project's model; start from"):
        _ = predictor.release.architecture
    with pytest.raises(ReleaseError, match="leave the engine at auto"):
        Predictor(tmp_path / "joytag", "cpu", engine="onnxruntime")
    gate = fast.check(tmp_path / "joytag", [picture.convert("RGB")], "cpu", anyway=True)
    assert (gate.engine, gate.pictures) == ("torch bf16", 1)


def test_a_picture_that_overflows_half_precision_is_done_exactly(tmp_path: Path) -> None:
    """What a GPU does, on the processor."""
    assert imported(files(tmp_path / "files"), tmp_path / "joytag") == 0
    exact, engine = (Predictor(tmp_path / "joytag", "cpu", threads=1, mode=mode).engine for mode in ("exact", "fast"))
    engine.dtype = torch.float16
    engine.model = load_vit(engine.release, engine.device, engine.dtype)
    pixels = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    half, _ = engine.scores(pixels)
    assert engine._exact is None
    pixels[1] *= 1e5
    found, _ = engine.scores(pixels)
    expected, _ = exact.scores(pixels)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
    np.testing.assert_allclose(found[[0, 2]], half[[0, 2]], atol=1e-3)
    assert (np.abs(found - expected).max(axis=1) > 1e-5).tolist() == [True, False, True]


def test_the_onnx_file_is_taken_where_both_are(tmp_path: Path) -> None:
    joytag(files(tmp_path / "files"))
    assert imported(tmp_path / "files", tmp_path / "joytag") == 0
    predictor = Predictor(tmp_path / "joytag", "cpu", threads=1)
    assert predictor.engine.title == "onnxruntime fp32"
    picture = Image.new("RGB", (20, 30), (200, 10, 90))
    found = predictor.confidences(predictor.prepare(picture)[None])[0]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-joytag_scores(picture))), atol=2e-4)


@pytest.mark.parametrize(
    ("config", "changes", "sentence"),
    [
        ({"class": "CLIPLikeModel"}, {}, "a CLIPLikeModel, not a ViT"),
        ({"depth": 3}, {}, "unknown settings (depth)"),
        ({"d_model": "wide"}, {}, "d_model is 'wide'"),
        ({"num_heads": 5}, {}, "a multiple of num_heads 5"),
        ({"patch_size": 15}, {}, "a multiple of patch_size 15"),
        ({"cnn_stem": "conv:c=8;swirl"}, {}, "layer 'swirl' is not known"),
        ({"cnn_stem": "conv:k=3"}, {}, "layer 'conv:k=3' is not known"),
        ({"n_tags": 6}, {}, "names 5 tags, but its config.json says 6"),
        ({"num_blocks": 3}, {}, "14 missing (blocks.2.norm1.weight"),
        ({"num_blocks": 1}, {}, "14 unexpected (blocks.1.mlp.linear1.bias"),
        ({}, {"norm.weight": torch.ones(31)}, "1 wrong-shaped (norm.weight is (31,), not (32,))"),
    ],
)
def test_what_does_not_fit_is_a_sentence_and_writes_nothing(
    tmp_path: Path,
    config: dict[str, object],
    changes: dict[str, torch.Tensor],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = files(tmp_path / "files", SMALL | config, **changes)
    assert imported(source, tmp_path / "joytag") == command.CANNOT_IMPORT
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["files"]
