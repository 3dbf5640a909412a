"""Runs one after the other in the same processes, for tests: starting processes takes longer than such a run.

    torchrun --nproc_per_node 2 -m tests.training.several tiny --dataset FOLDER --run-folder FOLDER

The run folder holds runs.json, a list of {"name", "words", "dataset", "stop_after", "clock"}; each run gets a folder
of its own in it. Beside the run, rows-RANK.jsonl tells which rows a process took at which step, and judged-RANK.jsonl
what it judged.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from training import train, trainer, validation

RANK = int(os.environ["RANK"])


def told(folder: Path, what: str, value: Any) -> None:
    with open(folder / f"{what}-{RANK}.jsonl", "a") as file:
        file.write(json.dumps(value) + "\n")


def spy(folder: Path) -> None:
    """Writes down which rows are taken, and with which running statistics pictures are judged."""
    rows, judge = trainer.Trainer.rows, validation.Judge.__call__

    def spied_rows(self: Any, step: int) -> Any:
        found = rows(self, step)
        told(folder, "rows", [step, found.tolist()])
        return found

    def spied_judge(self: Any, network: Any) -> Any:
        digest = hashlib.blake2b(digest_size=8)
        for buffer in network.buffers():
            digest.update(buffer.contiguous().numpy().tobytes())
        found = judge(self, network)
        told(folder, "judged", [digest.hexdigest(), found.numbers["loss"], found.numbers["micro_f1"]])
        return found

    trainer.Trainer.rows, validation.Judge.__call__ = spied_rows, spied_judge


def far_ahead() -> Any:
    """A clock; the second process's runs far ahead of the first one's."""
    ticks = itertools.count()
    return SimpleNamespace(monotonic=lambda: next(ticks) * (0.1 if RANK == 0 else 10.0))


def stopping(after: int) -> Any:
    """A training step that is the last one: all processes are stopped there."""
    one_step = trainer.Trainer.one_step

    def last(self: Any) -> None:
        if self.step >= after:
            raise KeyboardInterrupt
        one_step(self)

    return last


def run(one: dict[str, Any], arguments: list[str], folder: Path) -> None:
    before = trainer.Trainer.rows, trainer.Trainer.one_step, validation.Judge.__call__, trainer.time
    (folder / one["name"]).mkdir(exist_ok=True)
    spy(folder / one["name"])
    if one.get("clock"):
        trainer.time = far_ahead()
    if one.get("stop_after"):
        trainer.Trainer.one_step = stopping(one["stop_after"])
    words = ["--dataset", one["dataset"], "--run", str(folder / one["name"] / "run"), *one["words"]]
    code = train.main([*arguments, *words])
    trainer.Trainer.rows, trainer.Trainer.one_step, validation.Judge.__call__, trainer.time = before
    if code != one.get("code", 0):
        raise SystemExit(f"{one['name']} ended with {code}")


def main() -> None:
    arguments = sys.argv[1:]
    folder = Path(arguments[arguments.index("--run-folder") + 1])
    for one in json.loads((folder / "runs.json").read_text()):
        run(one, arguments, folder)


if __name__ == "__main__":
    main()
