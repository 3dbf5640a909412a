"""Calibration pictures of a release: some of those that its run was validated on, for the check of fast mode.

Only pictures whose licence the dataset states go along: a release may be given away, and a gallery's own pictures are
its people's.
"""

import io
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
    chosen = [row for row in chosen if opened(split, row, source.folder)]
    pictures = (opened(split, row, source.folder) for row in chosen)
    return fast.write_calibration(release, filter(None, pictures), credits_of(split, chosen))


def opened(split: Dataset, row: int, folder: Path) -> Image.Image | None:
    """The picture upright; None for one that cannot be read, which is no reason for a release not to be made."""
    try:
        with Image.open(io.BytesIO(picture_bytes(split, row, folder))) as image:
            return ImageOps.exif_transpose(image)
    except Exception:  # Pillow raises many kinds for broken files
        return None


def credits_of(split: Dataset, rows: list[int]) -> str:
    """A line for each picture: who made it, under which licence, and where it is from."""
    lines = ["# Calibration pictures", "", "Made smaller. Fast mode is compared with exact mode on them.", ""]
    for number, row in enumerate(rows):
        one = split[row]
        facts = [one["artist_credit"] or "unknown artist", one["licence"], one["source"]]
        lines.append(f"- {number:04}.webp: {', '.join(fact for fact in facts if fact)}")
    return "\n".join(lines) + "\n" if rows else ""
