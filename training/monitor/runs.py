"""Which runs there are below some folders, and how each is: going on, silent, crashed, finished.

Only what `training/run.py` describes is read, and a field that is missing is missing on the page too.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.monitor.metrics import Metrics

DEPTH, MOST_RUNS = 3, 500
LONGEST_JSON = 64 * 2**20
SILENT_SECONDS = 60  # a run writes about every two; one that writes rarely may rest for six of its usual pauses
SILENT_PAUSES = 6
QUIET_SECONDS = {"preparing": 900, "trained": 900}  # decoding pictures and the last evaluation say little


class Unreadable(ValueError):
    """A sentence for the page."""


@dataclass
class Run:
    name: str
    folder: Path
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.folder / "metrics.jsonl")

    def about(self, now: float) -> dict[str, Any]:
        """What the list of runs shows."""
        try:
            state, problem = table(self.folder / "state.json"), ""
        except Unreadable as error:
            state, problem = {}, str(error)
        heard = max((changed(self.folder / name) for name in ("state.json", "metrics.jsonl")), default=0.0)
        kind, sentence = health(state, now - heard if heard else None, self.pause())
        return {
            "name": self.name,
            "state": state,
            "health": kind,
            "sentence": problem or sentence,
            "silent": round(now - heard, 1) if heard else None,
            "started": changed(self.folder / "config.toml") or None,
        }

    def pause(self) -> float:
        """Seconds that usually lie between two rows of training, 0 where that is not known."""
        series = self.metrics.series.get("train")
        if not series or "elapsed" not in series.columns or series.rows < 2:
            return 0.0
        return series.last.get("elapsed", 0.0) / series.rows


def health(state: dict[str, Any], silent: float | None, pause: float = 0.0) -> tuple[str, str]:
    """(running, silent, crashed, stopped or finished; a sentence where there is something to say)"""
    status, again = state.get("status"), "the same training command goes on from the last checkpoint."
    if status == "finished":
        return "finished", ""
    if status in ("stopped", "failed"):
        error = str(state.get("error") or "")
        return (
            ("crashed", f"The run ended with an error: {error}") if error else ("stopped", f"It was stopped; {again}")
        )
    if silent is not None and silent > 2 and gone(state, silent):
        return "crashed", f"Its process ({state['pid']}) is gone; the last news is {in_words(silent)} old; {again}"
    quiet = QUIET_SECONDS.get(str(status), SILENT_SECONDS)
    if silent is not None and silent > max(quiet, SILENT_PAUSES * pause):
        return "silent", f"No news for {in_words(silent)}. Look at its console; if it ended, {again}"
    return "running", ""


def gone(state: dict[str, Any], silent: float) -> bool:
    """Whether its process was on this machine and is no more; without a host name, silence has to say so as well."""
    pid, host = state.get("pid"), state.get("host")
    if not isinstance(pid, int) or pid <= 0 or (silent < SILENT_SECONDS if host is None else host != platform.node()):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def in_words(seconds: float) -> str:
    if seconds < 5400:
        return f"{max(round(seconds / 60), 1)} min"
    return f"{round(seconds / 3600)} h" if seconds < 2 * 86400 else f"{round(seconds / 86400)} days"


class Runs:
    """The runs below some folders; a folder may be a run itself, and need not be there yet."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [folder.absolute() for folder in folders]
        self.lock = threading.Lock()
        self.found: dict[str, Run] = {}
        self.looked = 0.0

    def all(self) -> dict[str, Run]:
        """By name, looked for again after a second; a run that is still there keeps what was read of it."""
        with self.lock:
            if time.monotonic() - self.looked > 1 or not self.found:
                before = {run.folder: run for run in self.found.values()}
                self.found = {}
                for name, folder in self.walk():
                    run = before.get(folder)
                    self.found[name] = run if run and run.name == name else Run(name, folder)
                self.looked = time.monotonic()
            return self.found

    def get(self, name: str) -> Run | None:
        return self.all().get(name)

    def walk(self) -> Iterator[tuple[str, Path]]:
        names: set[str] = set()
        for folder in self.folders:
            for run in below(folder, DEPTH):
                relative = run.relative_to(folder).as_posix()
                name = folder.name if relative == "." else relative
                if name in names:
                    name = str(run)
                if name not in names and len(names) < MOST_RUNS:
                    names.add(name)
                    yield name, run


def below(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
    elif depth:
        try:
            children = sorted(child for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
        except OSError:
            return
        for child in children:
            yield from below(child, depth - 1)


def is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("state.json", "metrics.jsonl"))


def changed(file: Path) -> float:
    """When a file was last written; 0 when it is not there."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def read_json(file: Path) -> Any:
    """Raises Unreadable; a file that is not there is None."""
    try:
        if file.stat().st_size > LONGEST_JSON:
            raise Unreadable(f"{file.name} is larger than {LONGEST_JSON // 2**20} MB and was not read.")
        return json.loads(file.read_text("utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(f"{file.name} cannot be read ({error}).") from error


def table(file: Path) -> dict[str, Any]:
    """A JSON object; empty when the file is not there."""
    found = read_json(file)
    return found if isinstance(found, dict) else {}
