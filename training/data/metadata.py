"""Danbooru's metadata as it is published (p1atdev/danbooru-2024 and its like): parquet, read a batch at a time.

Needed columns: id, created_at, rating (g, s, q, e) and tag_string_general, _artist, _copyright, _character, _meta, each
names with spaces between. Used where they are there: source, image_width, image_height, md5, file_ext, is_deleted,
is_banned, and file_ext and md5 inside media_asset.
"""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from training.dataset import DatasetError, first_line

CATEGORIES = ("general", "artist", "copyright", "character", "meta")
NEEDED = ("id", "created_at", "rating", *(f"tag_string_{category}" for category in CATEGORIES))
USED = ("source", "image_width", "image_height", "md5", "file_ext", "is_deleted", "is_banned")
NESTED = ("media_asset.file_ext", "media_asset.md5")
RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}
ROWS_A_BATCH = 32_768


def find_files(pattern: str) -> list[Path]:
    """Parquet files by a pattern or a folder, by name. Raises DatasetError for none."""
    place = Path(pattern)
    found = sorted(place.rglob("*.parquet")) if place.is_dir() else sorted(Path(p) for p in glob.glob(pattern))
    if not found:
        raise DatasetError(f"There are no parquet files at {pattern}; give --metadata 'FOLDER/*.parquet'.")
    return found


class Metadata:
    """Some parquet files as one table that is never held as a whole."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.rows = 0
        self.columns: list[str] = []
        for file in files:
            schema, rows = open_schema(file)
            self.rows += rows
            here = leaves(schema)
            if missing := [name for name in NEEDED if name not in here]:
                raise DatasetError(f"{file} lacks the columns {', '.join(missing)}; it is no Danbooru metadata.")
            having = [name for name in (*NEEDED, *USED, *NESTED) if name in here]
            self.columns = having if not self.columns else [name for name in self.columns if name in having]

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """(number of the first row, rows) with those of `columns` that all files have."""
        wanted, first = [name for name in columns if name in self.columns], 0
        for file in self.files:
            # buffered: a column of a whole file is not read into memory at once
            with parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as opened:
                for batch in opened.iter_batches(ROWS_A_BATCH, columns=wanted):
                    yield first, pa.Table.from_batches([batch])
                    first += len(batch)

    def __contains__(self, column: str) -> bool:
        return column in self.columns


def open_schema(file: Path) -> tuple[pa.Schema, int]:
    try:
        with parquet.ParquetFile(file) as opened:
            return opened.schema_arrow, opened.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{file} is no readable parquet file: {first_line(error)}") from error


def leaves(schema: pa.Schema) -> set[str]:
    """Names of columns, those inside a struct as outer.inner."""
    names = set(schema.names)
    for field in schema:
        if pa.types.is_struct(field.type):
            names |= {f"{field.name}.{field.type.field(i).name}" for i in range(field.type.num_fields)}
    return names


def column(table: pa.Table, name: str) -> pa.Array | None:
    """A column as one array, also one inside a struct; None when it is not there."""
    outer, dot, inner = name.partition(".")
    if outer not in table.column_names:
        return None
    found = table[outer].combine_chunks()
    if dot:
        here = [found.type.field(i).name for i in range(found.type.num_fields)]
        return pc.struct_field(found, inner) if inner in here else None
    return found


def either(table: pa.Table, *names: str) -> pa.Array | None:
    """The first of some columns that is there."""
    return next((found for name in names if (found := column(table, name)) is not None), None)


def years(table: pa.Table) -> np.ndarray:
    """int32 [rows]; 0 where the time is unknown. Times are text or timestamps."""
    found = column(table, "created_at")
    if pa.types.is_timestamp(found.type):
        number = pc.year(found)
    else:
        number = pc.cast(pc.if_else(pc.match_substring_regex(found, r"^\d{4}"), pc.utf8_slice_codeunits(found, 0, 4),
                                    None), pa.int32())  # fmt: skip
    return pc.fill_null(number, 0).to_numpy(zero_copy_only=False).astype(np.int32)


def ratings(table: pa.Table) -> pa.Array:
    """general, sensitive, questionable, explicit or null."""
    letters = pc.utf8_slice_codeunits(pc.utf8_lower(column(table, "rating")), 0, 1)
    return pa.array(list(RATINGS.values())).take(pc.index_in(letters, pa.array(list(RATINGS))))


class TagLists:
    """One category of a batch: `values` are all its tags, `parents` the row of each."""

    def __init__(self, table: pa.Table, category: str) -> None:
        self.rows = len(table)
        text = pc.fill_null(column(table, f"tag_string_{category}"), "")
        lists = pc.split_pattern(pc.utf8_trim_whitespace(text), " ")
        values = lists.flatten()
        parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        named = pc.not_equal(values, "")
        self.values = values.filter(named)
        self.parents = parents[named.to_numpy(zero_copy_only=False)]

    def kept(self, names: pa.Array) -> "TagLists":
        """Only tags of `names`."""
        mask = pc.is_in(self.values, value_set=names).to_numpy(zero_copy_only=False)
        return self.masked(mask)

    def masked(self, mask: np.ndarray) -> "TagLists":
        found = object.__new__(TagLists)
        found.rows, found.values, found.parents = self.rows, self.values.filter(pa.array(mask)), self.parents[mask]
        return found

    def lengths(self) -> np.ndarray:
        return np.bincount(self.parents, minlength=self.rows)

    def to_list(self) -> pa.Array:
        offsets = np.zeros(self.rows + 1, dtype=np.int32)
        np.cumsum(self.lengths(), out=offsets[1:])
        return pa.ListArray.from_arrays(pa.array(offsets), self.values)
