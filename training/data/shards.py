"""Writes the chosen posts as the parquet files of a dataset folder, in order, and goes on where it was stopped.

A split's file k holds its rows from k x rows_a_shard on, so a file that is there is complete and is not made again.
"""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from training.data.filtering import Kept, hashes
from training.data.images import Images
from training.data.metadata import CATEGORIES, Metadata, TagLists, column, ratings, years
from training.data.progress import Progress, say
from training.dataset import FEATURES, ROWS_A_GROUP, file_bytes

SCHEMA = FEATURES.arrow_schema
COLUMNS = ("id", "created_at", "rating", "source", "image_width", "image_height", "md5", "media_asset.md5")
BYTES_A_GROUP = 64  # pictures of a row group where their bytes lie in the file


@dataclass(frozen=True)
class Choice:
    """The chosen rows of the metadata, ascending, and which of them are held out."""

    rows: np.ndarray  # int64
    held: np.ndarray  # bool

    def splits(self) -> dict[str, np.ndarray]:
        found = {"train": self.rows[~self.held], "validation": self.rows[self.held]}
        return {name: rows for name, rows in found.items() if len(rows)}


@dataclass
class Written:
    counts: Counter[str]
    tags: Counter[tuple[str, str]]  # by (category, name)
    unreadable: list[str]  # paths; only where bytes are stored


class Shards:
    def __init__(
        self, metadata: Metadata, kept: Kept, images: Images, folder: Path, rows_a_shard: int, as_bytes: bool
    ) -> None:
        self.metadata, self.kept, self.images, self.folder = metadata, kept, images, folder
        self.rows_a_shard, self.as_bytes = rows_a_shard, as_bytes
        self.unreadable: list[str] = []
        self.pool = ThreadPoolExecutor(16)

    def write(self, choice: Choice) -> None:
        """All splits, each in its own pass over the metadata: they do not wait for each other's files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for split, rows in choice.splits().items():
            shards = -(-len(rows) // self.rows_a_shard)
            files = [self.folder / f"{split}-{number:05d}-of-{shards:05d}.parquet" for number in range(shards)]
            done = next((number for number, file in enumerate(files) if not file.exists()), shards)
            for file in files[:done]:
                if (lost := unreadable_of(file)).exists():
                    self.unreadable += json.loads(lost.read_text("utf-8"))
            if done:
                say(f"{split}: {done} of {shards} files are there already")
            self.write_split(split, rows, files, done)

    def write_split(self, split: str, rows: np.ndarray, files: list[Path], done: int) -> None:
        progress = Progress(f"writing {split}", len(rows))
        number, parts, held = done, [], 0
        written = done * self.rows_a_shard
        for table in self.tables(rows[written:]):
            while len(table):
                room = self.rows_a_shard - held
                parts.append(table.slice(0, room))
                held += len(parts[-1])
                written += len(parts[-1])
                table = table.slice(room)
                if held == self.rows_a_shard:
                    self.write_file(files[number], parts)
                    number, parts, held = number + 1, [], 0
            progress.at(written)
        if parts:
            self.write_file(files[number], parts)

    def write_file(self, file: Path, parts: list[pa.Table]) -> None:
        table = pa.concat_tables(parts)
        group = ROWS_A_GROUP
        if self.as_bytes:
            known = len(self.unreadable)
            table, group = self.with_bytes(table), BYTES_A_GROUP
            unreadable_of(file).write_text(json.dumps(self.unreadable[known:]), "utf-8")
        temporary = file.with_name(f".{file.name}")
        with parquet.ParquetWriter(temporary, SCHEMA) as writer:
            writer.write_table(table.cast(SCHEMA), row_group_size=group)
        temporary.replace(file)

    def tables(self, rows: np.ndarray) -> Iterator[pa.Table]:
        """The given rows of the metadata as rows of a dataset, with paths for pictures."""
        if not len(rows):
            return
        wanted = [*COLUMNS, *(f"tag_string_{category}" for category in CATEGORIES)]
        for first, table in self.metadata.batches(wanted):
            low, high = np.searchsorted(rows, (first, first + len(table)))
            if low < high:
                yield self.build(table.take(pa.array(rows[low:high] - first)))

    def build(self, table: pa.Table) -> pa.Table:
        count = len(table)
        numbers = pc.cast(column(table, "id"), pa.int64())
        md5s = hashes(table, np.ones(count, dtype=bool))
        found = self.images.find(numbers.to_numpy(), md5s)
        paths = pa.array([self.images.path(row) for row in found])
        names = pc.binary_join_element_wise(pa.scalar("danbooru "), pc.cast(numbers, pa.string()), "")
        year = years(table)
        values = {
            "image": pa.StructArray.from_arrays([pa.nulls(count, pa.binary()), paths], ["bytes", "path"]),
            "md5": pc.fill_null(pa.array(md5s, pa.string()), "") if md5s else pa.array([""] * count),
            "rating": ratings(table),
            "year": pa.array(year, mask=year == 0),
            "complete": pa.array(np.ones(count, dtype=bool)),
            "width": numbers_of(table, "image_width"),
            "height": numbers_of(table, "image_height"),
            "group": names,
            "source": pc.fill_null(text_of(table, "source"), ""),
        }
        for category in CATEGORIES:
            values[f"tags_{category}"] = TagLists(table, category).kept(self.kept[category]).to_list()
        return pa.table([self.column(field, values, count) for field in SCHEMA], schema=SCHEMA)

    def column(self, field: pa.Field, values: dict[str, pa.Array], count: int) -> pa.Array:
        if field.name in values:
            return values[field.name].cast(field.type)
        if pa.types.is_list(field.type):
            empty = pa.array(np.zeros(count + 1, dtype=np.int32))
            return pa.ListArray.from_arrays(empty, pa.array([], field.type.value_type)).cast(field.type)
        if field.name == "release":
            return pa.nulls(count, field.type)
        return pa.array([""] * count, field.type)

    def with_bytes(self, table: pa.Table) -> pa.Table:
        """The pictures' bytes in place of their paths; rows whose file cannot be read are dropped and told."""
        paths = pc.struct_field(table["image"].combine_chunks(), "path").to_pylist()
        data = list(self.pool.map(read_or_none, paths))
        self.unreadable += [path for path, one in zip(paths, data, strict=True) if one is None]
        there = pa.array([one is not None for one in data])
        image = pa.StructArray.from_arrays([pa.array(data, pa.binary()), pa.array(paths)], ["bytes", "path"])
        return table.set_column(SCHEMA.get_field_index("image"), SCHEMA.field("image"), image).filter(there)


def unreadable_of(file: Path) -> Path:
    """Paths that a file had to leave out, for a making that goes on. Hidden: it goes when the dataset is complete."""
    return file.with_name(f".{file.name}.json")


def read_or_none(path: str) -> bytes | None:
    try:
        return file_bytes(path)
    except OSError:
        return None


def numbers_of(table: pa.Table, name: str) -> pa.Array:
    found = column(table, name)
    return pa.array(np.zeros(len(table), dtype=np.int32)) if found is None else pc.fill_null(found, 0)


def text_of(table: pa.Table, name: str) -> pa.Array:
    found = column(table, name)
    return pa.array([""] * len(table)) if found is None else found


def count_written(folder: Path) -> Written:
    """Rows by split and tags over all splits, from the files themselves."""
    found = Written(Counter(), Counter(), [])
    lists = [f"tags_{category}" for category in CATEGORIES]
    for file in sorted(folder.glob("*.parquet")):
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(4096, columns=[*lists, "rating", "year"]):
                found.counts[file.name.split("-")[0]] += len(batch)
                for category, name in zip(CATEGORIES, lists, strict=True):
                    add(found.tags, category, batch.column(name).flatten(), "")
                add(found.tags, "rating", batch.column("rating").drop_null(), "rating_")
                add(found.tags, "year", batch.column("year").drop_null(), "year_")
    return found


def add(tags: Counter[tuple[str, str]], category: str, values: pa.Array, prefix: str) -> None:
    counts = pc.value_counts(values)
    for value, count in zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True):
        tags[category, f"{prefix}{value}"] += count
