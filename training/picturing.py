"""Calibration pictures of a release: some of those that its run was validated on, for the check of fast mode.

Only pictures whose licence the dataset states go along: a release may be given away, and a gallery's own pictures are
its people's.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasets import Dataset
from PIL import Image, ImageOps

from tagger import fast
from training import dataset
from training.dataset import DatasetError, picture_bytes
from training.run import RunFolder


def add_pictures(release: Path, run: RunFolder) -> int:
    """Writes them into a release folder; returns how many, 0 where the dataset is gone or its pictures are private."""
    try:
        source = dataset.read(run.state.get("dataset", ""), run.cache / "datasets")
    except DatasetError:
        return 0
    split = source.splits.get("validation", source.splits["train"])
    licences = np.array(split["licence"])
    free = np.flatnonzero(licences != "")
    count = min(fast.MOST_PICTURES, len(free))
    chosen = [int(free[place]) for place in np.linspace(0, len(free) - 1, count).astype(int)] if count else []
    return fast.write_calibration(release, opened(split, chosen, source.folder), credits_of(split, chosen))


def opened(split: Dataset, rows: list[int], folder: Path) -> Iterator[Image.Image]:
    for row in rows:
        with Image.open(io.BytesIO(picture_bytes(split, row, folder))) as image:
            yield ImageOps.exif_transpose(image)


def credits_of(split: Dataset, rows: list[int]) -> str:
    """A line for each picture: who made it, under which licence, and where it is from."""
    lines = ["# Calibration pictures", "", "Made smaller. Fast mode is compared with exact mode on them.", ""]
    for number, row in enumerate(rows):
        one = split[row]
        facts = [one["artist_credit"] or "unknown artist", one["licence"], one["source"]]
        lines.append(f"- {number:04}.webp: {', '.join(fact for fact in facts if fact)}")
    return "\n".join(lines) + "\n" if rows else ""
