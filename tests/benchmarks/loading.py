"""How a tagger of the published Camie v1 size loads: python -m tests.benchmarks.loading [--initial] [--folder FOLDER].

Random weights of 1.7 GB (0.86 GB for the initial stage alone) are written to a temporary folder and removed after.
Every load happens in a process of its own that has imported torch before its clock starts; what importing costs, and
the first picture, is printed beside it. Memory is the kernel's own account (smaps_rollup), of two processes while
both are alive. The last line is JSON.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tagger import release as releases
from tagger.architecture import Architecture
from tagger.camie import Uninitialised
from tagger.inference import Predictor
from tagger.model import CamieTagger
from tagger.vocabulary import Vocabulary
from tests.tagger.releases import thresholds

TAGS = 70_527
MB = 1e6


def write_release(folder: Path, stages: str, tags: int) -> Path:
    """A release with random weights of the published shapes, in float32 as published."""
    architecture = Architecture(tag_count=tags, stages=stages)
    with torch.device("meta"), Uninitialised():
        model = CamieTagger(architecture)
    torch.manual_seed(0)
    weights = {key: random_like(key, tensor) for key, tensor in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    names = [f"tag_{number}" for number in range(tags)]
    releases.write(
        folder / "release",
        config={
            "name": "random-camie-v1",
            "architecture": architecture.to_config(),
            "preprocess": {"size": 512, "pad_color": [0, 0, 0], "alpha": "drop"},
            "weights": {"file": "model.safetensors", "dtype": "float32"},
        },
        weights=folder / "weights.safetensors",
        vocabulary=Vocabulary(names, ["general"] * tags, [0] * tags),
        thresholds=thresholds(),
        metrics={},
        card="",
    )
    (folder / "weights.safetensors").unlink()
    return folder / "release"


def random_like(key: str, tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    if key.endswith("running_var"):
        return torch.ones(tensor.shape)
    fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
    return torch.randn(tensor.shape) * (fan_in**-0.5 if tensor.ndim > 1 else 0.1)


def memory() -> dict[str, float]:
    """This process's memory in bytes: resident, private (not from files), and shared with other processes."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    shared = values["Shared_Clean"] + values["Shared_Dirty"]
    return {"rss": values["Rss"], "private": values["Anonymous"], "proportional": values["Pss"], "shared": shared}


def importing() -> dict[str, float]:
    """CPU seconds that a fresh process spends on the packages, which are not part of loading a model."""
    script = "import time, json; a = time.process_time(); import torch; b = time.process_time(); " + (
        "import torchvision.models, tagger.camie; print(json.dumps([b - a, time.process_time() - b]))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    torch_itself, others = json.loads(done.stdout)
    return {"torch": torch_itself, "torchvision and the tagger": others}


def peak() -> int:
    """The highest resident memory; getrusage's own figure would begin at that of the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def load(folder: Path, tag: bool, ready: Any, go_on: Any) -> dict[str, float]:
    """Loads in this process and measures; with `tag`, two pictures go through, so that the weights' pages are in."""
    import torchvision.models  # noqa: F401 the backbone is made of it; importing is counted by itself

    torch.set_num_threads(1)
    before, start = memory(), time.process_time()
    predictor = Predictor(folder, "cpu", threads=1)
    load_cpu, load_peak = time.process_time() - start, peak() - before["rss"]
    loaded, pictures = memory(), [0.0, 0.0]
    size = predictor.release.preprocess.size
    for number in range(2) if tag else ():
        start = time.process_time()
        predictor.confidences(np.zeros((1, 3, size, size), dtype=np.float32))
        pictures[number] = time.process_time() - start
    ready.wait()
    now = memory()
    go_on.wait()
    return {
        "load_cpu_s": load_cpu,
        "first_picture_cpu_s": pictures[0],
        "later_picture_cpu_s": pictures[1],
        "load_peak": load_peak,
        "loaded_private": loaded["private"] - before["private"],
        "before": before["rss"],
        "rss": now["rss"] - before["rss"],
        "private": now["private"] - before["private"],
        "shared": now["shared"],
        "proportional": now["proportional"],
        "peak": peak() - before["rss"],
    }


def in_processes(number: int, run: Callable[..., dict[str, float]], *arguments: Any) -> list[dict[str, float]]:
    """Runs a function in fresh processes at one time; each measures while the others still hold their memory."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(number) as pool:
        ready, go_on = manager.Barrier(number), manager.Barrier(number)
        return pool.starmap(run, [(*arguments, ready, go_on)] * number, chunksize=1)


def alone_twice(found: dict[str, float]) -> float:
    """What two processes would hold without sharing."""
    return 2 * (found["rss"] + found["before"])


def row(name: str, weights: int, found: dict[str, float]) -> str:
    cells = [
        f"{found['load_cpu_s']:6.2f}",
        f"{found['load_peak'] / MB:9.0f}",
        f"{found['peak'] / weights:8.2f}",
        f"{found['rss'] / MB:7.0f}",
        f"{found['private'] / MB:8.0f}",
        f"{found['shared'] / MB:7.0f}",
        f"{found['proportional'] / MB:7.0f}",
    ]
    return f"{name:<32}" + " ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--initial", action="store_true", help="the initial stage alone")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--tags", type=int, default=TAGS, help=f"size of the vocabulary (default {TAGS})")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = write_release(Path(temporary), "initial" if options.initial else "full", options.tags)
        weights = (folder / "model.safetensors").stat().st_size
        print(f"weights {weights / MB:.0f} MB; all but CPU seconds in MB above the process before loading")
        print(f"{'':<32}CPU s  load peak  peak/w     RSS  private  shared    PSS")
        alone = in_processes(1, load, folder, False)[0]
        print(row("loaded", weights, alone))
        tagged = in_processes(1, load, folder, True)[0]
        print(row("after two pictures", weights, tagged))
        pair = in_processes(2, load, folder, True)
        for number, found in enumerate(pair, 1):
            print(row(f"after two pictures, {number} of 2", weights, found))
    print("\nCPU seconds that a person waits for, one after another:")
    for name, seconds in importing().items():
        print(f"  importing {name}: {seconds:.2f} (no part of the figure below)")
    print(f"  loading: {min(alone['load_cpu_s'], tagged['load_cpu_s']):.2f}")
    first, later = tagged["first_picture_cpu_s"], tagged["later_picture_cpu_s"]
    print(f"  the first picture: {first:.2f}, of which {first - later:.2f} bring the weights in and into order once")
    together = sum(found["proportional"] for found in pair)
    print(f"two live processes hold {together / MB:.0f} MB; sharing nothing, {alone_twice(tagged) / MB:.0f}")
    figures = {
        "load_cpu_s": round(min(alone["load_cpu_s"], tagged["load_cpu_s"]), 3),
        "peak_rss_over_weights": round(tagged["peak"] / weights, 3),
        "shared_by_two_workers": round(min(found["shared"] for found in pair) / weights, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
