"""Which pictures an epoch holds, and in which order: the same for the same seed, so a resumed run goes on in it.

Instance-aware repeat factor sampling (IRFS, arXiv:2305.08069) shows pictures of rare tags more often. Of tag c, f_i is
the share of pictures that carry it and f_b its share of all tag instances; its frequency is sqrt(f_i f_b), its repeat
factor max(1, sqrt(t / frequency)), and a picture's factor is the largest of its tags'. An epoch rounds each factor up
or down at random, so that it comes that often on average.
"""

import numpy as np

from training.feeding.targets import Targets


def repeat_factors(targets: Targets, threshold: float) -> np.ndarray:
    """Of each picture, float [rows], at least 1. Only tags that are known to be yes count."""
    rows = len(targets)
    pictures, tags = targets.yes.cells(np.arange(rows))
    counts = np.bincount(tags, minlength=targets.tags)
    by_picture, by_instance = counts / max(rows, 1), counts / max(counts.sum(), 1)
    frequency = np.sqrt(by_picture * by_instance)
    factor = np.maximum(1.0, np.sqrt(threshold / np.maximum(frequency, 1e-12)))
    found = np.ones(rows)
    np.maximum.at(found, pictures, factor[tags])
    return found


class Order:
    """The pictures of each epoch. With factors an epoch is as long as they add up to, rounded."""

    def __init__(self, seed: int, count: int, factors: np.ndarray | None = None) -> None:
        self.seed, self.count, self.factors = seed, count, factors
        self.length = count if factors is None else max(round(float(factors.sum())), count)
        self.kept: tuple[int, np.ndarray] = (-1, np.array([], dtype=np.int64))

    def epoch(self, number: int) -> np.ndarray:
        """int64 [length]"""
        if self.kept[0] != number:
            self.kept = (number, self.drawn(np.random.default_rng([self.seed, number])))
        return self.kept[1]

    def drawn(self, draw: np.random.Generator) -> np.ndarray:
        if self.factors is None:
            return draw.permutation(self.count)
        times = np.floor(self.factors) + (draw.random(self.count) < self.factors % 1)
        rows = draw.permutation(np.repeat(np.arange(self.count), times.astype(np.int64)))
        return np.resize(rows, self.length)  # the rounding varies a little; the epoch's length does not
