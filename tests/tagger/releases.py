"""Small releases with random weights, made in a moment: their tags mean nothing, all else is real."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tagger import release
from tagger.model import Architecture, CamieTagger
from tagger.release import ReleaseFolder
from tagger.thresholds import MODES
from tagger.vocabulary import Vocabulary

TAGS = [
    *((f"year_{year}", "year") for year in (2020, 2021)),
    *((f"rating_{name}", "rating") for name in ("general", "sensitive", "questionable", "explicit")),
    *((f"thing_{number}", "general") for number in range(20)),
    *((f"painter_{number}", "artist") for number in range(3)),
    *((f"person_{number}", "character") for number in range(4)),
    ("some_show", "copyright"),
    ("monochrome", "meta"),
]


def vocabulary() -> Vocabulary:
    return Vocabulary([name for name, _ in TAGS], [category for _, category in TAGS], list(range(1, len(TAGS) + 1)))


def architecture(**changes: Any) -> Architecture:
    widths = {"embedding_size": 32, "initial_hidden": 48, "cross_hidden": 40, "refined_hidden": 56, "heads": 4}
    settings = {"tag_count": len(TAGS), "backbone": "efficientnet_tiny", "tag_context_size": 8, **widths}
    return Architecture(**{**settings, **changes})


def model(seed: int = 0, **changes: Any) -> CamieTagger:
    """A model whose scores spread widely and differ from picture to picture, so that thresholds have work to do."""
    torch.manual_seed(seed)
    tagger = CamieTagger(architecture(**changes))
    with torch.no_grad():
        for parameter in tagger.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=2 / parameter.shape[1] ** 0.5)
        measure_norms(tagger)
    return tagger.eval()


def measure_norms(tagger: CamieTagger) -> None:
    """Sets the batch norms' statistics from coloured noise; untouched, they let random features die out."""
    for module in tagger.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    colours = torch.rand(16, 3, 1, 1)
    tagger.train().features(colours + torch.rand(16, 3, 64, 64) - 0.5)


def thresholds() -> dict[str, Any]:
    values = {mode: 0.30 + 0.05 * place for place, mode in enumerate(MODES)}
    modes = {mode: {"threshold": value, "micro_f1": 0.5, "macro_f1": 0.4} for mode, value in values.items()}
    general = {"balanced": {"threshold": 0.42}, "high_precision": {"threshold": 0.9}}
    return {stage: copy.deepcopy({"overall": modes, "general": general}) for stage in ("initial", "refined")}


def write(folder: Path, seed: int = 0, config: dict[str, Any] | None = None, **changes: Any) -> ReleaseFolder:
    """A whole release folder; `changes` go to the architecture, `config` into config.json."""
    tagger = model(seed, **changes)
    full = {
        "name": folder.name,
        "title": f"{folder.name} (random)",
        "licence": "CC0-1.0",
        "architecture": tagger.architecture.to_config(),
        "preprocess": {"size": 64, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        **(config or {}),
    }
    return release.write(
        folder,
        config=full,
        weights=tagger.state_dict(),
        vocabulary=vocabulary(),
        thresholds=thresholds(),
        metrics={"refined": {"micro_f1": 0.5}},
        card="# Random\n",
    )
