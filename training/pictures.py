"""Pictures as the model sees them before normalising, decoded once: uint8 [rows, size, size, 3] in a mapped file."""

import hashlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from datasets import Dataset
from PIL import Image, ImageOps

from tagger.preprocess import Preprocess
from training.dataset import DatasetError, first_line, picture_bytes

CHUNK = 256
Report = Callable[[int, int], None]


def canvas(data: bytes, preprocess: Preprocess) -> np.ndarray:
    """A picture file to uint8 [size, size, 3] by a release's preprocessing, all but its normalising."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(preprocess.place(preprocess.opaque(ImageOps.exif_transpose(image))), dtype=np.uint8)


def fingerprint(split: Dataset, preprocess: Preprocess) -> str:
    """Names a cache file: the same pictures in the same order by the same values."""
    values = {k: v for k, v in preprocess.to_config().items() if k not in ("mean", "std")}
    digest = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8)
    for part in split["md5"]:
        digest.update(part.encode())
    digest.update(str([split[i]["image"]["bytes"][:64] for i in (0, len(split) - 1)] if len(split) else "").encode())
    return digest.hexdigest()


def cached(split: Dataset, preprocess: Preprocess, folder: Path, report: Report | None = None) -> np.ndarray:
    """All pictures of a split, from the cache file when it is there; raises DatasetError for one that is broken."""
    side = preprocess.size
    shape = (len(split), side, side, 3)
    if not len(split):
        return np.zeros(shape, dtype=np.uint8)
    file = folder / f"pictures-{fingerprint(split, preprocess)}.uint8"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        try:
            fill(temporary, shape, split, preprocess, report)
            temporary.rename(file)
        finally:
            temporary.unlink(missing_ok=True)
    return np.memmap(file, dtype=np.uint8, mode="r", shape=shape)


def fill(file: Path, shape: tuple[int, ...], split: Dataset, preprocess: Preprocess, report: Report | None) -> None:
    pictures = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)

    def decode(item: tuple[int, bytes]) -> None:
        index, data = item
        try:
            pictures[index] = canvas(data, preprocess)
        except Exception as error:  # Pillow raises many kinds for broken files
            md5 = split[index]["md5"]
            raise DatasetError(f"Row {index} ({md5}) holds no readable picture: {first_line(error)}") from error

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start, items in chunks(split):
            list(pool.map(decode, items))
            if report:
                report(start + len(items), len(split))
    pictures.flush()


def chunks(split: Dataset) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    for start in range(0, len(split), CHUNK):
        stop = min(start + CHUNK, len(split))
        yield start, [(index, picture_bytes(split, index)) for index in range(start, stop)]
