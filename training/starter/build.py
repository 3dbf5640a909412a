"""Builds the starter's dataset folder: fetch, draw, choose the tags, split, write."""

import logging
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from training import dataset
from training.starter import avatars, clipart, comics, emoji, packages
from training.starter.drawings import Drawing
from training.starter.rendering import RenderError
from training.starter.rows import CATEGORIES
from training.starter.splitting import split
from training.starter.vocabulary import choose

log = logging.getLogger(__name__)
STYLE_OUT = "fluent-emoji-flat"  # the art source that is left out, to show what a strange style costs
AVATARS = 3060
SIZE = 160
SPLITS = ("train", "validation", "test", "seen", "style")


def build(
    out: Path, work: Path, *, style: str | None = STYLE_OUT, size: int = SIZE, processes: int = 2, seed: int = 0
) -> Counter[str]:
    """Writes the dataset folder `out` and returns how many pictures went where, and what was dropped and why."""
    packages.check()
    counts: Counter[str] = Counter()
    rows = list(_drawn(all_drawings(packages.fetch(work), seed), size, processes, counts))
    names = split(rows, style)
    trained = [row for row, name in zip(rows, names, strict=True) if name == "train"]
    vocabulary = choose(trained, CATEGORIES)
    parts: dict[str, list[dict[str, object]]] = {name: [] for name in SPLITS}
    for row, name in zip(rows, names, strict=True):
        known = _known(row, vocabulary)
        reason = "dropped: near copy of a training picture" if not name else "dropped: no tag of the vocabulary"
        if name and known["tags_general"]:
            parts[name].append(known)
            counts[name] += 1
        else:
            counts[reason] += 1
    dataset.write(out, {name: part for name, part in parts.items() if part}, about(vocabulary, style, size, seed))
    for what, number in sorted(counts.items()):
        log.info("%6d %s", number, what)
    return counts


def all_drawings(folders: dict[str, Path], seed: int = 0) -> Iterator[Drawing]:
    """Every drawing of every package, not drawn yet."""
    known = emoji.subjects(folders["emojibase-data"])
    yield from emoji.openmoji(folders["openmoji"], known)
    for package in emoji.ICONIFY:
        yield from emoji.iconify(package, folders[package], known)
    words = {tag for subject in known.values() for tag in subject.general}
    yield from clipart.drawings(packages.OPENCLIPART, words)
    yield from comics.drawings(folders["comicgen"], seed)
    yield from avatars.drawings(AVATARS, seed)


def about(vocabulary: dict[str, dict[str, int]], style: str | None, size: int, seed: int) -> dict[str, object]:
    """What dataset.json says of the build."""
    versions = ", ".join(f"{name} {version}" for name, version in packages.NPM.items())
    return {
        "name": "starter",
        "source": f"{versions}, openclipart-svg, dicebear-styles 10.6.0",
        "licence": "CC-BY-SA-4.0",
        "filters": {"style_left_out": style, "size": size, "seed": seed, "skin_tones": False},
        "vocabulary": [
            {"name": name, "category": category, "count": count}
            for category, tags in vocabulary.items()
            for name, count in tags.items()
        ],
    }


def _known(row: dict[str, object], vocabulary: dict[str, dict[str, int]]) -> dict[str, object]:
    """The row with only the tags of the vocabulary."""
    return row | {
        f"tags_{name}": [tag for tag in row[f"tags_{name}"] if tag in vocabulary[name]] for name in CATEGORIES
    }


def _drawn(drawings: Iterator[Drawing], size: int, processes: int, counts: Counter[str]) -> Iterator[dict[str, object]]:
    """The rows of all drawings, drawn in several processes; identical pictures only once."""
    seen: set[str] = set()
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for row in pool.imap(_draw, ((drawing, size) for drawing in drawings), chunksize=32):
            if isinstance(row, str):
                counts[f"dropped: not drawn ({row})"] += 1
            elif row["md5"] in seen:
                counts["dropped: the same picture again"] += 1
            else:
                seen.add(row["md5"])
                counts[f"from {row['family']}"] += 1
                yield row


def _draw(job: tuple[Drawing, int]) -> dict[str, object] | str:
    drawing, size = job
    try:
        return drawing.row(size)
    except RenderError as error:
        message = str(error)
        return message if message.startswith("The drawing") else f"both renderers refuse {drawing.family}"
