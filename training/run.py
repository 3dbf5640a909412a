"""Run folders: what one training writes while it goes, for its monitor, for resuming and for publishing.

config.toml         the recipe as resolved
vocabulary.json     the tags learned, in the order of the outputs
state.json          {"status": "preparing" | "training" | "finished", "recipe", "dataset", "release", "step",
                     "steps", "epoch", "epochs", "elapsed", "best": {...}, "pictures": {split: n}, "updated_at"}
metrics.jsonl       a line each: {"kind": "train" | "validation" | "note", "step", "epoch", ...}
samples/            epoch-003.json: some validation pictures with their tags and the likeliest predictions
checkpoints/        step-000123/ (resume), best.safetensors (what is published), latest
cache/              decoded pictures and frozen activations; may be deleted
thresholds.json, metrics.json, calibration.json, report.md, scores.csv, tags-<split>.csv, plot-*.png
                    written by the evaluation at the end
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class RunError(ValueError):
    """A sentence saying why a run folder cannot be used and what to do."""


class RunFolder:
    def __init__(self, folder: Path | str, writes: bool = True) -> None:
        """`writes` is off for all processes but the first."""
        self.folder = Path(folder).absolute()
        self.writes = writes
        self.state: dict[str, Any] = {}
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

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def make(self) -> None:
        for folder in (self.checkpoints, self.cache, self.folder / "samples"):
            folder.mkdir(parents=True, exist_ok=True)

    def update(self, **values: Any) -> None:
        self.state |= values | {"updated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        if self.writes:
            write_json(self.folder / "state.json", self.state)

    def write_text(self, name: str, text: str) -> None:
        if self.writes:
            replace_text(self.folder / name, text)

    def write_json(self, name: str, value: Any) -> None:
        if self.writes:
            write_json(self.folder / name, value)

    def record(self, kind: str, **values: Any) -> None:
        """One line of metrics.jsonl."""
        if self.writes:
            with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **values}) + "\n")

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


def replace_text(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    temporary.replace(file)


def write_json(file: Path, value: Any) -> None:
    replace_text(file, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"There is no {file.name} in {file.parent}; train the run to its end first.") from error
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error}); start the run again in a new folder.") from error
