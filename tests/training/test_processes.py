"""Two real processes: they share the pictures without overlap and learn what one process learns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import made
from training import config, train
from training.engine import free_port

ROOT = Path(__file__).parents[2]
SETTINGS = (*made.FAST, "train.epochs=2", "train.batch_size=8", "train.evaluate_every=2", "model.dropout=0.1")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
DEEPSPEED = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2"]  # what `deepspeed` is
SPY = """
import json, os, sys
from pathlib import Path
from training import trainer, train
folder = Path(os.environ["SPY_FOLDER"])
rows = trainer.Trainer.rows
def spied(self, step):
    found = rows(self, step)
    with open(folder / f"rows-{self.engine.rank}.jsonl", "a") as file:
        file.write(json.dumps([step, found.tolist()]) + chr(10))
    return found
trainer.Trainer.rows = spied
sys.exit(train.main())
"""


def told(settings: tuple[str, ...]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def losses(run: Path) -> list[tuple[int, float, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["micro_f1"]) for line in lines if line["kind"] == "train"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.mark.parametrize(
    ("launch", "settings"),
    [
        (TORCHRUN, ("train.accumulate=2", "augment.flip=0.5", "data.cache=none")),  # a micro-batch each
        # half of every micro-batch each
        (TORCHRUN, ("train.freeze_norm=true", "model.dropout=0.0", "train.accumulate=1")),
        (TORCHRUN, ("train.accumulate=2", "engine.zero_stage=2")),
        (DEEPSPEED, ("train.accumulate=2", "engine.zero_stage=2", "engine.offload_optimizer=true")),
        (DEEPSPEED, ("train.accumulate=2", "engine.zero_stage=3")),
    ],
    ids=["micro-batches", "halves", "zero", "deepspeed, offloaded", "deepspeed, zero 3"],
)
def test_two_processes_learn_what_one_learns(
    shapes: Path, tmp_path: Path, launch: list[str], settings: tuple[str, ...]
) -> None:
    whole = (*SETTINGS, *settings)
    alone = train.train(config.read("tiny", whole), shapes, tmp_path / "one", None, None)
    (tmp_path / "spy.py").write_text(SPY)
    port = ["--master_port", str(free_port())] if launch is DEEPSPEED else []  # its own choice is always the same
    words = [tmp_path / "spy.py", "tiny", "--dataset", shapes, "--run-folder", tmp_path / "two"]
    command = [*launch, *port, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPY_FOLDER": str(tmp_path)}  # the script lies elsewhere
    result = subprocess.run([*map(str, command), *told(whole)], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    one, two = losses(alone.folder), losses(tmp_path / "two")
    assert len(one) > 3 and [line[0] for line in one] == [line[0] for line in two]
    for ours, theirs in zip(one, two, strict=True):
        assert ours[1] == pytest.approx(theirs[1], rel=5e-4)
    state = json.loads((tmp_path / "two/state.json").read_text())
    assert state["status"] == "finished" and state["processes"] == 2
    seen = [
        [json.loads(line) for line in (tmp_path / f"rows-{rank}.jsonl").read_text().splitlines()] for rank in (0, 1)
    ]
    steps = state["batches"]
    for epoch in range(2):
        rows = [{row for step, found in process if step // steps == epoch for row in found} for process in seen]
        assert not rows[0] & rows[1]
        assert sorted(rows[0] | rows[1]) == list(range(96))


CLOCKS = """
import itertools, os, sys
from training import trainer, train
class Clock:  # the second process's runs far ahead of the first one's
    ticks = itertools.count()
    @classmethod
    def monotonic(cls):
        return next(cls.ticks) * (0.1 if os.environ["RANK"] == "0" else 10.0)
trainer.time = Clock
sys.exit(train.main())
"""


def test_processes_save_and_end_together_by_the_clock_of_the_first(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "clocks.py").write_text(CLOCKS)
    command = [*TORCHRUN, tmp_path / "clocks.py", "tiny", "--dataset", shapes, "--run-folder", tmp_path / "run"]
    settings = (*SETTINGS, "train.accumulate=2", "train.epochs=1000", "train.checkpoint_seconds=1")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*map(str, command), "--minutes", "0.05", *told(settings)],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    state = json.loads((tmp_path / "run/state.json").read_text())
    assert state["status"] == "finished" and state["step"] < state["steps"]
