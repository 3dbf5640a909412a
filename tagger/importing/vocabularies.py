"""Reads the tag lists that taggers are published with: CSV, JSON or one tag a line."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tagger.release import ReleaseError
from tagger.vocabulary import CATEGORIES, Vocabulary, VocabularyError

# Danbooru's numbers, with 9 and 10 as tagger authors use them.
NUMBERS = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta", "9": "rating", "10": "year"}
# A release names ratings and years so that no other tag can have their name.
PREFIXED = ("rating", "year")

Row = tuple[str, str, int]


@contextmanager
def as_it_should_be(what: str, remedy: str = "copy it again") -> Iterator[None]:
    """Turns what a file of another shape than expected raises into a ReleaseError."""
    try:
        yield
    except ReleaseError:
        raise
    except (AttributeError, KeyError, IndexError, OverflowError, TypeError, ValueError, csv.Error) as error:
        said = str(error) if isinstance(error, VocabularyError) else repr(error)
        raise ReleaseError(f"{what} is not as it should be ({said.rstrip('.')}); {remedy}.") from error


def read_vocabulary(folder: Path, layout: Mapping[str, Any], categories: Mapping[str, str]) -> Vocabulary:
    """By a descriptor's parts `vocabulary` and `categories`. Raises ReleaseError."""
    if not isinstance(layout, Mapping) or not isinstance(categories, Mapping):
        raise ReleaseError("The descriptor's parts vocabulary and categories must be JSON objects.")
    file = folder / str(layout.get("file", ""))
    reader = READERS.get(str(layout.get("format")))
    if reader is None:
        raise ReleaseError(f"The vocabulary's format is {layout.get('format')!r}; it must be {' or '.join(READERS)}.")
    if not file.is_file():
        raise ReleaseError(
            f"{folder} lacks the tag list {layout.get('file')}; copy it from where the model is published."
        )
    with as_it_should_be(f"The tag list {file}", "correct it or its descriptor"):
        return as_vocabulary(reader(file, layout), categories)


def as_vocabulary(rows: Iterable[Row], categories: Mapping[str, str] | None = None) -> Vocabulary:
    """Rows of name, category as published and count to a release's tags; a name that comes again gets its category."""
    known = {**{category: category for category in CATEGORIES}, **NUMBERS, **(categories or {})}
    names: dict[str, tuple[str, int]] = {}
    for published, category, count in rows:
        stated = str(category).lower()
        if stated not in known:
            raise ReleaseError(f"The tag {published} has the category {category!r}; name it in the part categories.")
        category = known[stated]
        base, number = release_name(published, category), 1
        name = base
        while name in names:
            name = f"{base}_({category})" if number == 1 else f"{base}_({category}_{number})"
            number += 1
        names[name] = (category, count)
    return Vocabulary(list(names), [category for category, _ in names.values()], [count for _, count in names.values()])


def release_name(published: str, category: str) -> str:
    name = published.strip().replace(" ", "_")
    return f"{category}_{name}" if category in PREFIXED and not name.startswith(f"{category}_") else name


def csv_rows(file: Path, layout: Mapping[str, Any]) -> Iterable[Row]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            category = row[layout["category"]] if layout.get("category") else "general"
            count = row.get(layout["count"]) if layout.get("count") else None
            yield row[layout.get("name", "name")], category, int(float(count or 0))


def line_rows(file: Path, layout: Mapping[str, Any]) -> Iterable[Row]:
    lines = file.read_text("utf-8-sig").splitlines()
    return [(line, "general", 0) for line in lines if line.strip()]


def json_rows(file: Path, layout: Mapping[str, Any]) -> list[Row]:
    document = json.loads(file.read_text("utf-8"))
    names = inside(document, layout["names"])
    categories = inside(document, layout["categories"]) if layout.get("categories") else {}
    return indexed_rows(names, categories)


def indexed_rows(
    names: Mapping[str, str] | list[str], categories: Mapping[str, str], total: int | None = None
) -> list[Row]:
    """{"0": name} in the order of the numbers; the published Camie code's own fallbacks fill what is missing."""
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    total = total or 1 + max(map(int, names))
    rows = []
    for index in range(total):
        name = names.get(str(index), f"unknown-{index}")
        rows.append((name, categories.get(name, "general"), 0))
    return rows


def inside(document: Any, path: str) -> Any:
    """The value at a dotted path, such as dataset_info.tag_mapping.idx_to_tag."""
    for key in path.split("."):
        document = document[key]
    return document


READERS = {"csv": csv_rows, "json": json_rows, "lines": line_rows}
