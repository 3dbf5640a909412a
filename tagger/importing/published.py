"""Taggers by name: where each is published, its files, and the descriptor of those that are ONNX models."""

from dataclasses import dataclass, field
from typing import Any

# The commit that a download gets unless told: what other projects that use these taggers have pinned. At least two
# independent ones agree on each but Camie v1's, which one names beside eight of the others, all as the rest have them.
COMMITS = {
    "Camais03/camie-tagger": "9afb19b5e21e7916f599edda74eb373cac63ba24",
    "Camais03/camie-tagger-v2": "7d40c1b85b86ab4f607b2caf26b1b50c99db743e",
    "SmilingWolf/wd-vit-tagger-v3": "790b0e92cefd2a0221451604e7831fe643ab7c4f",
    "SmilingWolf/wd-swinv2-tagger-v3": "627aef95638667ddcaa3ac8ae625e88ea5b02f51",
    "SmilingWolf/wd-convnext-tagger-v3": "d39e46de298d27340111b64965e20b8185c407e6",
    "SmilingWolf/wd-vit-large-tagger-v3": "ae469aa2e4706a3af08d3673cf73a11d1add314c",
    "SmilingWolf/wd-eva02-large-tagger-v3": "b25b82a03f7282e41aa2f257a52c7583b710bd1c",
    "deepghs/pixai-tagger-v0.9-onnx": "d8cf666911a2c3d10d586d7823259192313c7eb7",
    "fancyfeast/joytag": "6b7f16331a6ccf0fdce37d5a9564715f6e772b22",
}
BRANCH = "main"


@dataclass(frozen=True)
class Published:
    """`files` lists what a download gets; of names in one tuple the first that is there. `optional` may be missing."""

    title: str
    repository: str
    files: tuple[tuple[str, ...], ...]
    licence: str = ""
    optional: tuple[str, ...] = ("README.md",)
    model_file: str | None = "model.onnx"
    descriptor: dict[str, Any] = field(default_factory=dict)

    @property
    def revision(self) -> str:
        """What a download gets: a commit, or the branch of a repository that is not in the list."""
        return COMMITS.get(self.repository, BRANCH)


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
CSV = {"file": "selected_tags.csv", "format": "csv", "name": "name", "category": "category", "count": "count"}

CAMIE_V1 = Published(
    title="Camie Tagger v1",
    repository="Camais03/camie-tagger",
    licence="GPL-3.0",
    files=(
        ("model_refined.safetensors",),
        ("metadata.json", "model/metadata.json"),
        ("thresholds.json", "model/thresholds.json"),
    ),
    optional=("README.md", "model_info_refined.json", "model/model_info_refined.json"),
    model_file=None,
)

CAMIE_V2 = Published(
    title="Camie Tagger v2",
    repository="Camais03/camie-tagger-v2",
    licence="GPL-3.0",
    files=(("camie-tagger-v2.onnx",), ("camie-tagger-v2-metadata.json",)),
    model_file="camie-tagger-v2.onnx",
    descriptor={
        "input": {
            "layout": "NCHW",
            "channels": "RGB",
            "scale": 1,
            "size": 512,
            "geometry": "letterbox",
            "filter": "lanczos",
            "pad_color": [124, 116, 104],
            "alpha": "drop",
            **IMAGENET,
        },
        # Outputs: initial_predictions, refined_predictions, selected_candidates; the initial one misses characters.
        "output": {"index": 1, "activation": "sigmoid"},
        "vocabulary": {
            "file": "camie-tagger-v2-metadata.json",
            "format": "json",
            "names": "dataset_info.tag_mapping.idx_to_tag",
            "categories": "dataset_info.tag_mapping.tag_to_category",
        },
        "exclusive_categories": ["rating"],
        # Published for all tags: best micro and best macro F1. The lower one is what other programs begin with.
        "thresholds": {"overall": {"balanced": 0.491837, "micro_opt": 0.614286, "macro_opt": 0.491837}},
    },
)

WD_V3 = Published(
    title="WD Tagger v3",
    repository="SmilingWolf/wd-vit-tagger-v3",
    licence="Apache-2.0",
    files=(("model.onnx",), ("selected_tags.csv",)),
    descriptor={
        "input": {
            "layout": "NHWC",
            "channels": "BGR",
            "scale": 255,
            "size": 448,
            "geometry": "square",
            "filter": "bicubic",
            "pad_color": [255, 255, 255],
            "alpha": "composite",
        },
        "output": {"index": 0, "activation": "identity"},
        "vocabulary": CSV,
        "exclusive_categories": ["rating"],
        "thresholds": {"overall": 0.35, "general": 0.35, "character": 0.85},
    },
)

PIXAI_V0_9 = Published(
    title="PixAI Tagger v0.9",
    repository="deepghs/pixai-tagger-v0.9-onnx",
    files=(("model.onnx",), ("selected_tags.csv",)),
    descriptor={
        "input": {
            "layout": "NCHW",
            "channels": "RGB",
            "scale": 1,
            "size": 448,
            "geometry": "stretch",
            "filter": "bilinear",
            "pad_color": [255, 255, 255],
            "alpha": "composite",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        # Outputs: embedding, logits, prediction.
        "output": {"name": "prediction", "activation": "identity"},
        "vocabulary": CSV,
        "exclusive_categories": [],
        "thresholds": {"overall": 0.30, "general": 0.30, "character": 0.75},
    },
)

JOYTAG = Published(
    title="JoyTag",
    repository="fancyfeast/joytag",
    licence="Apache-2.0",
    files=(("model.onnx",), ("top_tags.txt",)),
    descriptor={
        "input": {
            "layout": "NCHW",
            "channels": "RGB",
            "scale": 1,
            "size": 448,
            "geometry": "square",
            "filter": "bicubic",
            "pad_color": [255, 255, 255],
            "alpha": "drop",
            **CLIP,
        },
        "output": {"index": 0, "activation": "sigmoid"},
        "vocabulary": {"file": "top_tags.txt", "format": "lines"},
        "exclusive_categories": [],
        "thresholds": {"overall": 0.40},
    },
)


@dataclass(frozen=True)
class Offer:
    """One tagger that can be had by name: its words for `python -m tagger import`, and what people read."""

    key: str
    kind: str
    repository: str
    title: str
    stages: str = "full"
    licence: str = ""


def offers() -> list[Offer]:
    """Everything that can be downloaded; a key is good as a release's name, too."""
    wd = {
        "vit": "ViT",
        "swinv2": "SwinV2",
        "convnext": "ConvNeXt",
        "vit-large": "ViT large",
        "eva02-large": "EVA02 large",
    }
    return [
        Offer("camie-v1", "camie-v1", CAMIE_V1.repository, CAMIE_V1.title, "full", CAMIE_V1.licence),
        Offer(
            "camie-v1-initial",
            "camie-v1",
            CAMIE_V1.repository,
            f"{CAMIE_V1.title}, initial stage only",
            "initial",
            CAMIE_V1.licence,
        ),
        Offer("camie-v2", "camie-v2", CAMIE_V2.repository, CAMIE_V2.title, licence=CAMIE_V2.licence),
        *(
            Offer(
                f"wd-{name}-v3",
                "wd-v3",
                f"SmilingWolf/wd-{name}-tagger-v3",
                f"WD {title} Tagger v3",
                licence=WD_V3.licence,
            )
            for name, title in wd.items()
        ),
        Offer("pixai-v0.9", "pixai-v0.9", PIXAI_V0_9.repository, PIXAI_V0_9.title, licence=PIXAI_V0_9.licence),
        Offer("joytag", "joytag", JOYTAG.repository, JOYTAG.title, licence=JOYTAG.licence),
    ]


PUBLISHED = {
    "camie-v1": CAMIE_V1,
    "camie-v2": CAMIE_V2,
    "wd-v3": WD_V3,
    "pixai-v0.9": PIXAI_V0_9,
    "joytag": JOYTAG,
}
