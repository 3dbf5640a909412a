"""Which cells of a split were met and missed, picture by picture, and how sure the split's numbers are.

Only cells that matter are kept: those whose truth is yes, and those whose confidence reaches the lowest threshold that
is ever chosen. A picture of a booru has about a hundred, whatever the vocabulary's size.

Intervals are the middle 95 % over bootstrap samples of whole units: pictures that show one subject are drawn together,
since they are likely to be right or wrong together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.scoring import scores

SAMPLES = 400
MIDDLE = (2.5, 97.5)
Interval = tuple[float, float]
Groups = Mapping[str, np.ndarray]  # name, indices of its tags


class Cells:
    """The cells of one stage that matter, in the order of the split's rows; thresholds are bins of scores.GRID."""

    def __init__(self, tags: int) -> None:
        self.tags, self.rows = tags, 0
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, confidences: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """float32, bool, bool, each [B, tags]; rows follow those added before."""
        bins = scores.bin_of(confidences)
        row, tag = np.nonzero(known & (truth | (bins >= scores.LOWEST_BIN)))
        rows, tags = (row + self.rows).astype(np.int32), tag.astype(np.int32)
        self._parts.append((rows, tags, bins[row, tag].astype(np.uint8), truth[row, tag]))
        self.rows += len(confidences)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Row, tag, bin and truth of every cell."""
        if len(self._parts) != 1:
            kinds = (np.int32, np.int32, np.uint8, bool)
            columns = zip(*self._parts, strict=True) if self._parts else [()] * 4
            row, tag, bins, truth = (
                np.concatenate([np.zeros(0, kind), *column]) for kind, column in zip(kinds, columns, strict=True)
            )
            self._parts = [(row, tag, bins, truth)]
        return self._parts[0]

    def at(self, bins: np.ndarray) -> "Outcomes":
        """What a threshold for each tag, int [tags], makes of the cells."""
        row, tag, bin_, truth = self.arrays()
        on = bin_ >= bins[tag]
        return Outcomes(self.tags, self.rows, row, tag, on & truth, on & ~truth, truth)


@dataclass(frozen=True)
class Outcomes:
    """Cells at chosen thresholds: row and tag of each, and whether it is a true positive, a false one, a positive."""

    tags: int
    rows: int
    row: np.ndarray
    tag: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    truth: np.ndarray

    def counts(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True positives, false positives and positives of each tag; `weights` says how often each row counts."""
        of = weights[self.row] if weights is not None else np.ones(len(self.row))
        return tuple(np.bincount(self.tag, of * kind, self.tags) for kind in (self.right, self.wrong, self.truth))


def units_of(names: Sequence[str]) -> np.ndarray:
    """The number of each row's unit; a row without a name is a unit of its own."""
    named = [name or f"\0{index}" for index, name in enumerate(names)]
    return np.unique(named, return_inverse=True)[1] if named else np.zeros(0, dtype=np.int64)


def draws(units: np.ndarray, samples: int, seed: int = 0) -> "list[np.ndarray]":
    """How often each row is drawn, float [rows], for each sample of as many units as there are."""
    count = int(units.max()) + 1 if len(units) else 0
    generator = np.random.default_rng(seed)
    return [np.bincount(generator.integers(count, size=count), minlength=count)[units] * 1.0 for _ in range(samples)]


def sampled(outcomes: Outcomes, groups: Groups, weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Micro and macro F1 of each group in each sample, float [samples, 2]."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in groups}
    for one in weights:
        right, wrong, positives = outcomes.counts(one)
        for name, tags in groups.items():
            measured = scores.measures(right[tags], wrong[tags], positives[tags])
            found[name].append((measured["micro_f1"], measured["macro_f1"]))
    return {name: np.array(values).reshape(-1, 2) for name, values in found.items()}


def interval(values: np.ndarray) -> Interval:
    low, high = np.percentile(values, MIDDLE) if len(values) else (0.0, 0.0)
    return round(float(low), 4), round(float(high), 4)


def intervals(
    outcomes: Outcomes, groups: Groups, units: np.ndarray, samples: int = SAMPLES
) -> dict[str, dict[str, Interval]]:
    """For each group with any positives the 95 % intervals of micro and macro F1."""
    positives = outcomes.counts()[2]
    having = {name: tags for name, tags in groups.items() if positives[tags].any()}
    found = sampled(outcomes, having, draws(units, samples))
    return {
        name: {"micro_f1": interval(values[:, 0]), "macro_f1": interval(values[:, 1])} for name, values in found.items()
    }


def differences(
    before: Outcomes, after: Outcomes, groups: Groups, units: np.ndarray, samples: int = SAMPLES
) -> dict[str, dict[str, Interval]]:
    """Intervals of after minus before, each sample drawn once for both: narrower than the two apart."""
    weights = draws(units, samples)
    first, second = sampled(before, groups, weights), sampled(after, groups, weights)
    return {
        name: {
            "micro_f1": interval(second[name][:, 0] - first[name][:, 0]),
            "macro_f1": interval(second[name][:, 1] - first[name][:, 1]),
        }
        for name in groups
    }
