"""What a run says of itself while it goes: the validation split after an epoch, and samples of pictures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagger.vocabulary import Vocabulary
from training.config import Recipe
from training.engine import Engine
from training.feeding.feed import Feed, chunks
from training.feeding.material import Material
from training.losses import UnifiedFocalLoss, stages
from training.network import TrainedTagger
from training.scoring import scores
from training.scoring.judging import HEADLINE
from training.scoring.scores import Histogram
from training.scoring.tally import Selection, Tally

SAMPLES = 16
MD5 = re.compile(r"[0-9a-f]{32}")
LIKELIEST = 40  # tags of each stage that a sample shows


@dataclass(frozen=True)
class Validation:
    """`numbers` is a line of metrics.jsonl, `samples` a file of samples and its pictures by name."""

    numbers: dict[str, Any]
    samples: dict[str, Any]
    pictures: dict[str, np.ndarray]

    @property
    def sentence(self) -> str:
        shown = {name: value for name, value in self.numbers.items() if name.endswith(("_f1", "loss"))}
        return "  ".join(f"{name} {value:.4f}" for name, value in sorted(shown.items()))


class Judge:
    """Validates one network of a run; several processes share the split."""

    def __init__(self, recipe: Recipe, material: Material, engine: Engine, feed: Feed, loss: UnifiedFocalLoss) -> None:
        self.material, self.engine, self.feed, self.loss = material, engine, feed, loss
        self.soft_weight = recipe.loss.soft_weight

    @torch.no_grad()  # no inference mode: weights that ZeRO's stage 3 gathers in it could not be learned with again
    def __call__(self, network: TrainedTagger) -> Validation:
        network.eval()
        vocabulary, device = self.material.vocabulary, self.engine.device
        names = network.stage_names
        tally, selection = Tally(vocabulary, names, device), Selection(len(vocabulary), device)
        counted = {stage: Histogram(len(vocabulary)) for stage in names}
        batches, own = shares(len(self.feed.part), self.feed.judged_at_once, self.engine.rank, self.engine.world_size)
        if not self.feed.early:
            self.feed.part.expect(iter(batches), depth=2)
        for number, rows in enumerate(batches):
            logits, targets, weights = self.batch(network, rows)
            if number >= own:
                continue
            tally.add_losses(self.loss(*pair(logits), targets, weights), weights.sum().double())
            tally.add_cells(self.loss.seen)
            if "refined" in logits:
                selection.add(network.tagger.context(logits["initial"]), logits, targets, weights)
            for stage, values in logits.items():
                counted[stage].add(*known(values, targets, weights))
        shown = self.batch(network, rows := np.arange(min(SAMPLES, len(self.feed.part))))
        return self.summary(tally, selection, counted, sample(network, self.feed, rows, *shown, vocabulary))

    def batch(self, network: TrainedTagger, rows: np.ndarray) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Logits by stage, targets and weights of some rows."""
        inputs = self.feed.plain(rows).to(self.engine.dtype)
        targets, weights = self.feed.part.targets.batch(rows, self.soft_weight)
        logits = stages(*network(inputs, self.feed.early))
        return logits, *(torch.from_numpy(values).to(self.engine.device) for values in (targets, weights))

    def summary(
        self, tally: Tally, selection: Selection, counted: Mapping[str, Histogram], shown: Sequence[dict[str, Any]]
    ) -> Validation:
        numbers: dict[str, Any] = tally.means(self.engine.total)
        thresholds = {}
        for stage, histogram in counted.items():
            histogram.yes, histogram.no = (self.engine.total_array(part) for part in (histogram.yes, histogram.no))
            chosen = scores.choose(histogram, self.material.vocabulary)
            at = scores.at_thresholds(histogram, self.material.vocabulary, chosen, HEADLINE)
            measures = {"micro_f1": at["overall"]["micro_f1"], "macro_f1": at["overall"]["macro_f1"]}
            numbers |= measures | {f"{stage}_{name}": value for name, value in measures.items()}
            if "general" in at:
                numbers["general_micro_f1"] = at["general"]["micro_f1"]
            thresholds[stage] = {group: modes[HEADLINE]["threshold"] for group, modes in chosen.items()}
        numbers |= {"cells": tally.cell_means(self.engine.total), "selection": selection.numbers(self.engine.total)}
        pictures = {one["picture"]: one.pop("pixels") for one in shown}
        return Validation(numbers, {"kind": "validation", "thresholds": thresholds, "samples": list(shown)}, pictures)


def shares(rows: int, size: int, rank: int, processes: int) -> tuple[list[np.ndarray], int]:
    """A process's batches, and how many of them count.

    All take equally many, as with ZeRO's stage 3 they gather weights in each: who has one too few takes the first
    batch of all once more, and its outcome counts there alone.
    """
    every = list(chunks(rows, size))
    own = every[rank::processes]
    most = -(-len(every) // processes)
    return own + every[:1] * (most - len(own)), len(own)


def pair(logits: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    return logits["initial"], logits.get("refined", logits["initial"])


def known(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences, truth and whether it is known, as a Histogram takes them."""
    return torch.sigmoid(logits.float()).cpu().numpy(), (targets > 0.5).cpu().numpy(), (weights >= 1).cpu().numpy()


@torch.no_grad()
def sample(
    network: TrainedTagger,
    feed: Feed,
    rows: np.ndarray,
    logits: Mapping[str, Tensor],
    targets: Tensor,
    weights: Tensor,
    vocabulary: Vocabulary,
    name: str = "",
) -> list[dict[str, Any]]:
    """Samples of some rows whose logits are known; `pixels` is taken out before they are written.

    A picture is called by its md5, or by `name` and its place: training pictures come and go under a step's name.
    """
    contexts = network.tagger.context(logits["initial"]).cpu().numpy() if "refined" in logits else [None] * len(rows)
    pixels = feed.part.pixels(rows)
    found = {stage: torch.sigmoid(values.float()).cpu().numpy() for stage, values in logits.items()}
    truth = np.where((weights >= 1).cpu().numpy(), (targets > 0.5).cpu().numpy(), -1)
    made = []
    for place, row in enumerate(rows):
        md5 = feed.part.rows[row]["md5"]
        one = {stage: values[place] for stage, values in found.items()}
        context = contexts[place]
        made.append(
            {
                "md5": md5,
                "picture": f"pictures/{f'{name}-{place}' if name else file_stem(md5, row)}.jpg",
                "true": [vocabulary.names[tag] for tag in np.flatnonzero(truth[place] == 1)],
                "predicted": columns(shown_tags(one, truth[place]), one, truth[place], vocabulary),
                "selected": None if context is None else columns(context, one, truth[place], vocabulary),
                "pixels": pixels[place],
            }
        )
    return made


def file_stem(md5: str, row: int) -> str:
    """A dataset may come from anybody, and say anything for an md5: ../ would lead out of the run folder."""
    return md5 if MD5.fullmatch(md5) else f"row-{row}"


def shown_tags(found: Mapping[str, np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Every true tag and the likeliest of each stage, likeliest of the last stage first."""
    likeliest = [np.argsort(-values, kind="stable")[:LIKELIEST] for values in found.values()]
    tags = np.unique(np.concatenate([np.flatnonzero(truth == 1), *likeliest]))
    return tags[np.argsort(-list(found.values())[-1][tags], kind="stable")]


def columns(
    tags: np.ndarray, found: Mapping[str, np.ndarray], truth: np.ndarray, vocabulary: Vocabulary
) -> dict[str, list[Any]]:
    confidences = {stage: [round(float(value), 4) for value in values[tags]] for stage, values in found.items()}
    return {
        "tags": [vocabulary.names[tag] for tag in tags],
        "categories": [vocabulary.categories[tag] for tag in tags],
        **confidences,
        "truth": [None if value < 0 else int(value) for value in truth[tags]],
    }
