"""One split of a dataset judged in a single pass: every count that the report of a run or a release needs."""

from typing import Any

import numpy as np
import torch

from tagger.vocabulary import Vocabulary
from training.feeding.feed import Feed, chunks
from training.network import TrainedTagger
from training.scoring import calibration, outcomes, scores
from training.scoring.calibration import LogitCounts
from training.scoring.outcomes import Cells
from training.scoring.scores import Histogram
from training.scoring.selection import Selection

HEADLINE = "micro_opt"  # the mode whose numbers stand for the whole: each category at its best threshold


class Judged:
    """One stage's scores of one split."""

    def __init__(self, tags: int) -> None:
        self.histogram, self.cells, self.logits = Histogram(tags), Cells(tags), LogitCounts(tags)

    def add(self, logits: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """float32, bool, bool, each [B, tags]."""
        confidences = torch.sigmoid(torch.from_numpy(logits)).numpy()
        self.histogram.add(confidences, truth, known)
        self.cells.add(confidences, truth, known)
        self.logits.add(logits, truth, known)


class JudgedSplit:
    """Both stages of one split, and what the first selected for the second."""

    def __init__(self, pictures: int, groups: list[str]) -> None:
        self.pictures, self.units = pictures, outcomes.units_of(groups)
        self.stages: dict[str, Judged] = {}
        self.selection: Selection | None = None

    @property
    def last(self) -> Judged:
        return self.stages["refined" if "refined" in self.stages else "initial"]

    def histograms(self) -> dict[str, Histogram]:
        return {stage: judged.histogram for stage, judged in self.stages.items()}


@torch.no_grad()
def logits(network: TrainedTagger, feed: Feed, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Both stages' logits for some rows, float32 [B, tags]; one stage for an initial-only tagger."""
    network.eval()
    dtype = network.tagger.temperature.dtype
    initial, refined = network(feed.plain(rows).to(dtype), feed.early)
    found = {"initial": initial} | ({} if refined is initial else {"refined": refined})
    return {stage: values.float().cpu().numpy() for stage, values in found.items()}


def judge(network: TrainedTagger, feed: Feed) -> JudgedSplit:
    part = feed.part
    split = JudgedSplit(len(part), [row["group"] for row in part.rows])
    for rows in chunks(len(part), feed.judged_at_once):
        found = logits(network, feed, rows)
        truth, known = part.targets.known(rows)  # after the pictures: those that cannot be read are known by then
        for stage, values in found.items():
            split.stages.setdefault(stage, Judged(values.shape[1])).add(values, truth, known)
        if "refined" in found:
            tags = truth.shape[1]
            split.selection = split.selection or Selection(tags, network.tagger.architecture.tag_context_size)
            split.selection.add(torch.sigmoid(torch.from_numpy(found["initial"])).numpy(), truth, known)
    return split


def report(split: JudgedSplit, vocabulary: Vocabulary, thresholds: dict[str, Any]) -> dict[str, Any]:
    """What metrics.json says of a split: stage, mode, group; then intervals, average precision and selection."""
    groups, last = scores.groups(vocabulary), last_stage(thresholds)
    found = {"pictures": split.pictures, **scores.report(split.histograms(), vocabulary, thresholds)}
    bins = scores.threshold_bins(vocabulary, last, HEADLINE)
    found["intervals"] = outcomes.intervals(split.last.cells.at(bins), groups, split.units)
    precision = calibration.average_precision(split.last.logits)
    found["average_precision"] = {
        group: round(float(np.nanmean(precision[tags])), 4)
        for group, tags in groups.items()
        if np.isfinite(precision[tags]).any()
    }
    if split.selection:
        found["selection"] = split.selection.numbers()
    return found


def last_stage(values: dict[str, Any]) -> Any:
    return values["refined"] if "refined" in values else values["initial"]
