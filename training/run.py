"""Run folders: what one training writes while it goes, for its monitor, for resuming and for publishing.

config.toml         the recipe as resolved
vocabulary.json     the tags learned, in the order of the outputs
carried.json        with a start release: which of its tags were kept, left out, new
state.json          where the run is, written anew about every two seconds while it goes (below)
metrics.jsonl       a line for each report and validation (below)
samples/            pictures with their tags and both stages' confidences (below)
skipped.jsonl       a line for each micro-batch whose loss was no number; the newest one's tensors lie in skipped/
unreadable.jsonl    a line for each picture that could not be read: {"split", "row", "md5", "why"}
checkpoints/        step-000123/ (resume), best.safetensors (what is published), latest
cache/              decoded pictures and frozen activations; may be deleted
lock                held while a program writes the run
thresholds.json, metrics.json, calibration.json, report.md, scores.csv, tags-<split>.csv, plot-*.png
                    written by the evaluation at the end

A *step* is one micro-batch, counted over all processes; `accumulate` of them make an optimiser step. Every file but
the two .jsonl is replaced whole, so a reader never meets half of one; the last line of a .jsonl may be cut by a kill.

state.json:
    status          preparing, training, trained (evaluation comes), finished, stopped (error says why)
    recipe, dataset, release, notes, error
    step, steps, epoch, epochs            epochs count from 1
    batch, batches                        steps done in this epoch, and steps in one
    batch_size, accumulate, processes     pictures in a step, steps in an optimiser step
    elapsed, eta                          seconds; eta is null until the first step
    samples_per_second                    of all processes, over the last steps
    learning_rate, loss_scale             of the head; loss_scale is null unless fp16
    loss, loss_initial, loss_refined      means of the last report
    memory          {"process", "gpu", "gpu_peak", "gpu_total": bytes, "gpu_use": percent}; null where there is no GPU
    device, precision, parameters, pictures: {split: n}
    skipped, unreadable, failed_writes    counts
    best            {"epoch", "micro_f1", ...}, the numbers of the epoch whose weights are kept
    pid, host, updated_at                 a run that is training and was not updated for a minute has died

metrics.jsonl, kind "train" (over the steps since the line before) and "validation" (the whole split):
    step, epoch, loss, loss_initial, loss_refined
    micro_f1, macro_f1                    of the last stage, each category at its best threshold for these pictures;
    initial_micro_f1, initial_macro_f1, refined_micro_f1, refined_macro_f1     of each stage; validation has
    general_micro_f1                      too. Training pictures are judged as they are learned: varied, with dropout
    cells           {stage: {"overall" or category: {"positive" and "negative": {"loss", "confidence", "cells"}}}}:
                    mean loss and mean confidence of known cells whose truth is yes, and no
    selection       what the first stage selected for the second, {"selected": tags a picture, "recall": share of the
                    true tags among them, "mean_true", "mean_other": {stage: mean confidence of the selected true and
                    other tags}, "unique_tags": different tags selected, "pictures"}; not for one-stage taggers.
                    Of a train line: of the last step alone
    train only: batch, batches, learning_rate, loss_scale, pictures_per_second, eta, elapsed, memory, skipped

samples/step-0000120-train.json and samples/step-0000120-validation.json (the newest KEPT_SAMPLES of the first kind):
    {"kind", "step", "epoch", "thresholds": {stage: {"overall" or category: threshold}}, "samples": [...]}, a sample:
    md5, picture    "pictures/NAME.jpg" within samples/, as the model saw it before normalising
    true            names of the tags that are known to be yes
    predicted       {"tags": [...], "categories": [...], "initial": [...], "refined": [...], "truth": [1, 0 or null]}:
                    every true tag and the likeliest of each stage, likeliest of the last stage first
    selected        the same columns for the tags selected for the second stage, in their order; null for one stage
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

KEPT_SAMPLES = 60  # sample files of training; those of validations all stay
LIVE_SECONDS = 2.0
FAILED_WRITES = 5  # of files whose loss a run survives, before it stops


class RunError(ValueError):
    """A sentence saying why a run folder cannot be used and what to do."""


class RunFolder:
    def __init__(self, folder: Path | str, writes: bool = True) -> None:
        """`writes` is off for all processes but the first."""
        self.folder = Path(folder).absolute()
        self.writes = writes
        self.state: dict[str, Any] = {}
        self.updated = 0.0
        if (self.folder / "state.json").exists():
            self.state = read_json(self.folder / "state.json")

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def vocabulary(self) -> Path:
        return self.folder / "vocabulary.json"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.safetensors"

    def best_weights(self) -> dict[str, Tensor]:
        """Raises RunError."""
        try:
            return load_file(self.best)
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"The best weights {self.best} cannot be read ({first_line(error)}); train again in a new folder."
            ) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it no other program writes this run: two at once would spoil each other's files. Raises RunError."""
        if not self.writes:
            yield
            return
        with open(self.folder / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    f"Another program is writing the run {self.folder}; wait for it, stop it, or choose a new folder."
                ) from error
            yield

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    def make(self) -> None:
        for folder in (self.checkpoints, self.cache, self.samples / "pictures"):
            folder.mkdir(parents=True, exist_ok=True)

    def update(self, **values: Any) -> None:
        self.state |= values | {"updated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        self.updated = time.monotonic()
        if self.writes:
            with self.may_fail("state.json"):
                write_json(self.folder / "state.json", self.state)

    def live(self, **values: Any) -> None:
        """`update`, at most every two seconds; what comes between is kept for the next time."""
        self.state |= values
        if time.monotonic() - self.updated >= LIVE_SECONDS:
            self.update()

    def write_text(self, name: str, text: str) -> None:
        if self.writes:
            replace_text(self.folder / name, text)

    def write_json(self, name: str, value: Any) -> None:
        if self.writes:
            write_json(self.folder / name, value)

    def record(self, kind: str, **values: Any) -> None:
        """One line of metrics.jsonl."""
        self.append("metrics.jsonl", {"kind": kind, **values})

    def append(self, name: str, value: Mapping[str, Any], everyone: bool = False) -> None:
        """One line of a .jsonl file, by the first process or by `everyone`."""
        if self.writes or everyone:
            with self.may_fail(name), open(self.folder / name, "a", encoding="utf-8") as file:
                file.write(json.dumps(value) + "\n")

    @contextmanager
    def may_fail(self, name: str) -> Iterator[None]:
        """A write whose failure, as on a full disk, is told and counted; too many raise OSError."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            failed = self.state.get("failed_writes", 0) + 1
            self.state["failed_writes"] = failed
            self.say(f"{name} could not be written ({first_line(error)}); {failed} failed writes so far")
            if failed > FAILED_WRITES:
                raise OSError(
                    f"{failed} writes to {self.folder} failed, the last of {name} ({first_line(error)}); free some of "
                    "the disk, and the same command goes on."
                ) from error

    def keep_samples(self, value: dict[str, Any], pictures: Mapping[str, np.ndarray]) -> None:
        """A file of samples and its pictures, uint8 [S, S, 3] by name; the oldest of training go."""
        if not self.writes:
            return
        with self.may_fail("samples"):
            self.write_samples(value, pictures)

    def write_samples(self, value: dict[str, Any], pictures: Mapping[str, np.ndarray]) -> None:
        (self.samples / "pictures").mkdir(parents=True, exist_ok=True)
        for name, pixels in pictures.items():
            if not (file := self.samples / name).exists():
                temporary = file.with_name(f".{file.name}")
                Image.fromarray(pixels).save(temporary, "JPEG", quality=88)
                temporary.replace(file)
        write_json(self.samples / f"step-{value['step']:07d}-{value['kind']}.json", value)
        for old in sorted(self.samples.glob("step-*-train.json"))[:-KEPT_SAMPLES]:
            for sample in read_json(old)["samples"]:
                (self.samples / sample["picture"]).unlink(missing_ok=True)
            old.unlink()

    def say(self, text: str) -> None:
        """One line on the console."""
        if self.writes:
            print(f"{datetime.now():%H:%M:%S}  {text}", flush=True)

    def note(self, text: str) -> None:
        """Something the card must say too."""
        self.say(text)
        self.update(notes=list(dict.fromkeys([*self.state.get("notes", []), text])))

    def forget_after(self, step: int) -> None:
        """Drops the lines of steps that a killed run took after its last checkpoint; they come again."""
        file = self.folder / "metrics.jsonl"
        if self.writes and file.exists():
            lines = [line for line in file.read_text("utf-8").splitlines() if keeps(line, step)]
            replace_text(file, "".join(f"{line}\n" for line in lines))


def keeps(line: str, step: int) -> bool:
    """A line that a kill cut in half is dropped as well."""
    try:
        return json.loads(line).get("step", 0) <= step
    except ValueError:
        return False


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def replace_text(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(file: Path, value: Any) -> None:
    replace_text(file, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"There is no {file.name} in {file.parent}; train the run to its end first.") from error
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error}); start the run again in a new folder.") from error
