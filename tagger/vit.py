"""JoyTag's vision transformer from its published safetensors: a release of kind vit, run by torch.

ViT-B/16 at 448 pixels in the published case, with a stem of convolutions, fixed sines for places, learnt scales on both
branches of a block, and the mean of all places before the last layer. Key names are the published ones; what the
published config.json says of its shape is kept in the release. Facts: Models.py of fancyfeast/joytag (Apache-2.0).
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from tagger import release as releases
from tagger.camie import FAST, NAMES, PIXELS_A_PASS, Uninitialised, choose_device, exact_products, overflowed
from tagger.memory import keep_memory
from tagger.release import ReleaseError, ReleaseFolder

logger = logging.getLogger(__name__)

WAVELENGTH = 10_000.0  # the longest one of the places' sines, in turns of 2 pi patches
# Parts of the published config.json that matter only in training.
TRAINING = {"class", "loss_type", "stochdepth_rate", "layerscale_init", "patch_dropout"}
LEGACY = 9  # ratings and scores that early checkpoints have after the tags


@dataclass(frozen=True)
class VitArchitecture:
    """The published names. `cnn_stem` is a row of layers, such as conv:c=64;ln;relu;conv:c=768,s=1,k=1,p=0."""

    n_tags: int
    image_size: int
    num_blocks: int
    patch_size: int
    d_model: int
    mlp_dim: int
    num_heads: int
    use_sine: bool = True
    cnn_stem: str | None = None
    head_mean_after: bool = False

    def __post_init__(self) -> None:
        for name in ("n_tags", "image_size", "num_blocks", "patch_size", "d_model", "mlp_dim", "num_heads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ReleaseError(f"{name} is {value!r}; it must be a whole number of at least 1.")
        if self.d_model % self.num_heads or (self.use_sine and (self.d_model % 4 or self.d_model < 8)):
            raise ReleaseError(f"d_model {self.d_model} must be a multiple of num_heads {self.num_heads} and of 4.")
        if self.image_size % self.patch_size:
            raise ReleaseError(f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}.")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "VitArchitecture":
        """From the published config.json or a release's architecture. Raises ReleaseError."""
        kind = config.get("class", "ViT")
        if kind != "ViT":
            raise ReleaseError(f"The model is a {kind}, not a ViT as JoyTag is; use its ONNX file.")
        given = {key: value for key, value in config.items() if key not in TRAINING}
        if unknown := sorted(set(given) - {field.name for field in fields(cls)}):
            raise ReleaseError(f"Its config.json has unknown settings ({', '.join(unknown)}); use its ONNX file.")
        try:
            return cls(**given)
        except TypeError as error:
            raise ReleaseError(f"The model's config.json is not whole ({error}); copy it again.") from error

    def to_config(self) -> dict[str, Any]:
        return asdict(self)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel: [B, C, H, W]"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, maps: Tensor) -> Tensor:
        return self.norm(maps.movedim(1, -1)).movedim(-1, 1)


class Stem(nn.Module):
    def __init__(self, layers: str) -> None:
        super().__init__()
        self.conv = nn.Sequential(*stem_layers(layers))

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


def stem_layers(text: str) -> list[nn.Module]:
    """`conv` takes c channels, kernel k (3), stride s (2) and padding p (1). Raises ReleaseError."""
    layers: list[nn.Module] = []
    channels = 3
    for part in text.split(";"):
        name, _, options = part.partition(":")
        try:
            values = {key: int(value) for key, value in (option.split("=") for option in options.split(",") if option)}
            if name == "conv":
                shape = values["c"], values.get("k", 3), values.get("s", 2), values.get("p", 1)
                layers.append(nn.Conv2d(channels, *shape))
                channels = values["c"]
            else:
                layers.append(STEM_LAYERS[name](channels))
        except (KeyError, ValueError) as error:
            raise ReleaseError(f"The stem's layer {part!r} is not known; use the model's ONNX file.") from error
    return layers


STEM_LAYERS = {
    "bn": nn.BatchNorm2d,
    "ln": ChannelNorm,
    "relu": lambda channels: nn.ReLU(),
    "gelu": lambda channels: nn.GELU(),
}


class Scale(nn.Module):
    """A learnt factor for each channel."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.skip = nn.Parameter(torch.ones(size))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.skip


class Mlp(nn.Module):
    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(size, hidden)
        self.linear2 = nn.Linear(hidden, size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(tokens)))


class Block(nn.Module):
    """Attention and two layers, each normed before, scaled after and added to what came in: [B, T, D]"""

    def __init__(self, size: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv_proj, self.out_proj = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.skip_init1, self.skip_init2 = Scale(size), Scale(size)
        self.mlp = Mlp(size, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.qkv_proj(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.movedim(2, 0).transpose(2, 3)  # [B, H, T, D/H] each
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.skip_init1(self.out_proj(found))
        return tokens + self.skip_init2(self.mlp(self.norm2(tokens)))


class Places(nn.Module):
    """Adds to each token where it is: sines, or one learnt vector for each place."""

    def __init__(self, architecture: VitArchitecture) -> None:
        super().__init__()
        self.side, self.size = architecture.image_size // architecture.patch_size, architecture.d_model
        if not architecture.use_sine:
            self.embedding = nn.Embedding(self.side**2, self.size)
            self.register_buffer("position_ids", torch.arange(self.side**2))

    def forward(self, tokens: Tensor) -> Tensor:
        if hasattr(self, "embedding"):
            return tokens + self.embedding.weight
        return tokens + sines(self.side, self.size).to(tokens)


def sines(side: int, size: int) -> Tensor:
    """[side * side, size], row by row: sines and cosines of the column, then of the row."""
    speed = WAVELENGTH ** -(torch.arange(size // 4) / (size // 4 - 1))
    turns = torch.arange(side)[:, None] * speed  # [side, size / 4]
    column, row = turns.repeat(side, 1), turns.repeat_interleave(side, dim=0)
    return torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], dim=1)


class VisionTransformer(nn.Module):
    def __init__(self, architecture: VitArchitecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        plain = a.cnn_stem is None
        self.patch_embeddings = nn.Conv2d(3, a.d_model, a.patch_size, a.patch_size) if plain else Stem(a.cnn_stem)
        self.pos_embedding = Places(a)
        self.blocks = nn.ModuleList(Block(a.d_model, a.mlp_dim, a.num_heads) for _ in range(a.num_blocks))
        self.norm = nn.LayerNorm(a.d_model)
        self.head = nn.Linear(a.d_model, a.n_tags)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> logits [B, tags]"""
        tokens = self.pos_embedding(self.patch_embeddings(images).flatten(2).transpose(1, 2))
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        if self.architecture.head_mean_after:
            return self.head(tokens).mean(dim=1)
        return self.head(tokens.mean(dim=1))


def expected_shapes(architecture: VitArchitecture) -> dict[str, tuple[int, ...]]:
    """Of every published key."""
    with torch.device("meta"), Uninitialised():
        model = VisionTransformer(architecture)
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


class VitEngine:
    """Exact: float32. Fast: bfloat16 on a CPU; on CUDA half precision, and float32 for pictures that overflow it."""

    activation, stage = "sigmoid", "refined"

    def __init__(self, release: ReleaseFolder, device: str, threads: int, mode: str) -> None:
        self.release, self.descriptor = release, release.descriptor
        self.device = choose_device(device)
        if threads:
            torch.set_num_threads(threads)
        self.dtype = FAST[self.device.type] if mode == "fast" else torch.float32
        self.model = load_vit(release, self.device, self.dtype)
        self._exact: VisionTransformer | None = None  # in 32 bits, loaded when a picture first overflows
        if self.device.type == "cpu":
            keep_memory()
        self.batch_size = max(1, PIXELS_A_PASS[self.device.type] // release.preprocess.size**2)
        self.title = f"torch {NAMES[self.dtype]}{' (CUDA)' if self.device.type == 'cuda' else ''}"

    def prepare(self, image: Image.Image) -> np.ndarray:
        """float32 [3, S, S]"""
        return self.descriptor.prepare(image)

    @torch.inference_mode()
    def scores(self, pixels: np.ndarray) -> tuple[np.ndarray, None]:
        """[B, 3, S, S] -> logits, float32 [B, tags]"""
        logits = self._logits(self.model, pixels, self.dtype)
        if self.dtype == torch.float16 and (over := overflowed(logits)).any():
            if self._exact is None:
                logger.warning("%s overflows in half precision: such pictures are done in 32 bits", self.release.name)
                self._exact = load_vit(self.release, self.device, torch.float32)
            logits[over] = self._logits(self._exact, pixels[over.cpu().numpy()], torch.float32)
        return logits.cpu().numpy(), None

    def _logits(self, model: VisionTransformer, pixels: np.ndarray, dtype: torch.dtype) -> Tensor:
        with exact_products():
            return model(torch.from_numpy(pixels).to(self.device, dtype)).float()


def load_vit(release: ReleaseFolder, device: torch.device, dtype: torch.dtype) -> VisionTransformer:
    architecture = VitArchitecture.from_config(release.config["architecture"])
    check(architecture, release)
    weights = releases.load_weights(release)
    releases.require_shapes(
        expected_shapes(architecture), {key: tuple(one.shape) for key, one in weights.items()}, release.weights_file
    )
    with torch.device("meta"), Uninitialised():
        model = VisionTransformer(architecture)
    moved = {key: one.to(device, dtype if one.is_floating_point() else None) for key, one in weights.items()}
    model.load_state_dict(moved, assign=True)
    return model.eval().requires_grad_(False)


def check(architecture: VitArchitecture, release: ReleaseFolder) -> None:
    if architecture.n_tags != len(release.vocabulary):
        raise ReleaseError(
            f"The release {release.name} names {len(release.vocabulary)} tags but its model scores"
            f" {architecture.n_tags}."
        )
    if architecture.image_size != release.preprocess.size:
        raise ReleaseError(
            f"The release {release.name} makes pictures of {release.preprocess.size} pixels, but its model wants"
            f" {architecture.image_size}."
        )
