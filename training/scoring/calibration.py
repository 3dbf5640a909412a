"""Whether confidences mean what they say, and average precision, from scores counted in fine steps of logits.

Of the cells at confidence 0.7, 70 % should be true. A temperature T divides every logit; the T that makes the truth
likeliest is fitted on the validation split alone (Guo et al., arXiv:1706.04599). It changes no order of scores.
"""

import math
from typing import Any

import numpy as np

LIMIT = 15.0  # the model clamps its logits there
STEP = 0.05
CENTRES = np.arange(-LIMIT, LIMIT + STEP / 2, STEP)
CURVE_BINS = 10
SHOWN_FROM = 0.1  # the error is over predictions that a site stores; almost all cells are certain noes
COLDEST, HOTTEST = 0.2, 5.0


class LogitCounts:
    """Known cells of each tag by logit: `yes` and `no`, int32 [tags, steps]."""

    def __init__(self, tags: int) -> None:
        self.yes = np.zeros((tags, len(CENTRES)), dtype=np.int32)
        self.no = np.zeros((tags, len(CENTRES)), dtype=np.int32)

    def add(self, logits: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """float32, bool, bool, each [B, tags]."""
        tags, steps = self.yes.shape
        places = np.rint((np.clip(logits.astype(np.float64), -LIMIT, LIMIT) + LIMIT) / STEP).astype(np.int64)
        flat = places + np.arange(tags) * steps
        for counts, cells in ((self.yes, known & truth), (self.no, known & ~truth)):
            counts += np.bincount(flat[cells], minlength=tags * steps).reshape(tags, steps).astype(np.int32)


def average_precision(counts: LogitCounts) -> np.ndarray:
    """Of each tag, float [tags]: the mean precision at each true cell, ties taken together; nan without true cells."""
    right = counts.yes[:, ::-1].cumsum(axis=1, dtype=np.int64)
    said = right + counts.no[:, ::-1].cumsum(axis=1, dtype=np.int64)
    positives = right[:, -1]
    total = (counts.yes[:, ::-1] * (right / np.maximum(said, 1))).sum(axis=1)
    return np.where(positives > 0, total / np.maximum(positives, 1), np.nan)


def sigmoid(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    return 1 / (1 + np.exp(-logits / temperature))


def loss(yes: np.ndarray, no: np.ndarray, temperature: float) -> float:
    """Mean negative log likelihood of the truth; counts are by step, over all tags."""
    scaled = CENTRES / temperature
    total = (yes * np.logaddexp(0, -scaled)).sum() + (no * np.logaddexp(0, scaled)).sum()
    return float(total / max(yes.sum() + no.sum(), 1))


def fit_temperature(counts: LogitCounts) -> float:
    """The temperature of least loss, by golden section over its logarithm: the loss has one valley."""
    yes, no = counts.yes.sum(axis=0), counts.no.sum(axis=0)
    low, high, golden = math.log(COLDEST), math.log(HOTTEST), (math.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(yes, no, math.exp(left)) <= loss(yes, no, math.exp(right)):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 3)


def curve(counts: LogitCounts, temperature: float = 1.0) -> list[dict[str, Any]]:
    """Ten points: cells with confidences from `low` up, their mean confidence, the share that is true."""
    yes, no = counts.yes.sum(axis=0), counts.no.sum(axis=0)
    confidences = sigmoid(CENTRES, temperature)
    places = np.minimum((confidences * CURVE_BINS).astype(int), CURVE_BINS - 1)
    points = []
    for place in range(CURVE_BINS):
        at = places == place
        cells = int((yes + no)[at].sum())
        if cells:
            mean = float(((yes + no) * confidences)[at].sum() / cells)
            points.append(
                {
                    "low": place / CURVE_BINS,
                    "cells": cells,
                    "confidence": round(mean, 4),
                    "true": round(float(yes[at].sum() / cells), 4),
                }
            )
    return points


def expected_error(points: list[dict[str, Any]]) -> float:
    """Mean distance of confidence and truth over the cells of confidence 0.1 and more (ECE)."""
    shown = [point for point in points if point["low"] >= SHOWN_FROM]
    cells = sum(point["cells"] for point in shown)
    return round(sum(p["cells"] * abs(p["confidence"] - p["true"]) for p in shown) / max(cells, 1), 4)


def report(counts: LogitCounts, temperature: float) -> dict[str, Any]:
    """Curve and error of one split, as the release is and with its logits divided by the temperature."""
    plain, fitted = curve(counts), curve(counts, temperature)
    return {
        "error": expected_error(plain),
        "error_at_temperature": expected_error(fitted),
        "curve": plain,
        "curve_at_temperature": fitted,
    }
