"""The benchmark of a GPU can't run here: its program is run with a tiny model on the processor."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


THERE = {"torch", "torchvision", "numpy", "pillow"}  # the last two come with torchvision
# What stands for a machine that lacks these modules.
ALONE = "import runpy, sys; sys.modules.update(dict.fromkeys({lacking})); runpy.run_module({name!r}, {{}}, '__main__')"


def others() -> list[str]:
    """The modules of all other packages that this program asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    names = {re.match(r"[\w.-]+", each)[0].lower() for each in wanted} - THERE
    return [module for module, packages in packages_distributions().items() if names & {p.lower() for p in packages}]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    lacking = others()
    assert {"django", "safetensors", "onnxruntime", "tqdm"} <= set(lacking)
    command = [sys.executable, "-c", ALONE.format(lacking=lacking, name="tests.benchmarks.gpu"), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_program_runs_through() -> None:
    words = ["--tiny", "--device", "cpu", "--seconds", "0.01", "--batches", "1", "2", "--ways", "eager", "graph"]
    done = run(*words, "--threads", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    eager = [row for row in found["model"] if row["way"] == "eager"]
    assert [(row["dtype"], row["batch"]) for row in eager] == [("fp16", 1), ("fp16", 2), ("bf16", 1), ("bf16", 2)]
    assert all(row["images_per_s"] > 0 for row in eager)
    assert all("failed" in row for row in found["model"] if row["way"] == "graph")  # no CUDA, no graph
    assert found["from_jpeg_by_pillow_per_s"] > 0
    assert found["from_jpeg_by_device_per_s"] > 0
