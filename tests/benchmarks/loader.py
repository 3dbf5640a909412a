"""How well the trainer's loader keeps the cores busy: `python -m tests.benchmarks.loader` (`make bench-loader`).

The same made JPEG files, in one dataset folder and one shuffled order, decoded to batches by
`training.feeding.pictures` and by a plain `torch.utils.data.DataLoader` with as many workers: pictures a second, and
the share of the cores' time that was used meanwhile. Then beside a device that takes as long for a batch as loading
does: a loader that decodes ahead takes hardly longer than without it, one that does not takes twice as long. With 0
workers a DataLoader decodes while it is asked, and the trainer takes a thread for each core. The last line is JSON;
rates are the best of the rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tagger.preprocess import Preprocess
from tests.benchmarks import stage
from training import dataset
from training.config import Data
from training.feeding.pictures import Ahead, Source, Streamed, Unreadable, cores
from training.run import RunFolder

WORKERS = (0, 1, 2)
SIZES = ((1024, 768), (850, 1200), (700, 990), (1280, 720))
Batches = Callable[[], Iterator[Any]]


@dataclass(frozen=True)
class Loaded:
    """One pass over the pictures."""

    way: str
    workers: int
    seconds: float
    busy: float  # CPU seconds of this process and its workers, by the cores' seconds
    pictures: int

    @property
    def rate(self) -> float:
        return self.pictures / self.seconds


def picture(number: int) -> bytes:
    """A JPEG file with large and small structure, so that it takes about as long to decode as a drawing."""
    draw = np.random.default_rng(number)
    size = SIZES[number % len(SIZES)]
    coarse = Image.fromarray(draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    fine = Image.fromarray(draw.integers(0, 256, (160, 160, 3), dtype=np.uint8)).resize(size, Image.Resampling.BILINEAR)
    file = io.BytesIO()
    Image.blend(coarse, fine, 0.2).save(file, "JPEG", quality=90)
    return file.getvalue()


def made(folder: Path, count: int) -> Path:
    rows = ({"image": picture(n), "md5": f"{n:032x}", "tags_general": [f"tag_{n % 50}"] * 30} for n in range(count))
    return dataset.write(folder, {"train": rows}, {"name": "made"})


class Plain(torch.utils.data.Dataset):
    """What a DataLoader is usually given: one picture at a time, decoded when asked for."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self.source.decode(row).copy())


def by_dataloader(source: Source, order: list[np.ndarray], workers: int) -> Iterator[Any]:
    yield from torch.utils.data.DataLoader(
        Plain(source), batch_sampler=[rows.tolist() for rows in order], num_workers=workers
    )


def by_trainer(source: Source, order: list[np.ndarray], workers: int, run: RunFolder) -> Iterator[Any]:
    """As training/trainer.py does it."""
    pictures = Streamed(source, Unreadable(run, "train", len(source), 0.0), workers)
    ahead = Ahead(pictures, iter(order), Ahead.depth_for(workers, len(order[0])))
    for rows in order:
        yield torch.from_numpy(ahead.take(rows))
    pictures.pool.shutdown()


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(batches: Iterator[Any], device_seconds: float = 0.0) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and pictures; `device_seconds` a batch are spent off the CPU."""
    cpu, began, seen = cpu_seconds(), time.monotonic(), 0
    for batch in batches:
        seen += len(batch)
        time.sleep(device_seconds)
    seconds = time.monotonic() - began
    return seconds, cpu_seconds() - cpu, seen


def compare(ways: dict[str, Callable[[int], Iterator[Any]]], workers: int, rounds: int) -> dict[str, Loaded]:
    """Each way's best round; the ways take turns."""
    found: dict[str, list[Loaded]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, batches in ways.items():
            seconds, cpu, seen = measure(batches(workers))
            found[way].append(Loaded(way, workers, seconds, cpu / (seconds * cores()), seen))
    return {way: min(passes, key=lambda one: one.seconds) for way, passes in found.items()}


def beside_device(batches: Iterator[Any], alone: Loaded, count: int) -> float:
    """Seconds beside a device that is busy for as long as loading alone takes, by those of loading alone."""
    return measure(batches, alone.seconds / count)[0] / alone.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=512, help="side of the decoded pictures")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="manabooru-loader-") as temporary:
        folder = Path(temporary)
        split = dataset.read(made(folder / "made", options.pictures), folder / "cache").splits["train"]
        source = Source(split, preprocess(options.size), folder / "made")
        order = np.random.default_rng(1).permutation(options.pictures)
        batches = [order[at : at + options.batch] for at in range(0, options.pictures, options.batch)]
        run = RunFolder(folder / "run")
        ways = {
            "trainer": lambda workers: by_trainer(source, batches, workers, run),
            "DataLoader": lambda workers: by_dataloader(source, batches, workers),
        }
        found, ahead = [], {}
        for workers in options.workers:
            best = compare(ways, workers, options.rounds)
            found += best.values()
            for way, one in best.items():
                ahead[way, workers] = beside_device(ways[way](workers), one, len(batches))
    show(found, ahead, options)


def preprocess(size: int) -> Preprocess:
    return Data(size=size).preprocess()


def show(found: list[Loaded], ahead: dict[tuple[str, int], float], options: argparse.Namespace) -> None:
    rows = [
        [one.workers, one.way, f"{one.rate:.1f}", f"{100 * one.busy:.0f} %", f"{ahead[one.way, one.workers]:.2f}"]
        for one in found
    ]
    title = f"{options.pictures} JPEG files to {options.size} px in batches of {options.batch}, {cores()} cores"
    stage.table(title, ("workers", "loader", "pictures/s", "cores busy", "beside a device"), rows)
    rate = {(one.way, one.workers): one.rate for one in found}
    ratios = {f"ratio_{n}": round(rate["trainer", n] / rate["DataLoader", n], 3) for n in options.workers}
    best = max((one for one in found if one.way == "trainer"), key=lambda one: one.rate)
    figures = {**ratios, "cores_busy": round(best.busy, 3), "beside_device": round(ahead["trainer", best.workers], 3)}
    print(json.dumps(figures | {"cores": cores(), "mean_ratio": round(statistics.mean(ratios.values()), 3)}))


if __name__ == "__main__":
    main()
