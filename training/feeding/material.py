"""What a run learns from: the splits of a dataset with their targets and pictures, under one vocabulary."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.preprocess import Preprocess
from tagger.release import ReleaseFolder
from tagger.vocabulary import Vocabulary
from training import dataset
from training.config import Recipe
from training.dataset import DatasetFolder, Rows
from training.feeding import pictures, targets
from training.feeding.augment import flippable
from training.feeding.pictures import Ahead, Decoded, Source, Streamed, Unreadable
from training.feeding.targets import Row, Targets
from training.run import RunFolder

FEWEST_FOR_HOLDING_OUT = 50
FEWEST_TO_CHOOSE_BY = 50  # complete validation pictures


@dataclass
class Part:
    """One split. `pictures` are of the split it came from, and `index` its rows there."""

    name: str
    rows: Sequence[Row]
    targets: Targets
    pictures: Decoded | Streamed
    index: np.ndarray
    flippable: np.ndarray
    ahead: Ahead | None = None

    def __len__(self) -> int:
        return len(self.index)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [B, size, size, 3]"""
        begun = self.ahead.take(self.index[rows]) if self.ahead else None
        return self.pictures.take(self.index[rows]) if begun is None else begun

    def expect(self, batches: Iterator[np.ndarray], depth: int) -> None:
        """Decodes `depth` of the coming batches ahead; `pixels` then takes them in this order."""
        if isinstance(self.pictures, Streamed):
            self.ahead = Ahead(self.pictures, (self.index[rows] for rows in batches), depth)


@dataclass(frozen=True)
class Material:
    vocabulary: Vocabulary
    preprocess: Preprocess
    parts: dict[str, Part]
    about: dict[str, Any]

    @property
    def train(self) -> Part:
        return self.parts["train"]

    def held_out(self) -> int:
        """Validation pictures all of whose tags are known: verdicts are no sample to choose anything by."""
        return int(self.parts["validation"].targets.complete.sum()) if "validation" in self.parts else 0


def prepare(recipe: Recipe, source: DatasetFolder, run: RunFolder, release: ReleaseFolder | None) -> Material:
    """Decodes what is not decoded yet and settles the vocabulary: the run's own, or the release's grown, or new."""
    preprocess = release.preprocess if release else recipe.data.preprocess()
    index = {name: (name, np.arange(len(split))) for name, split in source.splits.items()}
    if "validation" not in index:
        index |= split_train(Rows(source.splits["train"]), recipe.data.validation_share, run)
    rows = {
        name: Rows(source.splits[home], None if len(chosen) == len(source.splits[home]) else chosen)
        for name, (home, chosen) in index.items()
    }
    vocabulary = settle_vocabulary(recipe, rows["train"], source, run, release)
    shown = show(recipe, source, preprocess, run)
    parts = {}
    for name, (home, chosen) in index.items():
        if len(chosen):
            known = dataclasses.replace(
                targets.build(rows[name], vocabulary), unreadable=shown[home].unreadable.mask, place=chosen
            )
            flips = flippable(rows[name], recipe.augment)
            parts[name] = Part(name, rows[name], known, shown[home], chosen, flips)
    return Material(vocabulary, preprocess, parts, source.about)


def show(
    recipe: Recipe, source: DatasetFolder, preprocess: Preprocess, run: RunFolder
) -> dict[str, Decoded | Streamed]:
    """The pictures of each split: decoded once where that fits, or streamed."""
    data = recipe.data
    total = sum(len(split) for split in source.splits.values())
    kept = data.cache == "decoded" or (
        data.cache == "auto" and pictures.fits_cache(total, preprocess.size, run, data.cache_gigabytes)
    )
    found: dict[str, Decoded | Streamed] = {}
    for name, split in source.splits.items():
        unreadable = Unreadable(run, name, len(split), data.unreadable_share)
        one = Source(split, preprocess, source.folder)
        if kept:
            found[name] = pictures.cached(one, run, unreadable, reporter(run, name))
        else:
            found[name] = Streamed(one, unreadable, data.workers)
    return found


def split_train(rows: Rows, share: float, run: RunFolder) -> dict[str, tuple[str, np.ndarray]]:
    """A validation split out of a training split that is large enough, whole groups at a time."""
    if len(rows) < FEWEST_FOR_HOLDING_OUT or not share:
        run.note(f"With {len(rows)} pictures and no validation split, all are learned from and none are held out.")
        return {}
    held = np.array(dataset.hold_out(rows, share), dtype=bool)
    if held.all() or not held.any():
        run.note("The pictures are too few groups to hold some out, so all are learned from.")
        return {}
    run.note(f"The dataset has no validation split, so {held.sum()} of its {len(rows)} pictures are held out as one.")
    return {"train": ("train", np.flatnonzero(~held)), "validation": ("train", np.flatnonzero(held))}


def settle_vocabulary(
    recipe: Recipe, rows: Rows, source: DatasetFolder, run: RunFolder, release: ReleaseFolder | None
) -> Vocabulary:
    if run.vocabulary.exists():
        return Vocabulary.read(run.vocabulary)
    categories = {tag["name"]: tag["category"] for tag in source.about.get("vocabulary", [])}
    if release and recipe.data.vocabulary == "grow":
        vocabulary = targets.grow_vocabulary(release.vocabulary, rows, categories, recipe.data)
    else:
        vocabulary = targets.choose_vocabulary(rows, categories, recipe.data)
    if run.writes:
        temporary = run.vocabulary.with_name(f".{run.vocabulary.name}.{os.getpid()}")
        vocabulary.write(temporary)
        temporary.replace(run.vocabulary)
    return vocabulary


def reporter(run: RunFolder, name: str) -> pictures.Report:
    """Says how far decoding is, about ten times."""
    said = 0

    def report(done: int, total: int) -> None:
        nonlocal said
        if done * 10 // total > said or done == total:
            said = done * 10 // total
            run.say(f"decoding {name}: {done} of {total} pictures")

    return report
