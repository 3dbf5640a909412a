"""What a run must beat, measured on the same splits with the same vocabulary.

    python -m training.baselines DATASET --run RUN    (writes RUN/baselines.json)

frequency: each tag's share of the training pictures, for every picture. pixels: the tags of the nearest training
picture on 16 x 16 pixels. neighbours and linear: the five nearest, and a linear layer, on what ImageNet's Lite0 makes
of a picture. Thresholds, where there are any, are one for each category, chosen on the validation split.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tagger.backbone import build_backbone, load_lite0_pretrained
from tagger.vocabulary import Vocabulary
from training import evaluation
from training.feeding.feed import chunks
from training.feeding.material import Material, Part
from training.network import Normalise, folded
from training.run import RunFolder
from training.scoring import scores
from training.scoring.judging import HEADLINE
from training.scoring.scores import Histogram

SIDE = 16
NEIGHBOURS = 5
LINEAR_EPOCHS = 30
Confidences = Callable[[Part, np.ndarray], np.ndarray]  # part, rows -> float32 [B, tags]


def yes(part: Part, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(part.targets.known(rows)[0]).float()


def frequency(material: Material) -> Confidences:
    train = material.train
    share = sum(yes(train, rows).sum(dim=0) for rows in chunks(len(train))) / len(train)
    return lambda part, rows: share.expand(len(rows), -1).numpy()


def small(part: Part, rows: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(part.pixels(rows)).permute(0, 3, 1, 2).float()
    return F.adaptive_avg_pool2d(pixels, SIDE).flatten(1)


def nearest(material: Material, describe: Callable[[Part, np.ndarray], Tensor], count: int) -> Confidences:
    """The mean of the tags of the nearest training pictures."""
    train = material.train
    known = torch.cat([describe(train, rows) for rows in chunks(len(train))])

    def vote(part: Part, rows: np.ndarray) -> np.ndarray:
        found = torch.cdist(describe(part, rows), known).topk(min(count, len(known)), largest=False).indices
        votes = [yes(train, column.numpy()) for column in found.T]
        return torch.stack(votes).mean(dim=0).numpy()

    return vote


class Frozen:
    """ImageNet's Lite0 as it is: 1,280 numbers of a picture, kept for each part once made."""

    def __init__(self, material: Material) -> None:
        backbone = build_backbone("efficientnet_lite0")
        load_lite0_pretrained(backbone)
        self.network = folded(backbone.features)
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3
        self.normalise = Normalise(mean, std, torch.device("cpu"))
        self.made: dict[str, Tensor] = {}

    @torch.inference_mode()
    def __call__(self, part: Part, rows: np.ndarray) -> Tensor:
        if part.name not in self.made:
            self.made[part.name] = torch.cat([self.make(part, some) for some in chunks(len(part), 64)])
        return self.made[part.name][torch.from_numpy(rows)]

    def make(self, part: Part, rows: np.ndarray) -> Tensor:
        unit = self.normalise.unit(torch.from_numpy(part.pixels(rows)))
        return F.normalize(self.network(self.normalise(unit)).mean(dim=(2, 3)), dim=1)


def linear(material: Material, frozen: Frozen) -> Confidences:
    train = material.train
    torch.manual_seed(0)
    layer = nn.Linear(1280, len(material.vocabulary))
    nn.init.constant_(layer.bias, -4.0)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, LINEAR_EPOCHS)
    features = frozen(train, np.arange(len(train))).clone() * 30  # unit vectors would need huge weights
    for epoch in range(LINEAR_EPOCHS):
        order = np.random.default_rng([0, epoch]).permutation(len(train))
        for rows in (order[i : i + 256] for i in range(0, len(order), 256)):
            truth, known = (torch.from_numpy(a).float() for a in train.targets.known(rows))
            loss = F.binary_cross_entropy_with_logits(layer(features[torch.from_numpy(rows)]), truth, weight=known)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return lambda part, rows: torch.sigmoid(layer(frozen(part, rows).clone() * 30)).detach().numpy()


def judge(material: Material, confidences: Confidences, chooses: bool = True) -> dict[str, Any]:
    """Each split's overall and category numbers; without a choice, 0.5 cuts votes of a single neighbour."""
    counted: dict[str, Histogram] = {}
    for name, part in material.parts.items():
        if name == "train":
            continue
        counted[name] = Histogram(len(material.vocabulary))
        for rows in chunks(len(part)):
            counted[name].add(confidences(part, rows), *part.targets.known(rows))
    thresholds = best(counted.get("validation"), material.vocabulary) if chooses else {}
    thresholds = thresholds or {"overall": {HEADLINE: {"threshold": 0.5}}}
    return {
        name: scores.at_thresholds(histogram, material.vocabulary, thresholds, HEADLINE)
        for name, histogram in counted.items()
    }


def best(histogram: Histogram | None, vocabulary: Vocabulary) -> dict[str, Any]:
    """Each category's best threshold over the whole scale: frequencies are low."""
    if histogram is None:
        return {}
    found = {}
    for group, tags in scores.groups(vocabulary).items():
        index = int(scores.Curves(histogram, tags).micro[1][1:].argmax()) + 1
        found[group] = {HEADLINE: {"threshold": float(scores.GRID[index])}}
    return found


def measure(material: Material, run: RunFolder) -> dict[str, Any]:
    found = {}
    run.say("baseline: tag frequency")
    found["tag frequency"] = judge(material, frequency(material))
    run.say("baseline: nearest picture by pixels")
    found["1-NN on 16x16 pixels"] = judge(material, nearest(material, small, 1), chooses=False)
    run.say("baseline: frozen ImageNet features")
    frozen = Frozen(material)
    found["5-NN on frozen features"] = judge(material, nearest(material, frozen, NEIGHBOURS))
    run.say("baseline: a linear layer on frozen features")
    found["linear on frozen features"] = judge(material, linear(material, frozen))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.baselines", description="Measure what a run must beat.")
    parser.add_argument("dataset", type=Path, help="the dataset folder")
    parser.add_argument("--run", required=True, type=Path, help="the run whose tags, sizes and cache are used")
    chosen = parser.parse_args(arguments)
    try:
        run, _, material = evaluation.open_run(chosen.run, chosen.dataset, trained=False)
        found = measure(material, run)
    except (ValueError, OSError) as error:
        print(f"baselines: {error}", file=sys.stderr)
        return 1
    run.write_json("baselines.json", found)
    for name, splits in found.items():
        for split, groups in splits.items():
            numbers = groups["overall"]
            print(f"{name}, {split}: micro F1 {numbers['micro_f1']:.3f}, macro F1 {numbers['macro_f1']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
