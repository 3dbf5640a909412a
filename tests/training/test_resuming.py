"""Runs that are killed at the worst moments, or run out of disk."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training import made
from training import train

CLOCK = ("elapsed", "pictures_per_second", "eta", "memory")
SETTINGS = (*made.FAST, "train.epochs=3", "train.checkpoint_seconds=0", "model.dropout=0.1", "augment.flip=0.5",
            "train.ema=0.9", "data.cache=none", "train.accumulate=2", "train.batch_size=8")  # fmt: skip
# each kills the process with SIGKILL: in the middle of the best weights, in the middle of a checkpoint's file, and
# between the complete checkpoint and the name that makes it the newest
KILLS = {
    "best": """
from training import trainer
save = trainer.save_file
def cut(value, file):
    save(value, file)
    if count():
        os.truncate(file, 1000)
        os.kill(os.getpid(), signal.SIGKILL)
trainer.save_file = cut
""",
    "torch.save": """
import io, torch
save = torch.save
def half(value, place, *args, **kwargs):
    memory = io.BytesIO()
    save(value, memory, *args, **kwargs)
    if count():
        with open(place, "wb") as file:
            file.write(memory.getvalue()[: memory.tell() // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    save(value, place, *args, **kwargs)
torch.save = half
""",
    "latest": """
from training import engine
name = engine.replace_text
def named(file, text):
    if count():
        os.kill(os.getpid(), signal.SIGKILL)
    name(file, text)
engine.replace_text = named
""",
}
START = """
import os, signal, sys
left = int(sys.argv.pop(1))
def count():
    global left
    left -= 1
    return left == 0
"""
END = "\nfrom training import train\nsys.exit(train.main())\n"


def command(source: Path, run: Path, *settings: str) -> list[str]:
    told = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    return ["tiny", "--dataset", str(source), "--run", str(run), *told]


def lines(run: Path) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in found]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def whole(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train.main(command(shapes, folder)) == 0
    return folder


def test_killed_in_the_middle_of_writing_it_ends_with_the_same_losses(
    shapes: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    draw = np.random.default_rng(int.from_bytes(shapes.name.encode()[:4]))
    for what, script in KILLS.items():
        at = 1 if what == "best" else int(draw.integers(3, 7))  # the weights are best after the first epoch
        start = [sys.executable, "-c", START + script + END, str(at), *command(shapes, run)]
        killed = subprocess.run(start, capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, f"{what}: {killed.stdout[-500:]} {killed.stderr[-500:]}"
    assert train.main(command(shapes, run)) == 0
    assert lines(run) == lines(whole)
    ours, theirs = (load_file(folder / "checkpoints/best.safetensors") for folder in (run, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert len(list((run / "checkpoints").glob("step-*"))) == 1


def test_a_full_disk_stops_a_run_in_words_and_it_goes_on_with_room(shapes: Path, whole: Path, tmp_path: Path) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # every larger file fails to be written

    run = tmp_path / "run"
    start = [sys.executable, "-m", "training.train", *command(shapes, run)]
    full = subprocess.run(start, capture_output=True, text=True, preexec_fn=no_room)
    assert full.returncode == 1 and "Traceback" not in full.stderr
    assert "checkpoint step-" in full.stdout and "could not be written" in full.stdout
    assert "free some of the disk, and the same command goes on" in full.stderr
    state = json.loads((run / "state.json").read_text())
    assert state["status"] == "stopped" and state["failed_writes"] == 6
    assert not list((run / "checkpoints").glob("step-*"))
    assert train.main(command(shapes, run)) == 0
    assert lines(run) == lines(whole)
