"""The monitor's reading of run folders."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from training.monitor.metrics import KEPT, Metrics
from training.monitor.runs import Runs, health
from training.run import RunFolder

ROW = {"loss": 0.5, "memory": {"gpu": None, "process": 10.0}}


def line(step: int, kind: str = "train", **values: Any) -> str:
    return json.dumps({"kind": kind, "step": step, **ROW, **values}) + "\n"


def read(file: Path) -> Metrics:
    metrics = Metrics(file)
    metrics.read(60)
    return metrics


def news(metrics: Metrics, generation: str = "-1", known: dict[str, int] | None = None) -> dict[str, Any]:
    metrics.read(60)
    return metrics.since(int(generation), known or {})


# metrics.jsonl


def test_metrics_are_read_as_they_grow(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    metrics = Metrics(file)
    assert news(metrics)["kinds"] == {}
    file.write_text(line(1) + line(2) + line(3)[:20])
    first = news(metrics)
    train = first["kinds"]["train"]
    assert train["columns"]["step"] == [1, 2] and train["columns"]["memory.process"] == [10, 10]
    assert "memory.gpu" not in train["columns"]
    with open(file, "a") as more:
        more.write(line(3)[20:] + line(3, "validation", loss=0.25) + "no json\n" + line(4, loss=float("nan")))
    second = news(metrics, first["generation"], {"train": 2})
    assert not second["fresh"] and second["damaged"] == 1
    assert second["kinds"]["train"]["from"] == 2
    assert second["kinds"]["train"]["columns"]["step"] == [3, 4]
    assert second["kinds"]["train"]["columns"]["loss"] == [0.5, None]
    assert second["kinds"]["validation"]["columns"]["loss"] == [0.25]
    json.dumps(second, allow_nan=False)


def test_a_resumed_run_is_read_anew(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in range(1, 8):
        run.record("train", step=step, loss=step / 10)
    metrics = Metrics(tmp_path / "metrics.jsonl")
    first = news(metrics)
    run.forget_after(3)  # as a run does that goes on from its checkpoint
    for step in range(4, 9):
        run.record("train", step=step, loss=9.0)
    told = news(metrics, first["generation"], {"train": 7})
    assert told["fresh"]
    assert told["kinds"]["train"]["columns"]["loss"] == [0.1, 0.2, 0.3, 9, 9, 9, 9, 9]


def test_steps_that_come_again_replace_the_old_ones(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(line(step, loss=1.0) for step in (1, 2, 3, 4)))
    metrics = Metrics(file)
    first = news(metrics)
    with open(file, "a") as more:
        more.write(line(3, loss=2.0))
    told = news(metrics, first["generation"], {"train": 3})
    assert told["fresh"]
    assert told["kinds"]["train"]["columns"]["step"] == [1, 2, 3]
    assert told["kinds"]["train"]["columns"]["loss"] == [1, 1, 2]


def test_a_deleted_file_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(line(1))
    metrics = Metrics(file)
    first = news(metrics)
    file.unlink()
    assert news(metrics, first["generation"], {"train": 1})["kinds"] == {}


def test_long_metrics_are_thinned_with_their_means_and_extremes(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    rows = 20_000
    file.write_text("".join(line(step, loss=float(step % 10), loss_spike=float(step == 777)) for step in range(rows)))
    metrics = read(file)
    series = metrics.series["train"]
    assert KEPT <= len(series) <= 2 * KEPT and series.rows == rows and series.width == 16
    points = series.points()
    assert points["step"][-1] == rows - 1
    counts = series.columns["loss"].counts
    assert sum(m * c for m, c in zip(points["loss"], counts, strict=True)) == pytest.approx(4.5 * rows, rel=1e-5)
    assert max(points["loss_spike:high"]) == 1 and max(points["loss_spike"]) == pytest.approx(1 / 16)
    close = metrics.zoom("train", 700, 800)
    assert close["step"] == list(range(700, 801)) and max(close["loss_spike"]) == 1
    assert metrics.zoom("train", rows, rows + 5) is None
    assert len(json.dumps(metrics.since(-1, {}))) < 500_000


def test_a_long_file_is_read_in_parts(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(line(step) for step in range(60_000)))
    metrics = Metrics(file)
    metrics.read(1e-9)
    assert metrics.since(-1, {})["unread"] == metrics.size
    metrics.read(60)
    assert metrics.since(-1, {})["unread"] == 0 and metrics.series["train"].rows == 60_000


# runs


def test_runs_come_and_go(tmp_path: Path) -> None:
    runs = Runs([tmp_path / "runs"])
    assert runs.all() == {}
    folder = RunFolder(tmp_path / "runs/group/first")
    folder.make()
    folder.update(status="training")
    assert list(runs.all()) == ["group/first"]
    kept = runs.get("group/first")
    runs.looked = 0
    assert runs.get("group/first") is kept
    assert list(Runs([folder.folder]).all()) == ["first"]
    (folder.folder / "state.json").unlink()
    runs.looked = 0
    assert runs.all() == {}


@pytest.mark.parametrize(
    ("state", "silent", "expected", "words"),
    [
        ({"status": "training"}, 5, "running", ""),
        ({"status": "training"}, 720, "silent", "No news for 12 min"),
        ({"status": "training"}, 50 * 3600, "silent", "No news for 2 days"),
        ({"status": "preparing"}, 720, "running", ""),
        ({"status": "preparing"}, 1200, "silent", "No news for 20 min"),
        ({"status": "finished"}, 1e6, "finished", ""),
        ({"status": "stopped"}, 1, "stopped", "goes on from the last checkpoint"),
        ({"status": "stopped", "error": "disk full"}, 1, "crashed", "disk full"),
        ({}, None, "running", ""),
    ],
)
def test_health_of_a_run(state: dict[str, Any], silent: float | None, expected: str, words: str) -> None:
    kind, sentence = health(state, silent)
    assert kind == expected and words in sentence


def test_a_run_whose_process_is_gone_has_crashed() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    state = {"status": "training", "pid": process.pid, "host": platform.node()}
    assert health(state, 5)[0] == "crashed"
    assert health(state | {"pid": os.getpid()}, 5)[0] == "running"
    assert health(state | {"host": "another machine"}, 5)[0] == "running"
    del state["host"]
    assert health(state, 5)[0] == "running"
    assert health(state, 600)[0] == "crashed"


def test_a_slow_run_may_be_silent_for_longer() -> None:
    assert health({"status": "training"}, 200, pause=100)[0] == "running"
    assert health({"status": "training"}, 601, pause=100)[0] == "silent"


def test_much_to_read_comes_in_short_answers(tmp_path: Path) -> None:
    """So that a page with a long run in it stays quick while its metrics are read."""
    folder = tmp_path / "runs/long"
    folder.mkdir(parents=True)
    with open(folder / "metrics.jsonl", "w") as file:
        for start in range(0, 80_000, 1000):
            file.writelines(line(step, loss=1 / (step + 1)) for step in range(start, start + 1000))
    runs = Runs([tmp_path / "runs"])
    metrics = runs.get("long").metrics
    slowest, started = 0.0, time.monotonic()
    while metrics.offset < (folder / "metrics.jsonl").stat().st_size:
        before = time.monotonic()
        metrics.read(0.2)
        slowest = max(slowest, time.monotonic() - before)
        assert time.monotonic() - started < 60
    assert metrics.series["train"].rows == 80_000 and slowest < 3
