"""Where the pictures are: every file under a folder whose name is a post's number or its md5, however they are sorted.

That holds for all layouts people have: one folder, folders by the number's last digits (0123/4567123.jpg, padded or
not), hash folders (ab/cd/abcd....png), and tar shards, whose members are named so. A tar's members are read from the
index beside it ({"files": {name: {"offset", "size"}}}, as shard.json) where there is one, else from the tar itself.

A picture inside a tar has the path `FILE.tar?offset=512&size=34567`, which `training.dataset.picture_bytes` reads.
"""

import json
import os
import re
import tarfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.dataset import DatasetError

# earlier ones win where a post has several
EXTENSIONS = ("webp", "png", "jpg", "jpeg", "gif", "avif", "bmp", "WEBP", "PNG", "JPG", "JPEG", "GIF")
NUMBER, HASH = re.compile(r"\d{1,18}"), re.compile(r"[0-9a-f]{32}")
NO_HASH = np.iinfo(np.int64).max
Report = Callable[[int], None]


@dataclass(frozen=True)
class Images:
    """Columns of found pictures, sorted by `key`: the number, or the first 60 bits of an md5 (below 0)."""

    places: list[str]  # folders, and tar files
    key: np.ndarray  # int64
    place: np.ndarray  # int32
    kind: np.ndarray  # int8, place in EXTENSIONS
    width: np.ndarray  # int8, digits of the number as written; 0 for an md5
    offset: np.ndarray  # int64, -1 for a file
    size: np.ndarray  # int64
    hashes: np.ndarray  # S32, of those with an md5: their keys are below 0, so they are the first rows
    unknown: int  # files with other names
    twice: int  # further files of a post that has one

    def __len__(self) -> int:
        return len(self.key)

    def find(self, ids: np.ndarray, md5s: Sequence[str | None] | None) -> np.ndarray:
        """Row of each post here, -1 for none: by its number, else by its md5."""
        found = self.rows_of(ids)
        if md5s is not None and len(self.hashes):
            missing = np.flatnonzero(found < 0)
            found[missing] = self.rows_of(np.array([hash_key(md5s[i]) for i in missing], dtype=np.int64))
        return found

    def rows_of(self, keys: np.ndarray) -> np.ndarray:
        if not len(self.key):
            return np.full(len(keys), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.key, keys), len(self.key) - 1)
        return np.where(self.key[at] == keys, at, -1)

    def path(self, row: int) -> str:
        place = self.places[self.place[row]]
        if self.offset[row] >= 0:
            return f"{place}?offset={self.offset[row]}&size={self.size[row]}"
        digits = int(self.width[row])
        stem = f"{self.key[row]:0{digits}d}" if digits else self.hashes[row].decode()
        return os.path.join(place, f"{stem}.{EXTENSIONS[self.kind[row]]}")

    def save(self, file: Path) -> None:
        temporary = file.with_name(f".{file.name}.npz")
        columns = {name: getattr(self, name) for name in ("key", "place", "kind", "width", "offset", "size", "hashes")}
        counts = np.array([self.unknown, self.twice])
        np.savez(temporary, places=np.array(self.places, dtype=np.str_), counts=counts, **columns)
        temporary.replace(file)

    @classmethod
    def load(cls, file: Path) -> "Images":
        with np.load(file) as kept:
            columns = {name: kept[name] for name in ("key", "place", "kind", "width", "offset", "size", "hashes")}
            unknown, twice = kept["counts"].tolist()
            return cls(kept["places"].tolist(), unknown=unknown, twice=twice, **columns)


def hash_key(md5: str | None) -> int:
    """A number below 0 that a hash is sorted by; NO_HASH for none, which no picture has."""
    return -1 - int(md5[:15], 16) if md5 and HASH.fullmatch(md5) else NO_HASH


class Finder:
    """Collects pictures from a walk; `images` sorts them."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DatasetError(f"There is no folder {root}; give --images the folder that holds the pictures.")
        self.root = root
        self.places: list[str] = []
        self.columns = {name: array(code) for name, code in zip(COLUMNS, "qibbqq", strict=True)}
        self.hashes: dict[int, bytes] = {}
        self.unknown = 0

    def walk(self, report: Report) -> "Images":
        for folder, folders, files in os.walk(self.root, followlinks=True):
            folders.sort()
            place = None
            for name in sorted(files):
                if name.endswith(".tar"):
                    self.take_tar(os.path.join(folder, name))
                elif not name.endswith((".json", ".txt", ".parquet", ".csv")):
                    if place is None:
                        place = self.add_place(folder)
                    self.take(name, place)
            report(len(self.columns["key"]))
        return self.images()

    def add_place(self, path: str) -> int:
        self.places.append(path)
        return len(self.places) - 1

    def take(self, name: str, place: int, offset: int = -1, size: int = 0) -> None:
        stem, dot, extension = name.rpartition(".")
        kind = KINDS.get(extension)
        if kind is None or not dot:
            self.unknown += 1
        elif NUMBER.fullmatch(stem):
            self.add(int(stem), place, kind, len(stem), offset, size)
        elif HASH.fullmatch(stem):
            key = hash_key(stem)
            self.hashes.setdefault(key, stem.encode())
            self.add(key, place, kind, 0, offset, size)
        else:
            self.unknown += 1

    def add(self, *values: int) -> None:
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def take_tar(self, path: str) -> None:
        place = self.add_place(path)
        for name, offset, size in members(Path(path)):
            self.take(name.rpartition("/")[2], place, offset, size)

    def images(self) -> "Images":
        columns = {name: np.frombuffer(data, dtype=data.typecode) if data else np.array([], dtype=data.typecode)
                   for name, data in self.columns.items()}  # fmt: skip
        order = np.lexsort((columns["kind"], columns["key"]))
        sorted_keys = columns["key"][order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = sorted_keys[1:] != sorted_keys[:-1]
        kept = {name: data[order[first]] for name, data in columns.items()}
        hashes = np.array([self.hashes[key] for key in kept["key"][kept["key"] < 0].tolist()], dtype="S32")
        return Images(self.places, hashes=hashes, unknown=self.unknown, twice=int((~first).sum()), **kept)


COLUMNS = ("key", "place", "kind", "width", "offset", "size")
KINDS = {extension: place for place, extension in enumerate(EXTENSIONS)}


def members(tar: Path) -> Iterator[tuple[str, int, int]]:
    """(name, offset of its bytes, size) of each file in a tar."""
    index = tar.with_suffix(".json")
    if index.exists():
        try:
            files = json.loads(index.read_text("utf-8"))["files"]
            yield from ((name, int(one["offset"]), int(one["size"])) for name, one in files.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{index} is no index of {tar.name}; remove it, and the tar itself is read.") from error
        return
    try:
        with tarfile.open(tar, "r:") as opened:
            for member in opened:
                if member.isfile():
                    yield member.name, member.offset_data, member.size
    except (OSError, tarfile.TarError) as error:
        raise DatasetError(f"{tar} is no readable tar file ({error}); remove it or get it again.") from error
