"""Other programs' ways to run Camie v1, and a random model and pictures to run them on.

The published code repeats the picture's query for each context tag, computes each attention whole, and walks over all
tags in Python. dghs-imgutils exports that graph for onnxruntime, feeds it by Pillow (LANCZOS, black padding), and makes
a dictionary of each category.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from tagger import release as releases
from tagger.architecture import Architecture
from tagger.attention import TagAttention
from tagger.camie import empty_model
from tagger.model import CamieTagger
from tagger.release import ReleaseFolder
from tagger.vocabulary import CATEGORIES, Vocabulary

THRESHOLD = 0.15
TAGS = {"general": 30_841, "character": 26_968, "artist": 7_007, "copyright": 5_364, "meta": 323, "year": 20}
ON = 100  # tags of a picture that reach the floor, by the last layers' biases
FLOOR_LOGIT = -2.2


def write_release(folder: Path, quick: bool) -> ReleaseFolder:
    """Random weights whose norms know the statistics of pictures, so that signals live to the end."""
    counts = {"general": 300, "character": 100} if quick else TAGS
    categories = [category for category, count in counts.items() for _ in range(count)] + ["rating"] * 4
    names = [f"{category}_{number}" for number, category in enumerate(categories)]
    small = {"backbone": "efficientnet_tiny", "tag_context_size": 16, "embedding_size": 64, "heads": 4} if quick else {}
    architecture = Architecture(tag_count=len(names), **small)
    modes = {"balanced": {"threshold": THRESHOLD}}
    return releases.write(
        folder,
        config={
            "name": "random-camie",
            "architecture": architecture.to_config(),
            "preprocess": {"size": 64 if quick else 512, "pad_color": [0, 0, 0], "alpha": "drop"},
            "weights": {"file": "model.safetensors", "dtype": "float32"},
        },
        weights=random_weights(architecture),
        vocabulary=Vocabulary(names, categories, [0] * len(names)),
        thresholds={"initial": {"overall": modes}, "refined": {"overall": modes}},
        metrics={},
        card="",
    )


def random_weights(architecture: Architecture) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = empty_model(architecture).to_empty(device="cpu")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                module.reset_parameters()
                module.momentum = 1.0
            elif isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
                weight = module.weight
                weight.normal_(std=(1.5 / weight[0].numel()) ** 0.5 if weight.ndim > 1 else 1.0)
                if getattr(module, "bias", None) is not None:
                    module.bias.zero_()
            elif type(module).__name__ == "StochasticDepth":
                module.p = 0.0
        model.temperature.fill_(1.5)
        pictures = [np.asarray(picture(256, 256, seed), np.float32) / 255 for seed in range(6)]
        pixels = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2))
        model.train().features(pixels)
        for stage, classifier in enumerate((model.initial_classifier, model.refined_classifier)):
            logits = model.eval()(pixels)[stage]
            rare = logits.sort(dim=1).values[:, -min(ON, logits.shape[1] // 4)].mean()
            classifier[7].bias.fill_(float(FLOOR_LOGIT - rare) * 1.5)
    return model.eval().state_dict()


def picture(width: int, height: int, seed: int) -> Image.Image:
    """Flat shapes with edges, a gradient, and grain."""
    rng = np.random.default_rng(seed)
    corners = Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8))
    image = corners.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = rng.integers(0, width), rng.integers(0, height)
        size = int(rng.integers(width // 40 + 1, width // 4 + 2))
        colour = tuple(rng.integers(0, 256, 3).tolist())
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((int(x), int(y), int(x) + size, int(y) + int(size * (0.4 + rng.random()))), fill=colour)
    grain = rng.normal(0, 6, (height, width, 1))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def jpegs(folder: Path, count: int, width: int, height: int) -> list[Path]:
    files = [folder / f"{number}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        picture(width, height, 100 + number).save(file, quality=90)
    return files


def padded(file: Path, size: int) -> np.ndarray:
    """As dghs-imgutils and the published code feed Camie v1: float32 [3, S, S]"""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    ratio = image.width / image.height
    inside = (size, max(1, int(size / ratio))) if ratio > 1 else (max(1, int(size * ratio)), size)
    image = image.resize(inside, Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (size, size), (0, 0, 0))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.ascontiguousarray(np.asarray(canvas, dtype=np.float32).transpose(2, 0, 1) / 255)


def naive(attention: TagAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[B, T, E] each; every token attends among its own chunks, written out."""
    query, key, value = attention.q_proj(query), attention.k_proj(key), attention.v_proj(value)
    query, key, value = (tensor.unflatten(-1, (attention.heads, -1)) for tensor in (query, key, value))
    shares = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
    return attention.out_proj((shares @ value).flatten(2))


class Published(nn.Module):
    """The forward pass as published: one query for each context tag."""

    def __init__(self, model: CamieTagger) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        model = self.model
        features = model.features(images)
        initial = model.initial(features)
        embedded = model.tag_embedding(model.context(initial))
        tags = model.tag_norm(naive(model.tag_attention, embedded, embedded, embedded))
        picture = model.cross_proj(features).unsqueeze(1).expand(-1, embedded.shape[1], -1)
        used = model.cross_norm(naive(model.cross_attention, picture, tags, picture)).mean(dim=1)
        return initial, model.rescored(features, used)


class Original:
    """torch eager in float32, and a Python loop over all tags."""

    def __init__(self, release: ReleaseFolder, model: CamieTagger) -> None:
        self.release, self.model = release, Published(model)
        self.size, self.names = release.preprocess.size, release.vocabulary.names

    @torch.no_grad()
    def logits(self, pixels: np.ndarray) -> np.ndarray:
        return self.model(torch.from_numpy(pixels))[1].numpy()

    def tags(self, logits: np.ndarray) -> dict[str, float]:
        return loop(logits, self.names)

    def __call__(self, files: list[Path]) -> None:
        for row in self.logits(np.stack([padded(file, self.size) for file in files])):
            self.tags(row)


def loop(logits: np.ndarray, names: list[str], floor: float = 0.10) -> dict[str, float]:
    """The cheapest Python loop over all tags: every confidence as a Python number, compared one by one."""
    confidences = (1 / (1 + np.exp(-logits))).tolist()
    found = {names[tag]: value for tag, value in enumerate(confidences) if value >= floor}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


class Peer:
    """onnxruntime in float32 with one thread, as dghs-imgutils uses it."""

    def __init__(self, release: ReleaseFolder, graph: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.size = release.preprocess.size
        codes = release.vocabulary.category_codes
        names = np.array(release.vocabulary.names)
        self.categories = [(np.flatnonzero(codes == code), names[codes == code]) for code in range(len(CATEGORIES))]

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        return self.session.run(["refined"], {"input": pixels})[0]

    def tags(self, logits: np.ndarray) -> list[dict[str, Any]]:
        confidences = 1 / (1 + np.exp(-logits))
        return [
            {name: value for name, value in zip(names, confidences[places], strict=True) if value >= THRESHOLD}
            for places, names in self.categories
        ]

    def __call__(self, files: list[Path]) -> None:
        for row in self.logits(np.stack([padded(file, self.size) for file in files])):
            self.tags(row)


def write_graph(model: CamieTagger, file: Path, size: int) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Published(model),
            (torch.zeros(1, 3, size, size),),
            str(file),
            input_names=["input"],
            output_names=["initial", "refined"],
            dynamic_axes={key: {0: "batch"} for key in ("input", "initial", "refined")},
            opset_version=17,
            dynamo=False,
        )
