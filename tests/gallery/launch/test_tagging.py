"""How many processes tag, and what each gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gallery.launch import tagging
from gallery.launch.dotenv import ROOT

GB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "memory", "number"), [(2, 16 * GB, 2), (1, 16 * GB, 1), (16, 16 * GB, 5), (8, 1 * GB, 1)]
)
def test_a_process_a_core_as_far_as_memory_goes(cores: int, memory: int, number: int) -> None:
    assert tagging.default_number(cores, memory) == number


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "cores", lambda: 8)
    monkeypatch.setattr(tagging, "free_memory", lambda: 64 * GB)
    on_a_cpu = {"TAGGER_DEVICE": "cpu"}
    assert tagging.shares(on_a_cpu) == [{"TAGGER_THREADS": "1"}] * 8
    assert tagging.shares({**on_a_cpu, "TAGGER_PROCESSES": "2"}) == [{"TAGGER_THREADS": "4"}] * 2
    assert tagging.shares({**on_a_cpu, "TAGGER_PROCESSES": "2", "TAGGER_THREADS": "3"}) == [{"TAGGER_THREADS": "3"}] * 2
    assert tagging.shares({**on_a_cpu, "TAGGER_PROCESSES": "1"}) == [{"TAGGER_THREADS": "0"}]


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver lists two cards."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf 'GPU 0: NVIDIA A (UUID: GPU-a)\\nGPU 1: NVIDIA A (UUID: GPU-b)\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_each_gpu_has_a_process(two_gpus: None) -> None:
    assert tagging.shares({}) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    assert tagging.shares({"CUDA_VISIBLE_DEVICES": "1"}) == [{"CUDA_VISIBLE_DEVICES": "1"}]
    three = tagging.shares({"TAGGER_PROCESSES": "3"})
    assert [share["CUDA_VISIBLE_DEVICES"] for share in three] == ["0", "1", "0"]
    assert all("CUDA_VISIBLE_DEVICES" not in share for share in tagging.shares({"TAGGER_DEVICE": "cpu"}))


def test_a_container_runs_as_many_as_it_is_told_and_ends_them_all() -> None:
    """Without a broker they wait for one, which is enough to see them come and go."""
    environment = {
        **os.environ,
        "TAGGER_PROCESSES": "2",
        "TAGGER_DEVICE": "cpu",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    running = subprocess.Popen(
        [sys.executable, "-m", "gallery.launch.tagging"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ready: set[str] = set()
    for line in running.stdout or ():
        ready |= {word for word in line.split() if word.startswith("tagging") and "@" in word and "ready" in line}
        if len(ready) == 2:
            break
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert {name.split("@")[0] for name in ready} == {"tagging", "tagging-2"}
    assert running.returncode == 0
