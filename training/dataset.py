"""Dataset folders: pictures with what is known of their tags. A gallery's export and the starter's builder write them.

    dataset.json   {"format": "manabooru-dataset", "version": 1, "name": ..., "created_at": ..., "source": ...,
                    "licence": ..., "filters": {...}, "release": name or null, "counts": {"train": 900, ...},
                    "vocabulary": [{"name": ..., "category": ..., "count": ...}, ...]}
    data/<split>-00000-of-00001.parquet   splits train, validation, test, and more where wanted (style, seen)

`datasets.load_dataset(folder)` opens the folder as it is. One row is one picture:

    image                                {"bytes", "path"}, the original file or a smaller copy; without bytes, the
                                         file at path (from the dataset folder when relative), which may lie inside a
                                         tar: FILE.tar?offset=512&size=34567
    md5                                  of the original
    tags_general ... tags_year           names by category; no tags_rating: `rating` and `year` stand for themselves
    rating, year                         general, sensitive, questionable, explicit, or null; a number or null
    verified, rejected                   tags a person said yes and no to; a rating as rating_explicit
    complete                             true: what tags_* leave out is no. false: it is unknown
    predicted_tags, predicted_confidences, release   what the people who judged were shown
    width, height                        of the original
    group, family                        what it shows, the unit of splitting; its source or style
    source, artist_credit, licence       for the credits

What training knows of a cell (picture, tag), first rule first: a rejected tag is no; a verified one is yes; a person's
rating makes the other ratings no; in a complete row a listed tag is yes and any other no, except that without a rating
(a year) the cells of all ratings (years) are unknown; in an incomplete row every other cell is unknown.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a dataset is a folder here; nothing is looked up elsewhere

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as parquet  # noqa: E402
from datasets import Dataset, Features, Image, List, Value, disable_progress_bars, load_dataset  # noqa: E402

FORMAT = "manabooru-dataset"
VERSION = 1
LISTED = ("general", "artist", "copyright", "character", "meta", "year")
RATINGS = ("general", "sensitive", "questionable", "explicit")
ROWS_A_GROUP = 100  # small row groups stream and shuffle well
ROWS_AT_ONCE = 4096
IN_TAR = re.compile(r"(.+\.tar)\?offset=(\d+)&size=(\d+)")
FEATURES = Features(
    {
        "image": Image(),
        "md5": Value("string"),
        **{f"tags_{category}": List(Value("string")) for category in LISTED},
        "rating": Value("string"),
        "year": Value("int32"),
        "verified": List(Value("string")),
        "rejected": List(Value("string")),
        "complete": Value("bool"),
        "predicted_tags": List(Value("string")),
        "predicted_confidences": List(Value("float32")),
        "release": Value("string"),
        "width": Value("int32"),
        "height": Value("int32"),
        "group": Value("string"),
        "family": Value("string"),
        "source": Value("string"),
        "artist_credit": Value("string"),
        "licence": Value("string"),
    }
)
EMPTY: dict[str, Any] = {
    **{name: [] for name, kind in FEATURES.items() if isinstance(kind, List)},
    **dict.fromkeys(("md5", "group", "family", "source", "artist_credit", "licence"), ""),
    "rating": None,
    "year": None,
    "complete": True,
    "release": None,
    "width": 0,
    "height": 0,
}


# columns whose rows may be empty, but not null
FILLED = ("md5", "group", "complete", "verified", "rejected", "predicted_tags", "predicted_confidences")


class DatasetError(ValueError):
    """A sentence saying what is wrong with a dataset folder and what to do."""


@dataclass(frozen=True)
class DatasetFolder:
    """An opened folder; pictures stay bytes until asked for."""

    folder: Path
    about: dict[str, Any]
    splits: dict[str, Dataset]

    @property
    def name(self) -> str:
        return str(self.about.get("name", self.folder.name))


def about(folder: Path | str) -> dict[str, Any]:
    """What dataset.json says. Raises DatasetError."""
    folder = Path(folder)
    try:
        told = json.loads((folder / "dataset.json").read_text("utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{folder} is no dataset folder: it has no dataset.json.") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{folder / 'dataset.json'} cannot be read ({error}); export the dataset again.") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT or told.get("version") != VERSION:
        raise DatasetError(f"{folder} is not a {FORMAT} of version {VERSION}; export the dataset again.")
    return told


def read(folder: Path | str, cache: Path | str | None = None) -> DatasetFolder:
    """Opens a dataset folder. `cache` is where the library may keep its copy. Raises DatasetError."""
    folder = Path(folder)
    told = about(folder)
    disable_progress_bars()
    try:
        loaded = load_dataset(str(folder), cache_dir=str(cache) if cache else None)
    except Exception as error:  # the library raises many kinds, each about one broken or missing file
        raise DatasetError(f"The parquet files of {folder} cannot be opened: {first_line(error)}") from error
    splits = {name: split.cast_column("image", Image(decode=False)) for name, split in loaded.items()}
    for name, split in splits.items():
        if missing := sorted(set(FEATURES) - set(split.column_names)):
            raise DatasetError(f"The split {name} of {folder} lacks the columns {', '.join(missing)}.")
        if null := [column for column in FILLED if split.data.column(column).null_count]:
            raise DatasetError(
                f"The split {name} of {folder} has rows without a value in {', '.join(null)}; write an empty text or "
                "list there, and true or false for complete."
            )
    if not len(splits.get("train", ())):
        raise DatasetError(f"{folder} has no pictures in a split named train; nothing can be learned from it.")
    return DatasetFolder(folder, told, splits)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def write(folder: Path | str, splits: Mapping[str, Iterable[Mapping[str, Any]]], about: Mapping[str, Any]) -> Path:
    """Writes a dataset folder from rows by split; a row needs `image` (the file's bytes) and may leave out the rest.

    Holds one row group in memory. `about` is what dataset.json says beside format, version, time, counts and, unless
    given, the vocabulary counted over all splits. Written beside its place and renamed.
    """
    folder = Path(folder).absolute()
    if folder.exists():
        raise DatasetError(f"{folder} exists already; choose another name or remove it first.")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    (temporary / "data").mkdir(parents=True)
    counts: dict[str, int] = {}
    tags: dict[tuple[str, str], int] = {}
    for split, rows in splits.items():
        file = temporary / "data" / f"{split}-00000-of-00001.parquet"
        with parquet.ParquetWriter(file, FEATURES.arrow_schema) as writer:
            for group in grouped(rows, tags, counts, split):
                writer.write_table(pa.Table.from_pylist(group, schema=FEATURES.arrow_schema))
    vocabulary = [{"name": n, "category": c, "count": k} for (c, n), k in sorted(tags.items())]
    made = {"created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "source": "", "licence": "", "filters": {}}
    full = {"format": FORMAT, "version": VERSION, "name": folder.name, **made, "release": None} | dict(about)
    full = {"vocabulary": vocabulary, **full, "counts": counts}
    (temporary / "dataset.json").write_text(json.dumps(full, ensure_ascii=False, indent=1), "utf-8")
    temporary.rename(folder)
    return folder


def grouped(
    rows: Iterable[Mapping[str, Any]], tags: dict[tuple[str, str], int], counts: dict[str, int], split: str
) -> Iterator[list[dict[str, Any]]]:
    """Complete rows in groups, counting rows and tags on the way; at least one group, so that the schema is kept."""
    counts[split] = 0
    group: list[dict[str, Any]] = []
    for given in rows:
        row = complete_row(given)
        for category, name in tags_of(row):
            tags[category, name] = tags.get((category, name), 0) + 1
        counts[split] += 1
        group.append(row)
        if len(group) == ROWS_A_GROUP:
            yield group
            group = []
    if group or not counts[split]:
        yield group


def complete_row(given: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(given) - set(FEATURES)):
        raise DatasetError(f"A row has unknown columns: {', '.join(unknown)}.")
    image = given["image"]
    if isinstance(image, bytes):
        image = {"bytes": image, "path": None}
    return {**EMPTY, **given, "image": image}


def tags_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(category, tag) of a row's tags, with its rating and year as tags, each once."""
    listed = [(category, name) for category in LISTED for name in row[f"tags_{category}"] or ()]
    if row["rating"]:
        listed.append(("rating", f"rating_{row['rating']}"))
    if row["year"] is not None:
        listed.append(("year", f"year_{row['year']}"))
    return list(dict.fromkeys(listed))


class Rows(Sequence[dict[str, Any]]):
    """The rows of a split without their pictures, read when asked for: millions of them take no memory."""

    def __init__(self, split: Dataset, index: np.ndarray | None = None) -> None:
        """`index` are the split's rows that count, in their order; all without it."""
        bare = split.remove_columns("image") if "image" in split.column_names else split
        self.split = bare.with_format("arrow")
        self.index = index

    def __len__(self) -> int:
        return len(self.split) if self.index is None else len(self.index)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        row = int(place) if self.index is None else int(self.index[place])
        return self.split[row : row + 1].to_pylist()[0]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for table in self.tables():
            yield from table.to_pylist()

    def tables(self) -> Iterator[pa.Table]:
        """All rows, some thousands at a time."""
        for start in range(0, len(self), ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, len(self))
            if self.index is None:
                yield self.split[start:stop]
            else:
                yield self.split[self.index[start:stop]]


def labels(split: Dataset) -> Rows:
    return Rows(split)


NO_IMAGE: dict[str, Any] = {"bytes": None, "path": None}


def picture_bytes(split: Dataset, index: int, folder: Path | None = None) -> bytes:
    """Raises DatasetError. `folder` is the dataset's, for paths that are relative."""
    image = split[index]["image"] or NO_IMAGE
    if image["bytes"] is not None:
        return image["bytes"]
    try:
        return file_bytes(image["path"], folder)
    except (OSError, TypeError) as error:
        raise DatasetError(f"Row {index} has no picture and its file {image['path']} cannot be read.") from error


def file_bytes(path: str, folder: Path | None = None) -> bytes:
    """A file's bytes, or a part of a tar's. Raises OSError."""
    if inside := IN_TAR.fullmatch(path):
        with open(Path(folder or "", inside[1]), "rb") as tar:
            tar.seek(int(inside[2]))
            data = tar.read(int(inside[3]))
        if len(data) < int(inside[3]):
            raise OSError(f"{inside[1]} ends before the picture does")
        return data
    return Path(folder or "", path).read_bytes()


def hold_out(rows: Sequence[Mapping[str, Any]], share: float) -> list[bool]:
    """Which rows become validation when a dataset has none: whole groups (or pictures), by a hash, about `share`."""

    def drawn(row: Mapping[str, Any], index: int) -> bool:
        unit = row["group"] or row["md5"] or str(index)
        number = int.from_bytes(hashlib.blake2b(unit.encode(), digest_size=4).digest(), "big")
        return number < share * 2**32

    return [drawn(row, index) for index, row in enumerate(rows)]
