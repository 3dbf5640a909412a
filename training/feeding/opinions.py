"""What a release thinks of the cells that nobody judged, once people have said where it is wrong.

A run that starts from a release leans on the release's own confidences there (`loss.soft_weight`), so that it keeps
what it knows. Where people disagreed with it, that would hold the run back: a tag that was rejected on each of thirty
pictures is hardly right on the pictures between them. So each tag's logits are moved by the one number that makes the
verdicts on it most likely, found by Newton's method under a normal prior around zero, whose width is the recipe's
`loss.soft_spread`. Which cells people were asked about may depend on the logits without doing harm: given the logits
the estimate leans to no side. Verdicts on cells that nobody was shown (tags that people added) are left out, as those
are given only where the answer is yes.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.feeding.feed import Feed, chunks
from training.feeding.targets import Targets
from training.network import TrainedTagger
from training.run import RunFolder
from training.scoring import judging
from training.scoring.calibration import sigmoid

STEPS = 50  # of Newton's method; each moves a tag by at most FURTHEST
FURTHEST = 2.0


def shifts(logits: np.ndarray, truth: np.ndarray, tags: np.ndarray, count: int, spread: float) -> np.ndarray:
    """Of each of `count` tags the number to add to its logits, float [count]; 0 for tags without verdicts.

    `logits`, `truth` (bool) and `tags` are those of the judged cells.
    """
    found = np.zeros(count)
    prior = 1 / spread**2
    for _ in range(STEPS):
        likely = sigmoid(logits + found[tags])
        slope = np.bincount(tags, truth - likely, count) - prior * found
        curve = np.bincount(tags, likely * (1 - likely), count) + prior
        found += np.clip(slope / curve, -FURTHEST, FURTHEST)
    return found


def shown_verdicts(targets: Targets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, tags and truth of the cells of incomplete pictures that a person judged and had been shown."""
    rows = np.flatnonzero(~targets.complete)
    parts = []
    predicted = flat(rows, *targets.predicted.cells(rows), targets.tags)
    for ragged, answer in ((targets.yes, True), (targets.no, False)):
        cells = flat(rows, *ragged.cells(rows), targets.tags)
        cells = cells[np.isin(cells, predicted)]
        parts.append((cells, np.full(len(cells), answer)))
    cells, truth = (np.concatenate(column) for column in zip(*parts, strict=True))
    return *np.divmod(cells, targets.tags), truth


def flat(rows: np.ndarray, positions: np.ndarray, tags: np.ndarray, count: int) -> np.ndarray:
    """One number for each cell."""
    return rows[positions].astype(np.int64) * count + tags


def keep(network: TrainedTagger, feed: Feed, run: RunFolder, spread: float) -> Targets:
    """The part's targets with the opinions of `network`, which must be as the run starts; they are kept in a mapped
    file, so that a run that goes on finds those it began with."""
    targets = feed.part.targets
    file = run.cache / f"opinions-{feed.part.name}.float16"
    shape = (len(targets), targets.tags)
    if not file.exists() or file.stat().st_size != 2 * np.prod(shape):
        temporary = Path(f"{file}.{os.getpid()}")
        kept = np.memmap(temporary, dtype=np.float16, mode="w+", shape=shape)
        for rows in chunks(len(targets), feed.judged_at_once):
            kept[rows] = judging.last_stage(judging.logits(network, feed, rows))
        rows, tags, truth = shown_verdicts(targets)
        moved = shifts(kept[rows, tags].astype(np.float64), truth, tags, targets.tags, spread)
        for rows in chunks(len(targets)):
            kept[rows] = sigmoid(kept[rows].astype(np.float32) + moved)
        kept.flush()
        temporary.rename(file)
        run.say(f"{len(truth)} verdicts move the release's opinion of {np.count_nonzero(moved)} tags")
    return replace(targets, opinions=np.memmap(file, dtype=np.float16, mode="r", shape=shape))
