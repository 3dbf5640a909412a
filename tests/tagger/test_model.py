"""The model against a literal transcription in numpy of what the published code computes."""

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tagger import attention
from tagger.architecture import Architecture, ArchitectureError
from tagger.attention import TagAttention
from tagger.camie import Uninitialised
from tagger.model import CamieTagger
from tests.tagger import releases

Weights = dict[str, np.ndarray]
erf = np.vectorize(math.erf)


def linear(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)


def norm(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def wide_and_back(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    x = gelu(norm(weights, f"{name}.1", linear(weights, f"{name}.0", x)))
    x = gelu(norm(weights, f"{name}.5", linear(weights, f"{name}.4", x)))
    return linear(weights, f"{name}.7", x)


def flash_attn_func(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The library's documented layout: (batch, sequence, heads, dim)."""
    scores = np.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(q.shape[-1])
    return np.einsum("bhij,bjhd->bihd", softmax(scores), v)


def published_attention(weights: Weights, name: str, heads: int, query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Value defaults to the query; q, k, v reach the library as (batch, heads, tokens, dim)."""
    batch, tokens, size = query.shape
    projected = []
    for letter, tensor in (("q", query), ("k", key), ("v", query)):
        tensor = linear(weights, f"{name}.{letter}_proj", tensor)
        projected.append(tensor.reshape(batch, tokens, heads, size // heads).transpose(0, 2, 1, 3))
    mixed = flash_attn_func(*projected).transpose(0, 2, 1, 3).reshape(batch, tokens, size)
    return linear(weights, f"{name}.out_proj", mixed)


def published_head(weights: Weights, heads: int, context: int, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    temperature = weights["temperature"]
    initial = np.clip(wide_and_back(weights, "initial_classifier", f) / temperature, -15, 15)
    chosen = np.argsort(-initial, axis=1, kind="stable")[:, :context]
    e = weights["tag_embedding.weight"][chosen]
    a = norm(weights, "tag_norm", published_attention(weights, "tag_attention", heads, e, e))
    p = gelu(norm(weights, "cross_proj.1", linear(weights, "cross_proj.0", f)))
    p = np.repeat(linear(weights, "cross_proj.4", p)[:, None], context, axis=1)
    c = norm(weights, "cross_norm", published_attention(weights, "cross_attention", heads, p, a))
    u = c.mean(axis=1)
    refined = wide_and_back(weights, "refined_classifier", np.concatenate([f, u], axis=1))
    return initial, np.clip(refined / temperature, -15, 15)


def numbers(tagger: CamieTagger) -> Weights:
    return {key: tensor.double().numpy() for key, tensor in tagger.state_dict().items()}


@pytest.mark.parametrize("batch", [1, 3])
def test_chunk_rule_computes_what_the_published_code_computes(batch: int) -> None:
    tagger = releases.model(attention="chunk")
    features = torch.randn(batch, 320)
    with torch.no_grad():
        initial, refined = tagger.head(features)
    expected = published_head(numbers(tagger), 4, 8, features.double().numpy())
    np.testing.assert_allclose(initial.numpy(), expected[0], atol=1e-4)
    np.testing.assert_allclose(refined.numpy(), expected[1], atol=1e-4)
    assert not np.allclose(expected[0], expected[1], atol=0.1)


def test_forward_is_features_then_head() -> None:
    tagger = releases.model()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        initial, refined = tagger(images)
        pooled = tagger.backbone(images).mean(dim=(2, 3))
        torch.testing.assert_close(tagger.features(images), pooled)
        torch.testing.assert_close(tagger.head(pooled), (initial, refined))
    assert initial.shape == refined.shape == (2, len(releases.TAGS))


def test_token_rule_with_one_query_equals_the_textbook_with_many() -> None:
    torch.manual_seed(1)
    attention = TagAttention(32, heads=4, rule="token", dropout=0.0).eval()
    textbook = torch.nn.MultiheadAttention(32, 4, bias=False, batch_first=True)
    with torch.no_grad():
        projections = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
        textbook.in_proj_weight.copy_(torch.cat(projections))
        textbook.out_proj.weight.copy_(attention.out_proj.weight)
        picture, tags = torch.randn(3, 1, 32), torch.randn(3, 9, 32)
        many = textbook(picture.expand(-1, 9, -1), tags, tags, need_weights=False)[0]
        one = attention(picture, tags, tags)
    torch.testing.assert_close(one.expand(-1, 9, -1), many, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rule", ["chunk", "token"])
def test_refined_scores_depend_on_the_context_tags(rule: str) -> None:
    tagger = releases.model(attention=rule)
    features = torch.randn(2, 320)
    with torch.no_grad():
        first = tagger.used_tags(features, torch.arange(8).expand(2, -1))
        second = tagger.used_tags(features, torch.arange(8, 16).expand(2, -1))
        mixed = tagger.used_tags(features, torch.arange(8).flip(0).expand(2, -1))
    assert (first - second).abs().max() > 1e-3
    torch.testing.assert_close(first, mixed)  # a set of tags, not a list


def test_flash_layout_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """flash-attn itself needs CUDA; its documented layout is stood in for by the transcription above."""

    def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout_p: float) -> torch.Tensor:
        return torch.from_numpy(flash_attn_func(q.numpy(), k.numpy(), v.numpy()))

    for rule in ("chunk", "token"):
        tagger = releases.model(attention=rule)
        features = torch.randn(3, 320)
        with torch.no_grad():
            plain = tagger.head(features)[1]
            with monkeypatch.context() as patch:
                patch.setattr(attention, "flash_attention", lambda: flash)
                patch.setattr(attention, "flash_fits", lambda tensor: True)
                torch.testing.assert_close(tagger.head(features)[1], plain, atol=1e-4, rtol=1e-4)


class OnCard:
    """As a tensor on a GPU says of itself."""

    is_cuda, device = True, torch.device("cuda")

    def __init__(self, dtype: torch.dtype = torch.float16, width: int = 80) -> None:
        self.dtype, self.shape = dtype, (3, 16, 256, width)


def test_flash_is_used_where_it_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    (tmp_path / "flash_attn.py").write_text("def flash_attn_func(q, k, v, dropout_p): return v")
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    attention.flash_attention.cache_clear()
    try:
        assert attention.flash_fits(OnCard())
        assert attention.flash_attention()(1, 2, 3, 0.0) == 3
        assert not attention.flash_fits(OnCard(torch.float32))
        assert not attention.flash_fits(OnCard(width=84))
        assert not attention.flash_fits(torch.zeros(3, 16, 256, 80, dtype=torch.float16))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        assert not attention.flash_fits(OnCard())
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        (tmp_path / "flash_attn.py").write_text("raise ImportError('undefined symbol')")
        monkeypatch.delitem(sys.modules, "flash_attn")
        attention.flash_attention.cache_clear()
        importlib.invalidate_caches()
        assert not attention.flash_fits(OnCard())
        assert "torch's own attention is used: undefined symbol" in caplog.text
    finally:
        attention.flash_attention.cache_clear()


def test_initial_only_returns_the_same_scores_twice() -> None:
    tagger = releases.model(stages="initial")
    initial, refined = tagger.head(torch.randn(2, 320))
    assert initial is refined
    assert not any(key.startswith(("tag_", "cross_", "refined_")) for key in tagger.state_dict())


def test_logits_are_clamped_and_gradients_reach_every_part() -> None:
    tagger = releases.model().train()
    with torch.no_grad():
        tagger.initial_classifier[7].bias[0] = 1e6
    initial, refined = tagger(torch.rand(2, 3, 64, 64))
    assert initial.max() == 15
    (initial.sum() + refined.sum()).backward()
    assert not [name for name, parameter in tagger.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize(
    ("stages", "parameters", "keys"), [("initial", 214_144_480, 1557), ("full", 424_280_927, 1586)]
)
def test_published_sizes_and_names(stages: str, parameters: int, keys: int) -> None:
    with torch.device("meta"), Uninitialised():
        tagger = CamieTagger(Architecture(tag_count=70_527, stages=stages))
    state = tagger.state_dict()
    assert sum(parameter.numel() for parameter in tagger.parameters()) == parameters
    assert sum(buffer.numel() for buffer in tagger.buffers()) == 512_793
    assert len(state) == keys
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    assert shapes["backbone.features.0.0.weight"] == (32, 3, 3, 3)
    assert shapes["backbone.features.8.0.weight"] == (1280, 640, 1, 1)
    assert shapes["initial_classifier.0.weight"] == (2560, 1280)
    assert shapes["initial_classifier.7.weight"] == (70_527, 1280)
    assert shapes["temperature"] == (1,)
    if stages == "full":
        assert shapes["tag_embedding.weight"] == (70_527, 1280)
        assert shapes["tag_attention.q_proj.weight"] == shapes["cross_attention.out_proj.weight"] == (1280, 1280)
        assert shapes["cross_proj.4.weight"] == (1280, 2560)
        assert shapes["refined_classifier.0.weight"] == (2560, 2560)
        assert "tag_attention.q_proj.bias" not in shapes


def test_starter_sized_model_fits_fifteen_megabytes() -> None:
    widths = {"embedding_size": 256, "initial_hidden": 512, "cross_hidden": 512, "refined_hidden": 512}
    with torch.device("meta"), Uninitialised():
        tagger = CamieTagger(Architecture(tag_count=1100, backbone="efficientnet_lite0", attention="token", **widths))
    assert 2 * sum(tensor.numel() for tensor in tagger.state_dict().values()) < 15_000_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet"}, "No backbone is called 'resnet'"),
        ({"attention": "both"}, "chunk or token"),
        ({"stages": "third"}, "full or initial"),
        ({"heads": 5}, "multiple of heads"),
        ({"tag_count": 0}, "at least 1"),
        ({"embedding_size": "32"}, "whole number"),
        ({"dropout": 1}, "below 1"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_named(changes: dict, words: str) -> None:
    with pytest.raises(ArchitectureError, match=words):
        releases.architecture(**changes)


def test_architecture_survives_its_config_and_refuses_unknown_keys() -> None:
    settings = releases.architecture().to_config()
    assert Architecture.from_config(settings) == releases.architecture()
    with pytest.raises(ArchitectureError, match="unknown settings: depth"):
        Architecture.from_config(settings | {"depth": 3})
    with pytest.raises(ArchitectureError, match="lacks tag_count"):
        Architecture.from_config({})
