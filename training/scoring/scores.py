"""How good scores are at every threshold at once, and which thresholds to choose.

Confidences are counted into bins of 0.005, apart for cells whose truth is yes and no, so a split of any size is one
pass and every number below is a suffix sum. Cells whose truth is unknown are not counted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tagger.thresholds import MODES
from tagger.vocabulary import CATEGORIES, Vocabulary

BINS = 200
GRID = np.arange(BINS) / BINS  # thresholds; bin b holds confidences from GRID[b] up
LOWEST, HIGHEST = 0.1, 0.9  # thresholds are chosen between: below the usual score floor nothing is stored
LOWEST_BIN = round(LOWEST * BINS)
FEWEST_POSITIVES = 20  # a category with fewer in validation takes the overall threshold


def bin_of(confidences: np.ndarray) -> np.ndarray:
    """A hair up, so that a confidence equal to a threshold in float32 counts as reaching it."""
    return np.clip(((confidences.astype(np.float64) + 1e-7) * BINS).astype(np.int64), 0, BINS - 1)


class Histogram:
    """Known cells of each tag by confidence: `yes` and `no`, int64 [tags, BINS]."""

    def __init__(self, tags: int) -> None:
        self.yes = np.zeros((tags, BINS), dtype=np.int64)
        self.no = np.zeros((tags, BINS), dtype=np.int64)

    def add(self, confidences: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """float32, bool, bool, each [B, tags]."""
        tags = self.yes.shape[0]
        flat = bin_of(confidences) + np.arange(tags) * BINS
        for counts, cells in ((self.yes, known & truth), (self.no, known & ~truth)):
            counts += np.bincount(flat[cells], minlength=tags * BINS).reshape(tags, BINS)

    def at_least(self) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives at each threshold of GRID, [tags, BINS] each."""
        return tuple(counts[:, ::-1].cumsum(axis=1)[:, ::-1] for counts in (self.yes, self.no))

    def positives(self) -> np.ndarray:
        return self.yes.sum(axis=1)


def f_score(true: np.ndarray, false: np.ndarray, positives: np.ndarray, beta: float = 1.0) -> np.ndarray:
    """F of beta from counts; 0 where nothing is right."""
    b = beta**2
    return (1 + b) * true / np.maximum((1 + b) * true + b * (positives - true) + false, 1)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)


class Curves:
    """Every measure of a set of tags at each threshold of GRID, arrays [BINS]."""

    def __init__(self, histogram: Histogram, tags: np.ndarray) -> None:
        true, false = (counts[tags] for counts in histogram.at_least())
        positives = histogram.positives()[tags]
        self.positives = int(positives.sum())
        self.tags = int((positives > 0).sum())
        total_true, total_false = true.sum(axis=0), false.sum(axis=0)
        self.precision = ratio(total_true, total_true + total_false)
        self.recall = ratio(total_true, np.array(self.positives))
        self.micro = {beta: f_score(total_true, total_false, np.array(self.positives), beta) for beta in (0.5, 1, 2)}
        having = positives > 0  # macro is the mean over tags that occur in the split, as the published numbers are
        per_tag = f_score(true[having], false[having], positives[having, None])
        self.macro = per_tag.mean(axis=0) if having.any() else np.zeros(BINS)

    def objective(self, mode: str) -> np.ndarray:
        """What each mode maximises: F of 0.5 and 2 weigh precision and recall; balanced weighs pictures and tags."""
        return {
            "micro_opt": self.micro[1],
            "macro_opt": self.macro,
            "balanced": (self.micro[1] + self.macro) / 2,
            "high_precision": self.micro[0.5],
            "high_recall": self.micro[2],
        }[mode]

    def best(self, mode: str) -> int:
        """The bin of the best threshold; the middle of equally good ones."""
        allowed = (GRID >= LOWEST) & (GRID <= HIGHEST)
        values = np.where(allowed, self.objective(mode), -1.0)
        ties = np.flatnonzero(values >= values.max() - 1e-12)
        return int(ties[len(ties) // 2])

    def at(self, index: int) -> dict[str, float]:
        numbers = {
            "micro_f1": self.micro[1],
            "macro_f1": self.macro,
            "precision": self.precision,
            "recall": self.recall,
        }
        return {name: round(float(values[index]), 4) for name, values in numbers.items()}


def groups(vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """Indices of all tags as "overall", and of each category that has any."""
    having = {category: vocabulary.indices_of(category) for category in CATEGORIES}
    return {"overall": np.arange(len(vocabulary)), **{c: tags for c, tags in having.items() if len(tags)}}


def choose(histogram: Histogram, vocabulary: Vocabulary) -> dict[str, dict[str, dict[str, float]]]:
    """One stage of `thresholds.json`, from the validation split only: group, mode, threshold and what it gives there.

    A category with too few positives to choose by takes the overall threshold.
    """
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    overall: dict[str, int] = {}
    for group, tags in groups(vocabulary).items():
        curves = Curves(histogram, tags)
        enough = group == "overall" or curves.positives >= FEWEST_POSITIVES
        bins = {mode: curves.best(mode) if enough else overall[mode] for mode in MODES}
        overall = overall or bins
        chosen[group] = {
            mode: {"threshold": round(float(GRID[index]), 4), **curves.at(index)} for mode, index in bins.items()
        }
    return chosen


def at_thresholds(
    histogram: Histogram, vocabulary: Vocabulary, thresholds: Mapping[str, Any], mode: str
) -> dict[str, dict[str, float]]:
    """Measures of a split at each category's threshold of a mode: overall and by category, with counts."""
    bins = threshold_bins(vocabulary, thresholds, mode)
    true, false = (np.take_along_axis(c, bins[:, None], axis=1)[:, 0] for c in histogram.at_least())
    positives = histogram.positives()
    return {g: measures(true[tags], false[tags], positives[tags]) for g, tags in groups(vocabulary).items()}


def threshold_bins(vocabulary: Vocabulary, thresholds: Mapping[str, Any], mode: str) -> np.ndarray:
    """The bin of each tag's threshold under one mode of one stage, each category at its own, int [tags]."""
    bins = np.zeros(len(vocabulary), dtype=np.int64)
    for group, tags in groups(vocabulary).items():
        modes = thresholds.get(group) or thresholds["overall"]
        bins[tags] = min(round(modes[mode]["threshold"] * BINS), BINS - 1)
    return bins


def measures(true: np.ndarray, false: np.ndarray, positives: np.ndarray) -> dict[str, float]:
    """From true positives, false positives and positives of each tag."""
    having = positives > 0
    macro = f_score(true[having], false[having], positives[having]).mean() if having.any() else 0.0
    t, f, p = true.sum(), false.sum(), positives.sum()
    return {
        "micro_f1": round(float(f_score(t, f, p)), 4),
        "macro_f1": round(float(macro), 4),
        "precision": round(float(ratio(t, t + f)), 4),
        "recall": round(float(ratio(t, p)), 4),
        "positives": int(p),
        "tags": int(having.sum()),
    }


def report(
    histograms: Mapping[str, Histogram], vocabulary: Vocabulary, thresholds: Mapping[str, Any]
) -> dict[str, Any]:
    """Of one split: stage, then mode, then overall and categories."""
    return {
        stage: {mode: at_thresholds(histogram, vocabulary, thresholds[stage], mode) for mode in MODES}
        for stage, histogram in histograms.items()
        if stage in thresholds
    }
