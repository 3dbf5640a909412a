"""Saved samples: pictures with their tags and what both stages said of them, as `training/run.py` describes them.

The page gets one row per tag: name, category, truth (true, false, or null where nobody knows), a confidence by stage,
and, for the tags that the first stage selected for the second, the place among them.
"""

import re
from pathlib import Path
from typing import Any

from training.monitor.runs import Run, Unreadable, changed, read_json

PICTURE_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
LARGEST_PICTURE = 32 * 2**20
STAGES = ("initial", "refined")
MOST_SAVED, MOST_PICTURES, MOST_TAGS = 2000, 256, 4000
NAME = re.compile(r"\w[\w.-]*")
SAVED = re.compile(r"step-(\d+)-(\w+)")
Table = dict[str, Any]


def saved(run: Run) -> list[Table]:
    """The files of samples, oldest first."""
    found = []
    for file in (run.folder / "samples").glob("*.json"):
        if match := SAVED.fullmatch(file.stem):
            found.append({"name": file.name, "step": int(match[1]), "kind": match[2], "at": changed(file)})
    return sorted(found, key=lambda one: (one["step"], one["kind"]))[-MOST_SAVED:]


def inside(run: Run, name: str, folder: str = "samples") -> Path:
    """A file directly in the samples, by its plain name; nothing else can be named, nor reached over a link."""
    place = run.folder / folder
    file = place / name
    if not NAME.fullmatch(name) or not file.is_file() or file.resolve().parent != place.resolve():
        raise Unreadable("That sample is not there any more.")
    return file


def picture(run: Run, name: str) -> tuple[bytes, str]:
    """A picture's bytes, and its type judged by them; anything but a picture is refused."""
    file = inside(run, name, "samples/pictures")
    try:
        body = file.read_bytes() if file.stat().st_size <= LARGEST_PICTURE else b""
    except OSError as error:
        raise Unreadable(f"{name} cannot be read.") from error
    for start, kind in PICTURE_TYPES.items():
        if body.startswith(start):
            return body, kind
    raise Unreadable(f"{name} is no picture.")


def read(run: Run, name: str) -> Table:
    found = as_table(read_json(inside(run, name)))
    return {
        "name": name,
        "step": number(found.get("step")),
        "epoch": number(found.get("epoch")),
        "kind": str(found.get("kind") or ""),
        "thresholds": thresholds(found.get("thresholds")),
        "pictures": [of_picture(sample) for sample in as_list(found.get("samples"))[:MOST_PICTURES]],
    }


def of_picture(found: Any) -> Table:
    sample = as_table(found)
    tags: dict[str, Table] = {}
    for name in map(str, as_list(sample.get("true"))[:MOST_TAGS]):
        tags[name] = {"name": name, "category": "", "truth": True}
    for row in rows(sample.get("predicted")):
        tags[row["name"]] = tags.get(row["name"], {}) | row
    for place, row in enumerate(rows(sample.get("selected"))):
        tags[row["name"]] = tags.get(row["name"], {}) | row | {"place": place}
    file = sample.get("picture")
    return {
        "id": str(sample.get("md5") or ""),
        "picture": Path(file).name if isinstance(file, str) else None,
        "selects": isinstance(sample.get("selected"), dict),
        "tags": list(tags.values()),
    }


def rows(found: Any) -> list[Table]:
    """Columns {"tags", "categories", "initial", "refined", "truth"} as rows; a column that is missing stays missing."""
    columns = as_table(found)
    categories, truth = as_list(columns.get("categories")), as_list(columns.get("truth"))
    stages = {stage: as_list(columns.get(stage)) for stage in STAGES if columns.get(stage)}
    told = []
    for at, name in enumerate(as_list(columns.get("tags"))[:MOST_TAGS]):
        known = truth[at] if at < len(truth) else None
        row = {
            "name": str(name),
            "category": str(categories[at]) if at < len(categories) else "",
            "truth": None if known is None else bool(known),
        }
        told.append(row | {stage: number(values[at]) for stage, values in stages.items() if at < len(values)})
    return told


def thresholds(found: Any) -> dict[str, dict[str, float]]:
    """{stage: {"overall" or category: threshold}}, without what is no number."""
    return {
        str(stage): {str(group): float(value) for group, value in as_table(groups).items() if number(value) is not None}
        for stage, groups in as_table(found).items()
    }


def number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_table(value: Any) -> Table:
    return value if isinstance(value, dict) else {}
