"""Two real processes: they share the pictures without overlap and learn what one process learns."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tagger import release as releases
from tagger.inference import Predictor
from tests.training import made
from tests.training.test_failing import POISON, poisoned
from training import config, publish, train
from training.config import RecipeError
from training.engine import free_port
from training.validation import shares

ROOT = Path(__file__).parents[2]
SETTINGS = (*made.FAST, "train.epochs=2", "train.batch_size=8", "train.accumulate=2", "model.dropout=0.1")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
DEEPSPEED = [sys.executable, "-m", "deepspeed.launcher.runner"]  # what `deepspeed` is
ZERO_3 = ("engine.zero_stage=3", "engine.whole_below=0")
RUNS = {
    "micro-batches": ("augment.flip=0.5", "data.cache=none", "train.ema=0.9"),  # a micro-batch each
    # half of every micro-batch each
    "halves": ("train.freeze_norm=true", "model.dropout=0.0", "train.accumulate=1", "train.evaluate_every=2"),
    "zero": ("engine.zero_stage=2", "model.frozen_stages=3", "train.cache_activations=1"),
    "offloaded": ("engine.zero_stage=2", "engine.offload_optimizer=true", "train.evaluate_every=2"),
    "zero 3": ZERO_3,
}
CLOCK = ("elapsed", "pictures_per_second", "eta", "memory")


def told(settings: tuple[str, ...]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in lines(run) if line["kind"] == "train"]


def state(run: Path) -> dict[str, Any]:
    return json.loads((run / "state.json").read_text())


def spied(folder: Path, what: str) -> list[list[Any]]:
    """What each of the two processes wrote down."""
    files = [folder / f"{what}-{rank}.jsonl" for rank in (0, 1)]
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def start(launcher: list[str], folder: Path, source: Path, runs: list[dict[str, Any]]) -> Path:
    """All the runs in two processes."""
    folder.mkdir()
    (folder / "runs.json").write_text(json.dumps([{"dataset": str(source), **one} for one in runs]))
    words = ["tests.training.several", "tiny", "--dataset", str(source), "--run-folder", str(folder)]
    result = subprocess.run([*launcher, *words], capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return folder


def run(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "words": told((*SETTINGS, *RUNS[name])), **more}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three batches to be judged by two processes."""
    return made.shapes(tmp_path_factory.mktemp("data") / "shapes", validation=70)


@pytest.fixture(scope="module")
def by_torchrun(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = (*SETTINGS, "train.epochs=1000", "train.checkpoint_seconds=1")
    clock = {"name": "clock", "words": [*told(settings), "--minutes", "0.05"], "clock": True}
    runs = [run("micro-batches"), run("halves"), run("zero"), clock]
    return start(TORCHRUN, tmp_path_factory.mktemp("torchrun") / "runs", shapes, runs)


@pytest.fixture(scope="module")
def by_deepspeed(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deepspeed")
    poison = poisoned(folder / "poisoned", 48, {5})
    skipping = told((*SETTINGS, *ZERO_3, *POISON))
    stopped = {"name": "stopped", "words": told((*SETTINGS, *ZERO_3, "train.checkpoint_seconds=0"))}
    runs = [
        run("offloaded"),
        run("zero 3"),
        {**stopped, "stop_after": 4, "code": 130},
        stopped,
        {"name": "poisoned", "words": skipping, "dataset": str(poison)},
    ]
    port = ["--master_port", str(free_port())]  # its own choice is always the same
    return start([*DEEPSPEED, "--num_gpus", "2", *port, "--module"], folder / "runs", shapes, runs)


@pytest.fixture(scope="module")
def alone(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process with ZeRO 0 and its weights whole, which no way of sharing may differ from."""
    folder = tmp_path_factory.mktemp("alone")
    train.train(config.read("tiny", SETTINGS), shapes, folder, None, None)
    return folder


@pytest.mark.parametrize("name", ["micro-batches", "halves", "zero", "offloaded", "zero 3"])
def test_two_processes_learn_what_one_learns(
    name: str, shapes: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    by = request.getfixturevalue("by_torchrun" if name in ("micro-batches", "halves", "zero") else "by_deepspeed")
    if by.parent.name.startswith("torchrun"):
        one = losses(train.train(config.read("tiny", (*SETTINGS, *RUNS[name])), shapes, tmp_path, None, None).folder)
    else:
        one = losses(request.getfixturevalue("alone"))
    two = losses(by / name / "run")
    assert len(one) > 3 and [step for step, _ in one] == [step for step, _ in two]
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], rel=5e-4)
    ended = state(by / name / "run")
    assert ended["status"] == "finished" and ended["processes"] == 2
    seen = spied(by / name, "rows")
    for epoch in range(2):
        rows = [
            {row for step, found in process if step // ended["batches"] == epoch for row in found} for process in seen
        ]
        assert not rows[0] & rows[1]
        assert sorted(rows[0] | rows[1]) == list(range(96))


@pytest.mark.parametrize("name", ["micro-batches", "zero"])
def test_all_processes_judge_the_same_network(name: str, by_torchrun: Path) -> None:
    """Each one's batch norms, and their averages, saw other pictures."""
    first, second = spied(by_torchrun / name, "judged")
    assert len(first) == 2 and first == second and first[0][0] != first[1][0]


def test_processes_save_and_end_together_by_the_clock_of_the_first(by_torchrun: Path) -> None:
    ended = state(by_torchrun / "clock/run")
    assert ended["status"] == "finished" and ended["step"] < ended["steps"]


def test_every_process_judges_as_many_batches_and_every_picture_counts_once() -> None:
    found = [shares(70, 32, rank, 2) for rank in (0, 1)]
    assert [len(batches) for batches, _ in found] == [2, 2] and [own for _, own in found] == [2, 1]
    counted = [row for batches, own in found for rows in batches[:own] for row in rows]
    assert sorted(counted) == list(range(70))
    assert [(len(batches), own) for batches, own in (shares(5, 32, rank, 3) for rank in range(3))] == [
        (1, 1),
        (1, 0),
        (1, 0),
    ]


def test_weights_in_parts_are_judged_resumed_and_published_whole(
    by_deepspeed: Path, alone: Path, tmp_path: Path
) -> None:
    """ZeRO 3 with every parameter parted, from the first step to a release."""
    whole, stopped = by_deepspeed / "zero 3/run", by_deepspeed / "stopped/run"
    told_of = [[{k: v for k, v in line.items() if k not in CLOCK} for line in lines(run)] for run in (whole, stopped)]
    assert told_of[0] == told_of[1]
    ours, again, plain = (load_file(run / "checkpoints/best.safetensors") for run in (whole, stopped, alone))
    assert ours.keys() == plain.keys() and all(torch.equal(ours[key], again[key]) for key in ours)
    trained = [key for key in ours if "running_" not in key and "num_batches" not in key]  # one saw half the pictures
    assert all(torch.allclose(ours[key], plain[key], atol=2e-3) for key in trained)
    judged = json.loads((whole / "metrics.json").read_text())["splits"]["validation"]
    assert judged["pictures"] == 70
    last = [line["micro_f1"] for line in lines(whole) if line["kind"] == "validation"][-1]
    assert judged["refined"]["micro_opt"]["overall"]["micro_f1"] == pytest.approx(max(last, 0), abs=0.02)
    made_release = publish.publish(whole, tmp_path / "release", "whole", "Whole", "CC0-1.0")
    stored = releases.load_weights(made_release)
    assert {key: value.shape for key, value in stored.items()} == {key: value.shape for key, value in ours.items()}
    (found,) = Predictor(made_release.folder, "cpu", threads=1).predict([Image.new("RGB", (48, 48), "white")])
    assert len(found.indices)


def test_a_loss_that_is_no_number_in_one_process_leaves_the_others_their_step(by_deepspeed: Path) -> None:
    run = by_deepspeed / "poisoned/run"
    assert state(run)["status"] == "finished" and state(run)["skipped"] == 2  # once an epoch
    assert all(tensor.isfinite().all() for tensor in load_file(run / "checkpoints/best.safetensors").values())


def test_an_average_of_weights_in_parts_is_refused_in_words() -> None:
    with pytest.raises(RecipeError, match="set train.ema to 0 or engine.zero_stage to 2"):
        config.read("tiny", ["train.ema=0.9", "engine.zero_stage=3"])


def test_deepspeeds_launcher_starts_one_process_and_ends(shapes: Path, tmp_path: Path) -> None:
    words = ["--module", "training.train", "tiny", "--dataset", str(shapes), "--run", str(tmp_path / "run")]
    port = ["--master_port", str(free_port())]
    command = [*DEEPSPEED, "--num_gpus", "1", *port, *words, *told((*SETTINGS, "train.epochs=1"))]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    assert state(tmp_path / "run")["status"] == "finished" and state(tmp_path / "run")["processes"] == 1
