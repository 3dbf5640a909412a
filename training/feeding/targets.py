"""What is known of each picture's tags, as ragged arrays that make dense batches on demand.

A vocabulary of 70,000 tags over millions of pictures fits in memory this way; a batch is float32 [B, tags].
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tagger.vocabulary import CATEGORIES, Vocabulary
from training import dataset
from training.config import Data

Row = Mapping[str, Any]
RATING_OR_YEAR = re.compile(rf"(rating)_(?:{'|'.join(dataset.RATINGS)})|(year)_\d+")


@dataclass(frozen=True)
class Ragged:
    """Lists of different lengths in one array: list i is flat[offsets[i]:offsets[i + 1]]."""

    flat: np.ndarray
    offsets: np.ndarray

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
    opinions: np.ndarray | None = None  # float16 [rows, tags]: leant on instead (training/feeding/opinions.py)
    # bool by row of the split the pictures are of, grows while they are found; and where each row stands there
    unreadable: np.ndarray | None = None
    place: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.complete)

    def batch(self, rows: np.ndarray, soft_weight: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Targets and weights, float32 [B, tags] each.

        With a soft weight, an unknown cell of a judged picture leans on what was predicted there: its confidence, or 0
        where nothing was said; or on the opinions, where there are any. That holds for tags the judged release did not
        know, too: most pictures lack a new tag.
        """
        targets = np.zeros((len(rows), self.tags), dtype=np.float32)
        weights = np.zeros_like(targets)
        if soft_weight and self.opinions is not None:
            targets[:] = self.opinions[rows]
            weights[:] = soft_weight
        elif soft_weight:
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
        if self.unreadable is not None:
            weights[self.unreadable[self.place[rows]]] = 0  # nothing is known of a picture that nobody can see
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


class Gathered:
    """A Ragged in the making: lists come a batch at a time and are held as numbers only."""

    def __init__(self, code: str) -> None:
        self.flat, self.lengths = array(code), array("l")

    def add(self, lists: Iterable[Sequence[Any]]) -> None:
        for one in lists:
            self.flat.extend(one)
            self.lengths.append(len(one))

    def add_flat(self, flat: np.ndarray, lengths: np.ndarray) -> None:
        self.flat.frombytes(flat.astype(self.flat.typecode).tobytes())
        self.lengths.frombytes(lengths.astype(self.lengths.typecode).tobytes())

    def ragged(self) -> Ragged:
        offsets = np.zeros(len(self.lengths) + 1, dtype=np.int64)
        np.cumsum(np.frombuffer(self.lengths, dtype=self.lengths.typecode) if self.lengths else [], out=offsets[1:])
        flat = np.frombuffer(self.flat, dtype=self.flat.typecode) if self.flat else np.array([], self.flat.typecode)
        return Ragged(flat, offsets)


def tables_of(rows: Iterable[Row]) -> Iterator[pa.Table | list[Row]]:
    """Some thousands of rows at a time, as a table where they come from a dataset."""
    yield from rows.tables() if isinstance(rows, dataset.Rows) else [list(rows)]


def plain(table: pa.Table | list[Row]) -> bool:
    """Whether all rows are complete and nobody judged any: their tags can be read a column at a time."""
    if isinstance(table, list):
        return False
    listed = ("verified", "rejected", "predicted_tags")
    return pc.all(table["complete"]).as_py() is True and not any(
        pc.sum(pc.list_value_length(table[name])).as_py() for name in listed
    )


def plain_columns(table: pa.Table) -> Iterator[tuple[str, pa.Array, np.ndarray]]:
    """(category, tags, the row of each) of plain rows, with ratings and years as tags."""
    for category in dataset.LISTED:
        lists = table[f"tags_{category}"].combine_chunks()
        yield category, lists.flatten(), pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    for category in ("rating", "year"):
        values = table[category].combine_chunks()
        there = np.flatnonzero(pc.is_valid(values).to_numpy(zero_copy_only=False))
        text = pc.cast(values.take(pa.array(there)), pa.string())
        filled = pc.not_equal(text, "").to_numpy(zero_copy_only=False)
        names = pc.binary_join_element_wise(pa.scalar(f"{category}_"), text.filter(pa.array(filled)), "")
        yield category, names, there[filled]


class Builder:
    """Targets of rows that come some thousands at a time."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary, self.names = vocabulary, pa.array(vocabulary.names, pa.string())
        self.yes, self.no, self.predicted = Gathered("i"), Gathered("i"), Gathered("i")
        self.confidences = Gathered("f")
        self.complete, self.judged = array("b"), array("b")
        self.open = {"rating": array("b"), "year": array("b")}

    def indices(self, names: Iterable[str]) -> list[int]:
        return sorted(self.vocabulary.index(name) for name in names if name in self.vocabulary)

    def add_plain(self, table: pa.Table) -> None:
        rows, parts, empty = len(table), [], np.zeros(len(table), dtype=np.int64)
        for category, values, parents in plain_columns(table):
            found = pc.index_in(values, value_set=self.names)
            known = pc.is_valid(found).to_numpy(zero_copy_only=False)
            codes = pc.fill_null(found, 0).to_numpy(zero_copy_only=False)
            parts.append(parents[known].astype(np.int64) * len(self.vocabulary) + codes[known])
            if category in self.open:
                self.open[category].frombytes((np.bincount(parents, minlength=rows) == 0).astype(np.int8).tobytes())
        cells = np.unique(np.concatenate(parts))
        rows_of, tags = np.divmod(cells, len(self.vocabulary))
        self.yes.add_flat(tags, np.bincount(rows_of, minlength=rows))
        for gathered in (self.no, self.predicted, self.confidences):
            gathered.add_flat(empty[:0], empty)
        self.complete.extend([1] * rows)
        self.judged.extend(int(bool(release)) for release in table["release"].to_pylist())

    def add(self, row: Row) -> None:
        yes = yes_tags(row)
        if len(row["predicted_tags"]) != len(row["predicted_confidences"]):
            raise dataset.DatasetError(
                f"The picture {row['md5'] or 'without an md5'} has {len(row['predicted_tags'])} predicted tags and "
                f"{len(row['predicted_confidences'])} confidences; export the dataset again."
            )
        shown = zip(row["predicted_tags"], row["predicted_confidences"], strict=True)
        predicted = [(self.vocabulary.index(name), value) for name, value in shown if name in self.vocabulary]
        self.yes.add([self.indices(yes)])
        self.no.add([self.indices(no_tags(row))])
        self.predicted.add([[tag for tag, _ in predicted]])
        self.confidences.add([[value for _, value in predicted]])
        self.complete.append(bool(row["complete"]))
        self.judged.append(bool(row["release"]) or bool(row["predicted_tags"]))
        for category, flags in self.open.items():
            flags.append(not any(self.category(name) == category for name in yes))

    def category(self, name: str) -> str | None:
        """A yes tag's category, as far as a vocabulary or its form says it: year_of_the_tiger names no year."""
        if name in self.vocabulary:
            return self.vocabulary.categories[self.vocabulary.index(name)]
        return found[1] or found[2] if (found := RATING_OR_YEAR.fullmatch(name)) else None

    def targets(self) -> Targets:
        def flags(values: array) -> np.ndarray:
            return np.array(values, dtype=bool)

        return Targets(
            tags=len(self.vocabulary),
            yes=self.yes.ragged(),
            no=self.no.ragged(),
            complete=flags(self.complete),
            open_groups={
                category: (flags(values), self.vocabulary.indices_of(category))
                for category, values in self.open.items()
            },
            predicted=self.predicted.ragged(),
            confidences=self.confidences.ragged(),
            judged=flags(self.judged),
        )


def build(rows: Iterable[Row], vocabulary: Vocabulary) -> Targets:
    builder = Builder(vocabulary)
    for table in tables_of(rows):
        if plain(table):
            builder.add_plain(table)
        else:
            for row in table if isinstance(table, list) else table.to_pylist():
                builder.add(row)
    return builder.targets()


def choose_vocabulary(rows: Iterable[Row], categories: Mapping[str, str], data: Data) -> Vocabulary:
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


def count_tags(rows: Iterable[Row], categories: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """How many rows say yes to each (category, tag)."""
    counts: Counter[tuple[str, str]] = Counter()
    for table in tables_of(rows):
        if plain(table):
            for category, values, _ in plain_columns(table):
                found = pc.value_counts(values)
                for name, count in zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True):
                    counts[category, name] += count
            continue
        for row in table if isinstance(table, list) else table.to_pylist():
            listed = {name: category for category, name in dataset.tags_of(row)}
            counts.update((category_of(name, listed, categories), name) for name in yes_tags(row))
    return counts


def category_of(name: str, listed: Mapping[str, str], categories: Mapping[str, str]) -> str:
    if name.removeprefix("rating_") in dataset.RATINGS and name.startswith("rating_"):
        return "rating"
    return listed.get(name) or categories.get(name) or "general"


def grow_vocabulary(old: Vocabulary, rows: Iterable[Row], categories: Mapping[str, str], data: Data) -> Vocabulary:
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
