"""What a run learns from: the splits of a dataset with their targets and decoded pictures, under one vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.preprocess import Preprocess
from tagger.release import ReleaseFolder
from tagger.vocabulary import Vocabulary
from training import dataset, pictures, targets
from training.augment import flippable
from training.config import Recipe
from training.dataset import DatasetFolder
from training.run import RunFolder
from training.targets import Row, Targets

FEWEST_FOR_HOLDING_OUT = 50


@dataclass(frozen=True)
class Part:
    """One split. `pictures` is the decoded split it came from, and `index` its rows there."""

    name: str
    rows: Sequence[Row]
    targets: Targets
    pictures: np.ndarray
    index: np.ndarray
    flippable: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [B, size, size, 3]"""
        return self.pictures[self.index[rows]]


@dataclass(frozen=True)
class Material:
    vocabulary: Vocabulary
    preprocess: Preprocess
    parts: dict[str, Part]
    about: dict[str, Any]

    @property
    def train(self) -> Part:
        return self.parts["train"]


def prepare(
    recipe: Recipe, source: DatasetFolder, run: RunFolder, release: ReleaseFolder | None, held_out: bool = True
) -> Material:
    """Decodes what is not decoded yet and settles the vocabulary: the run's own, or the release's grown, or new."""
    preprocess = release.preprocess if release else recipe.data.preprocess()
    labels = {name: dataset.labels(split) for name, split in source.splits.items()}
    index = {name: (name, np.arange(len(rows))) for name, rows in labels.items()}
    if "validation" not in labels:
        index |= split_train(labels["train"], recipe.data.validation_share, run)
    rows = {name: [labels[home][i] for i in chosen] for name, (home, chosen) in index.items()}
    vocabulary = settle_vocabulary(recipe, rows["train"], source, run, release)
    decoded = {
        name: pictures.cached(split, preprocess, run.cache, reporter(run, name))
        for name, split in source.splits.items()
    }
    parts = {
        name: Part(
            name,
            rows[name],
            targets.build(rows[name], vocabulary),
            decoded[home],
            chosen,
            flippable(rows[name], recipe.augment),
        )
        for name, (home, chosen) in index.items()
        if len(chosen)
    }
    return Material(vocabulary, preprocess, parts, source.about)


def split_train(rows: Sequence[Row], share: float, run: RunFolder) -> dict[str, tuple[str, np.ndarray]]:
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
    recipe: Recipe, rows: Sequence[Row], source: DatasetFolder, run: RunFolder, release: ReleaseFolder | None
) -> Vocabulary:
    if run.vocabulary.exists():
        return Vocabulary.read(run.vocabulary)
    categories = {tag["name"]: tag["category"] for tag in source.about.get("vocabulary", [])}
    if release:
        vocabulary = targets.grow_vocabulary(release.vocabulary, rows, categories, recipe.data)
    else:
        vocabulary = targets.choose_vocabulary(rows, categories, recipe.data)
    if run.writes:
        vocabulary.write(run.vocabulary)
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
