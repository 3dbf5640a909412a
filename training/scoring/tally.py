"""What the pictures of some steps or of a split add up to: losses, F1 of each stage, cells, and the tags selected."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagger.vocabulary import CATEGORIES, Vocabulary
from training.losses import NEGATIVE, POSITIVE, Statistics
from training.scoring import scores

BINS = 20  # thresholds 0, 0.05 ... 0.95
SUMS = ("loss", "loss_initial", "loss_refined")
Total = Callable[[Tensor], Tensor]  # adds a tensor up over all processes


class Tally:
    """Adds batches up on the network's device; `line` makes numbers of them, for the run folder."""

    def __init__(self, vocabulary: Vocabulary, stages: Sequence[str], device: torch.device) -> None:
        self.vocabulary, self.stages, self.device = vocabulary, stages, device
        self.clear()

    def clear(self) -> None:
        tags, categories = len(self.vocabulary), int(self.vocabulary.category_codes.max()) + 1
        self.losses = torch.zeros(len(SUMS) + 1, dtype=torch.float64, device=self.device)  # and the batches' weight
        self.cells = {
            stage: torch.zeros(3, categories, 2, dtype=torch.float64, device=self.device) for stage in self.stages
        }
        self.bins = {stage: torch.zeros(tags, 2, BINS, dtype=torch.int64, device=self.device) for stage in self.stages}

    def add_losses(self, values: tuple[Tensor, Tensor, Tensor], weight: Tensor | float = 1.0) -> None:
        """`weight` is that of the batch's mean: one for each batch, or its cells' where batches differ in them."""
        self.losses[: len(SUMS)] += torch.stack([value.detach().double() for value in values]) * weight
        self.losses[-1] += weight

    def add_cells(self, seen: Mapping[str, Statistics]) -> None:
        """The loss's Statistics, summed over pictures: [3, categories, 2] for a stage."""
        for stage, found in seen.items():
            sums = torch.stack([found.loss.sum(0), found.confidence.sum(0), found.cells.sum(0)]).double()
            self.cells[stage] += sums

    @torch.no_grad()
    def add_scores(self, logits: Mapping[str, Tensor], targets: Tensor, weights: Tensor) -> None:
        """Counts known cells by tag, truth and confidence, [tags, 2, BINS] for a stage."""
        tags = len(self.vocabulary)
        known, truth = weights >= 1, (targets > 0.5).long()
        places = (torch.arange(tags, device=self.device) * 2 + truth) * BINS
        for stage, values in logits.items():
            bins = (torch.sigmoid(values.float()) * BINS).long().clamp_(0, BINS - 1)
            self.bins[stage] += torch.bincount((places + bins)[known], minlength=tags * 2 * BINS).view(tags, 2, BINS)

    def state(self, total: Total) -> dict[str, Any]:
        """Of all processes together."""
        cells, bins = ({k: total(v.clone()) for k, v in kept.items()} for kept in (self.cells, self.bins))
        return {"losses": total(self.losses.clone()), "cells": cells, "bins": bins}

    def load(self, state: Mapping[str, Any]) -> None:
        self.losses = state["losses"].to(self.device)
        self.cells = {stage: value.to(self.device) for stage, value in state["cells"].items()}
        self.bins = {stage: value.to(self.device) for stage, value in state["bins"].items()}

    # numbers

    def means(self, total: Total) -> dict[str, float]:
        *sums, weight = total(self.losses.clone()).tolist()
        return {name: round(value / (weight or 1), 7) for name, value in zip(SUMS, sums, strict=True)}

    def cell_means(self, total: Total) -> dict[str, Any]:
        """Mean loss and confidence of positive and negative cells: stage, category, sign."""
        return {stage: by_category(total(sums.clone()).cpu().numpy()) for stage, sums in self.cells.items()}

    def f1(self, total: Total) -> dict[str, Any]:
        """Micro and macro F1 of each stage, each category at its best threshold of BINS, and those thresholds."""
        found: dict[str, Any] = {}
        thresholds: dict[str, dict[str, float]] = {}
        for stage, counted in self.bins.items():
            counts = total(counted.clone()).cpu().numpy()
            micro, macro, thresholds[stage] = best_f1(counts, self.vocabulary)
            found |= {f"{stage}_micro_f1": micro, f"{stage}_macro_f1": macro, "micro_f1": micro, "macro_f1": macro}
        return found | {"thresholds": thresholds}


def by_category(sums: np.ndarray) -> dict[str, Any]:
    """[3, categories, 2] of loss, confidence and cell sums to means, overall and by category that has cells."""
    groups = {"overall": sums.sum(axis=1)} | {CATEGORIES[c]: sums[:, c] for c in range(sums.shape[1])}
    return {name: {"positive": sign_means(g[:, POSITIVE]), "negative": sign_means(g[:, NEGATIVE])}
            for name, g in groups.items() if g[2].any()}  # fmt: skip


def sign_means(sums: np.ndarray) -> dict[str, float]:
    loss, confidence, cells = (float(value) for value in sums)
    return {
        "loss": float(f"{loss / max(cells, 1):.4g}"),
        "confidence": round(confidence / max(cells, 1), 4),
        "cells": int(cells),
    }


def best_f1(counts: np.ndarray, vocabulary: Vocabulary) -> tuple[float, float, dict[str, float]]:
    """From [tags, 2, BINS] (no, yes): micro and macro F1 with each category at its own best threshold, and those."""
    reaching = counts[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    false, true = reaching[:, 0], reaching[:, 1]
    positives = true[:, 0]
    chosen = np.zeros(len(vocabulary), dtype=np.int64)
    thresholds: dict[str, float] = {}
    for group, tags in scores.groups(vocabulary).items():
        t, f, p = true[tags].sum(axis=0), false[tags].sum(axis=0), positives[tags].sum()
        best = int(scores.f_score(t, f, p)[1:].argmax()) + 1
        thresholds[group] = best / BINS
        chosen[tags] = best
    at = scores.measures(*(np.take_along_axis(c, chosen[:, None], axis=1)[:, 0] for c in (true, false)), positives)
    return at["micro_f1"], at["macro_f1"], thresholds


class Selection:
    """What the first stage selected for the second, summed over pictures. See `training/run.py` for the words."""

    def __init__(self, tags: int, device: torch.device) -> None:
        self.used = torch.zeros(tags, dtype=torch.bool, device=device)
        # pictures, selected, true tags, true tags selected, others selected, then confidences of both, for each stage
        self.sums = torch.zeros(9, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, context: Tensor, logits: Mapping[str, Tensor], targets: Tensor, weights: Tensor) -> None:
        """`context` [B, K] are the indices of the selected tags."""
        known, yes = weights >= 1, (targets > 0.5) & (weights >= 1)
        true = yes.gather(1, context)
        other = known.gather(1, context) & ~true
        self.used[context.flatten()] = True
        counts = [len(context), context.numel(), yes.sum(), true.sum(), other.sum()]
        values = [torch.as_tensor(value, dtype=torch.float64, device=self.sums.device) for value in counts]
        for stage in ("initial", "refined"):
            confidence = torch.sigmoid(logits[stage].float()).gather(1, context)
            values += [(confidence * true).sum().double(), (confidence * other).sum().double()]
        self.sums += torch.stack(values)

    def numbers(self, total: Total) -> dict[str, Any] | None:
        sums = total(self.sums.clone()).tolist()
        used = total(self.used.double())
        pictures, selected, truth, true, other = sums[:5]
        if not pictures:
            return None
        means = [round(value / max(of, 1), 4) for value, of in zip(sums[5:], (true, other) * 2, strict=True)]
        return {
            "selected": round(selected / pictures),
            "recall": round(true / max(truth, 1), 4),
            "mean_true": {"initial": means[0], "refined": means[2]},
            "mean_other": {"initial": means[1], "refined": means[3]},
            "unique_tags": int((used > 0).sum()),
            "pictures": int(pictures),
        }
