"""Pictures as the model sees them before normalising, uint8 [rows, size, size, 3]: decoded once into a mapped file, or
streamed, decoded anew each time while the network works on earlier ones.

A picture that cannot be read is named in the run's unreadable.jsonl, counted, black, and its cells count as unknown.
More of them than a share of the split end the run.
"""

import hashlib
import io
import json
import os
import shutil
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from datasets import Dataset
from PIL import Image, ImageOps

from tagger.preprocess import Preprocess
from training.dataset import NO_IMAGE, DatasetError, first_line, picture_bytes
from training.run import RunFolder

CHUNK = 256
FEWEST_AHEAD = 4  # batches
Report = Callable[[int, int], None]


def canvas(data: bytes, preprocess: Preprocess) -> np.ndarray:
    """A picture file to uint8 [size, size, 3] by a release's preprocessing, all but its normalising."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as image:
            if preprocess.large_jpeg == "draft":
                preprocess.draft(image)
            return np.asarray(preprocess.place(preprocess.opaque(ImageOps.exif_transpose(image))), dtype=np.uint8)


def cores() -> int:
    """Cores that this process may use; processes that a launcher started on one machine share them."""
    shared = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)  # torchrun's, deepspeed's
    return max(len(os.sched_getaffinity(0)) // shared, 1) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Unreadable:
    """Which rows of a split have no readable picture: a mask that grows while they are found."""

    def __init__(self, run: RunFolder, split: str, rows: int, share: float) -> None:
        self.run, self.split, self.share = run, split, share
        self.mask = np.zeros(rows, dtype=bool)

    def note(self, row: int, why: str, everyone: bool = False) -> None:
        """Raises DatasetError when they are too many. `why` says which picture it is."""
        if self.mask[row]:
            return
        self.mask[row] = True
        count = int(self.mask.sum())
        self.run.append("unreadable.jsonl", {"split": self.split, "row": row, "why": why}, everyone)
        self.run.state["unreadable"] = self.run.state.get("unreadable", 0) + 1
        self.run.say(f"{why} It is left out; {count} so far in {self.split}.")
        if count > self.share * len(self.mask):
            raise DatasetError(
                f"{why} That makes {count} of the {len(self.mask)} pictures of {self.split}, more than "
                f"data.unreadable_share = {self.share:g} allows; mend the dataset or raise it."
            )


class Source:
    """Decodes rows of a split."""

    def __init__(self, split: Dataset, preprocess: Preprocess, folder: Path | None = None) -> None:
        self.split, self.preprocess, self.folder = split, preprocess, folder
        self.images = split.select_columns("image")  # a row of all columns takes six times as long to read

    def __len__(self) -> int:
        return len(self.split)

    def decode(self, row: int) -> np.ndarray | str:
        """uint8 [size, size, 3], or a sentence about a picture that cannot be read."""
        try:
            data = picture_bytes(self.images, row, self.folder)
        except DatasetError as error:
            return str(error)
        try:
            return canvas(data, self.preprocess)
        except Exception as error:  # Pillow raises many kinds for broken files
            return f"Row {row} ({self.name(row)}) holds no readable picture: {first_line(error)}."

    def name(self, row: int) -> str:
        one = self.split[row]
        return one["md5"] or (one["image"] or NO_IMAGE)["path"] or "without a name"


class Decoded:
    """All pictures of a split in one mapped file."""

    def __init__(self, pictures: np.ndarray, unreadable: Unreadable) -> None:
        self.pictures, self.unreadable = pictures, unreadable

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.pictures[rows]

    def start(self, rows: np.ndarray) -> None:
        """Nothing is to be done ahead."""
        return


class Streamed:
    """Pictures decoded by threads when asked for: Pillow leaves Python's lock while it decodes and resizes."""

    def __init__(self, source: Source, unreadable: Unreadable, workers: int) -> None:
        self.source, self.unreadable = source, unreadable
        self.pool = ThreadPoolExecutor(workers or cores(), thread_name_prefix="decode")

    def start(self, rows: np.ndarray) -> list[Future[np.ndarray | str]]:
        return [self.pool.submit(self.source.decode, int(row)) for row in rows]

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.finish(rows, self.start(rows))

    def finish(self, rows: np.ndarray, started: list[Future[np.ndarray | str]]) -> np.ndarray:
        side = self.source.preprocess.size
        found = np.zeros((len(rows), side, side, 3), dtype=np.uint8)
        for place, future in enumerate(started):
            one = future.result()
            if isinstance(one, str):
                self.unreadable.note(int(rows[place]), one, everyone=True)
            else:
                found[place] = one
        return found


class Ahead:
    """The coming batches of a Streamed split, begun some batches before they are asked for."""

    def __init__(self, pictures: Streamed, batches: Iterator[np.ndarray], depth: int) -> None:
        self.pictures, self.batches, self.depth = pictures, batches, depth
        self.begun: deque[tuple[np.ndarray, list[Future[np.ndarray | str]]]] = deque()
        self.fill()

    @staticmethod
    def depth_for(workers: int, batch: int) -> int:
        """Batches to begin ahead so that no thread waits: two pictures a thread beyond the batch that is awaited, and
        enough that a few slow pictures do not hold up a step."""
        return max(FEWEST_AHEAD, -(-2 * (workers or cores()) // batch) + 1)

    def fill(self) -> None:
        while len(self.begun) < self.depth and (rows := next(self.batches, None)) is not None:
            self.begun.append((rows, self.pictures.start(rows)))

    def take(self, rows: np.ndarray) -> np.ndarray | None:
        """The next batch, when it is the one asked for."""
        if not self.begun or not np.array_equal(self.begun[0][0], rows):
            return None
        expected, started = self.begun.popleft()
        self.fill()
        return self.pictures.finish(expected, started)


# the mapped file


def fingerprint(split: Dataset, preprocess: Preprocess) -> str:
    """Names a cache file: the same pictures in the same order by the same values."""
    values = {k: v for k, v in preprocess.to_config().items() if k not in ("mean", "std")}
    digest = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8)
    for part in split["md5"]:
        digest.update(part.encode())
    for image in (split[i]["image"] or NO_IMAGE for i in {0, len(split) // 2, len(split) - 1}):
        digest.update(str((image["bytes"] or b"")[:64]).encode() + str(image["path"]).encode())
    return digest.hexdigest()


def cached(source: Source, run: RunFolder, unreadable: Unreadable, report: Report | None = None) -> Decoded:
    """All pictures of a split, from the cache file when it is there; the first process makes it."""
    side = source.preprocess.size
    shape = (len(source), side, side, 3)
    if not len(source):
        return Decoded(np.zeros(shape, dtype=np.uint8), unreadable)
    file = run.cache / f"pictures-{fingerprint(source.split, source.preprocess)}.uint8"
    bad = file.with_suffix(".json")
    if not file.exists() and run.writes:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        try:
            fill(temporary, shape, source, unreadable, report)
            bad.write_text(json.dumps(np.flatnonzero(unreadable.mask).tolist()))
            temporary.rename(file)
        finally:
            temporary.unlink(missing_ok=True)
    while not file.exists():  # another process makes it, and its launcher ends this one when that fails
        time.sleep(0.1)
    if bad.exists():
        unreadable.mask[json.loads(bad.read_text())] = True
    return Decoded(np.memmap(file, dtype=np.uint8, mode="r", shape=shape), unreadable)


def fill(file: Path, shape: tuple[int, ...], source: Source, unreadable: Unreadable, report: Report | None) -> None:
    make_room(file, int(np.prod(shape)))
    pictures = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(source), CHUNK):
            rows = range(start, min(start + CHUNK, len(source)))
            for row, one in zip(rows, pool.map(source.decode, rows), strict=True):
                if isinstance(one, str):
                    unreadable.note(row, one)
                else:
                    pictures[row] = one
            if report:
                report(rows.stop, len(source))
    pictures.flush()


def make_room(file: Path, size: int) -> None:
    """Writing into a mapped file of a full disk would end the process without a word. Raises OSError."""
    free = shutil.disk_usage(file.parent).free
    if free < size:
        raise OSError(
            f"The disk has {free / 1e9:.1f} GB left, and the decoded pictures need {size / 1e9:.1f} GB; free some, or "
            "set data.cache to none."
        )


def fits_cache(pictures: int, side: int, run: RunFolder, most: float) -> bool:
    """Whether decoded pictures take at most `most` GB and half of what the disk has left."""
    size = pictures * side * side * 3
    return size <= most * 1e9 and size <= shutil.disk_usage(run.cache).free / 2
