"""How well the trainer's loader keeps the cores busy: `python -m tests.benchmarks.loader` (`make bench-loader`).

The same made JPEG files, in one dataset folder and one shuffled order, decoded to batches by
`training.feeding.pictures` and by a plain `torch.utils.data.DataLoader` with as many workers. For each:

- pictures a second while a training step waits for them, and the CPU time that a picture costs, start and end included;
- the share of the cores' time that the loader used meanwhile, and the share that nobody did: on cores that other work
  wants, too, a loader that keeps every core busy leaves none idle;
- the share that it used beside a device that takes half as long for a batch as loading one: the cores are what a run
  waits for then, so each second that one is idle is lost;
- beside a device that takes a quarter longer than loading: the share of the time that steps wait for data, the first
  batch not counted. A loader that decodes ahead lets them wait hardly ever.

Rates and costs are the best of the rounds, in which the ways take turns. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from tagger.preprocess import Preprocess
from tests.benchmarks import stage
from training import dataset
from training.config import Data
from training.feeding.pictures import Ahead, Source, Streamed, Unreadable, cores
from training.run import RunFolder

ALONE, QUICK, SLOW = DEVICES = (0.0, 0.5, 1.25)  # a device's time for a batch by that of loading it
SIZES = ((1024, 768), (850, 1200), (700, 990), (1280, 720))
Batches = Callable[[], Iterator[Any]]


@dataclass(frozen=True)
class Loaded:
    """One pass over the pictures. Shares are of the time of all cores that this process may use."""

    way: str
    workers: int
    pictures: int
    batches: int
    seconds: float
    cpu: float  # seconds of this process and its workers
    idle: float  # share of the cores' time that nobody used
    waited: float  # seconds that steps waited for data, the first batch not counted

    @property
    def rate(self) -> float:
        return self.pictures / self.seconds

    @property
    def cost(self) -> float:
        """CPU milliseconds a picture."""
        return 1000 * self.cpu / self.pictures

    @property
    def busy(self) -> float:
        return self.cpu / (self.seconds * cores())

    @property
    def waiting(self) -> float:
        return self.waited / self.seconds


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


def idle_seconds() -> float:
    """Of the cores that this process may use."""
    each = psutil.cpu_times(percpu=True)
    return sum(each[core].idle + getattr(each[core], "iowait", 0.0) for core in os.sched_getaffinity(0))


def measure(way: str, workers: int, batches: Iterator[Any], device_seconds: float = 0.0) -> Loaded:
    """One pass; `device_seconds` a batch are spent off the CPU."""
    cpu, idle, began = cpu_seconds(), idle_seconds(), time.monotonic()
    waits, seen = [], 0
    while True:
        asked = time.monotonic()
        batch = next(batches, None)
        waits.append(time.monotonic() - asked)
        if batch is None:
            break
        seen += len(batch)
        time.sleep(device_seconds)
    seconds = time.monotonic() - began
    idle = (idle_seconds() - idle) / (seconds * cores())
    return Loaded(way, workers, seen, len(waits) - 1, seconds, cpu_seconds() - cpu, idle, sum(waits[1:-1]))


def compare(
    ways: dict[str, Callable[[int], Iterator[Any]]], workers: int, rounds: int
) -> dict[str, dict[float, list[Loaded]]]:
    """Each way's passes by device; the ways take turns."""
    found: dict[str, dict[float, list[Loaded]]] = {way: {device: [] for device in DEVICES} for way in ways}
    loading = 0.0
    for device in DEVICES:
        for _ in range(rounds):
            for way, batches in ways.items():
                found[way][device].append(measure(way, workers, batches(workers), device * loading))
        loading = min(one.seconds / one.batches for passes in found.values() for one in passes[ALONE])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=512, help="side of the decoded pictures")
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, cores()}))
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
        found = {workers: compare(ways, workers, options.rounds) for workers in options.workers}
    show(found, options)


def preprocess(size: int) -> Preprocess:
    return Data(size=size).preprocess()


def best(passes: dict[float, list[Loaded]]) -> dict[str, float]:
    quickest = max(passes[ALONE], key=lambda one: one.rate)
    return {
        "rate": quickest.rate,
        "cost": min(one.cost for one in passes[ALONE]),
        "busy": quickest.busy,
        "idle": min(one.idle for one in passes[ALONE]),
        "busy_beside": max(one.busy for one in passes[QUICK]),
        "waiting": statistics.median(one.waiting for one in passes[SLOW]),
    }


SHARES = ("busy", "idle", "busy_beside", "waiting")


def show(found: dict[int, dict[str, dict[float, list[Loaded]]]], options: argparse.Namespace) -> None:
    figures = {(workers, way): best(passes) for workers, ways in found.items() for way, passes in ways.items()}
    rows = [
        [workers, way, f"{f['rate']:.1f}", f"{f['cost']:.1f}", *(f"{100 * f[name]:.0f} %" for name in SHARES)]
        for (workers, way), f in figures.items()
    ]
    title = f"{options.pictures} JPEG files to {options.size} px in batches of {options.batch}, {cores()} cores"
    head = (
        *("workers", "loader", "pictures/s", "CPU ms a picture", "cores busy", "idle"),
        *("busy beside a quick device", "steps wait beside a slow one"),
    )
    stage.table(title, head, rows)
    told: dict[str, float] = {"cores": cores()}
    for workers in found:
        ours, theirs = figures[workers, "trainer"], figures[workers, "DataLoader"]
        told[f"rate_ratio_{workers}"] = round(ours["rate"] / theirs["rate"], 3)
        told[f"cost_ratio_{workers}"] = round(ours["cost"] / theirs["cost"], 3)
    most = figures[max(found), "trainer"]
    print(json.dumps(told | {name: round(most[name], 3) for name in SHARES}))


if __name__ == "__main__":
    main()
