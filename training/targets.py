"""What is known of each picture's tags, as ragged arrays that make dense batches on demand.

A vocabulary of 70,000 tags over millions of pictures fits in memory this way; a batch is float32 [B, tags].
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tagger.vocabulary import CATEGORIES, Vocabulary
from training import dataset
from training.config import Data

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Ragged:
    """Lists of different lengths in one array: list i is flat[offsets[i]:offsets[i + 1]]."""

    flat: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[Sequence[Any]], kind: Any) -> "Ragged":
        offsets = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum([len(one) for one in lists], out=offsets[1:])
        return cls(np.array([item for one in lists for item in one], dtype=kind), offsets)

    def cells(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(position in `rows`, value) of every item of the chosen lists."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        positions = np.repeat(np.arange(len(rows)), lengths)
        inner = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return positions, self.flat[np.repeat(self.offsets[rows], lengths) + inner]


@dataclass(frozen=True)
class Targets:
    """Yes, no and predictions of each picture by vocabulary index; `complete` and what a complete row leaves open."""

    tags: int
    yes: Ragged
    no: Ragged
    complete: np.ndarray  # bool [rows]
    open_groups: dict[str, tuple[np.ndarray, np.ndarray]]  # rating, year: (rows open there, the category's tags)
    predicted: Ragged
    confidences: Ragged
    judged: np.ndarray  # bool [rows]: predictions are there to lean on

    def __len__(self) -> int:
        return len(self.complete)

    def batch(self, rows: np.ndarray, soft_weight: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Targets and weights, float32 [B, tags] each.

        With a soft weight, an unknown cell of a judged picture leans on what was predicted there: its confidence, or 0
        where nothing was said. That holds for tags the judged release did not know, too: most pictures lack a new tag.
        """
        targets = np.zeros((len(rows), self.tags), dtype=np.float32)
        weights = np.zeros_like(targets)
        if soft_weight:
            positions, tags = self.predicted.cells(rows)
            targets[positions, tags] = self.confidences.cells(rows)[1]
            weights[self.judged[rows]] = soft_weight
        whole = self.complete[rows]
        targets[whole] = 0
        weights[whole] = 1
        for open_rows, tags in self.open_groups.values():
            weights[np.ix_(whole & open_rows[rows], tags)] = 0
        for ragged, value in ((self.yes, 1.0), (self.no, 0.0)):
            positions, tags = ragged.cells(rows)
            targets[positions, tags] = value
            weights[positions, tags] = 1
        return targets, weights

    def known(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Truth and whether it is known, bool [B, tags] each."""
        targets, weights = self.batch(rows)
        return targets > 0.5, weights > 0.5


def person_ratings(row: Row) -> list[str]:
    return [tag for tag in row["verified"] if tag.startswith("rating_")]


def yes_tags(row: Row) -> set[str]:
    listed = {name for _, name in dataset.tags_of(row)} if row["complete"] else set()
    if chosen := person_ratings(row):  # a person's rating replaces the listed one
        listed -= {f"rating_{rating}" for rating in dataset.RATINGS} - set(chosen)
    return (listed | set(row["verified"])) - set(row["rejected"])


def no_tags(row: Row) -> set[str]:
    chosen = person_ratings(row)
    others = {f"rating_{rating}" for rating in dataset.RATINGS} - set(chosen) if chosen else set()
    return set(row["rejected"]) | others


def build(rows: Sequence[Row], vocabulary: Vocabulary) -> Targets:
    def indices(names: Iterable[str]) -> list[int]:
        return sorted(vocabulary.index(name) for name in names if name in vocabulary)

    yes = [yes_tags(row) for row in rows]
    predicted = [
        [(vocabulary.index(n), c) for n, c in zip(r["predicted_tags"], r["predicted_confidences"], strict=True)
         if n in vocabulary]
        for r in rows
    ]  # fmt: skip
    return Targets(
        tags=len(vocabulary),
        yes=Ragged.of([indices(names) for names in yes], np.int64),
        no=Ragged.of([indices(no_tags(row)) for row in rows], np.int64),
        complete=np.array([bool(row["complete"]) for row in rows], dtype=bool),
        open_groups={
            category: (
                np.array([not any(name.startswith(f"{category}_") for name in names) for names in yes], dtype=bool),
                vocabulary.indices_of(category),
            )
            for category in ("rating", "year")
        },
        predicted=Ragged.of([[tag for tag, _ in one] for one in predicted], np.int64),
        confidences=Ragged.of([[confidence for _, confidence in one] for one in predicted], np.float32),
        judged=np.array([bool(row["release"]) or bool(row["predicted_tags"]) for row in rows], dtype=bool),
    )


def choose_vocabulary(rows: Sequence[Row], categories: Mapping[str, str], data: Data) -> Vocabulary:
    """Tags of the training rows with enough pictures, by category and then by count. Raises DatasetError for none.

    `categories` are those of names that only verdicts carry, from dataset.json.
    """
    counts = count_tags(rows, categories)
    chosen = [
        (CATEGORIES.index(category), -count, name)
        for (category, name), count in counts.items()
        if category not in data.leave_out and count >= data.minimum_counts.get(category, data.minimum_count)
    ]
    if not chosen:
        raise dataset.DatasetError("No tag has enough pictures to be learned; lower data.minimum_count in the recipe.")
    chosen = unique(sorted(chosen))
    return Vocabulary([c[2] for c in chosen], [CATEGORIES[c[0]] for c in chosen], [-c[1] for c in chosen])


def unique(chosen: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """A name in two categories stays in the one with more pictures."""
    best: dict[str, tuple[int, int, str]] = {}
    for one in chosen:
        if one[2] not in best or one[1] < best[one[2]][1]:
            best[one[2]] = one
    return sorted(best.values())


def count_tags(rows: Sequence[Row], categories: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """How many rows say yes to each (category, tag)."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        listed = {name: category for category, name in dataset.tags_of(row)}
        counts.update((category_of(name, listed, categories), name) for name in yes_tags(row))
    return counts


def category_of(name: str, listed: Mapping[str, str], categories: Mapping[str, str]) -> str:
    if name.removeprefix("rating_") in dataset.RATINGS and name.startswith("rating_"):
        return "rating"
    return listed.get(name) or categories.get(name) or "general"


def grow_vocabulary(old: Vocabulary, rows: Sequence[Row], categories: Mapping[str, str], data: Data) -> Vocabulary:
    """The old tags in their order with their counts raised, then new tags that people verified often enough."""
    counts = count_tags(rows, categories)
    by_name = Counter({name: count for (_, name), count in counts.items()})
    new = [
        (CATEGORIES.index(category), -count, name)
        for (category, name), count in counts.items()
        if name not in old
        and category not in data.leave_out
        and count >= data.minimum_counts.get(category, data.minimum_count)
    ]
    new = unique(sorted(new))
    return Vocabulary(
        old.names + [one[2] for one in new],
        old.categories + [CATEGORIES[one[0]] for one in new],
        [count + by_name[name] for name, count in zip(old.names, old.counts, strict=True)] + [-one[1] for one in new],
    )
