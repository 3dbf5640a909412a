"""Put the seed gallery in: freely licensed pictures with tags that people gave them.

`gallery/seed/seed.json`: {"pictures": [{"file": "pictures/0001.webp", "md5": ..., "tags":
{"general": [...], "artist": [...], ...}, "source": ..., "credit": the line to show}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache as remembered
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import transaction

from gallery import tagging, uploading
from gallery.index import indexing
from gallery.models import Category, Post, Tag, Verdict, typed_name

FOLDER = settings.BASE_DIR / "gallery" / "seed"
_STATE = "seed:state"
_STATE_SECONDS = 60  # a worker that died leaves no state for long

Progress = Callable[[int, int], None]


class SeedError(ValueError):
    """A seed gallery that can't be read; the text is one sentence for the person."""


def install_seed(progress: Progress | None = None, folder: Path | None = None) -> int:
    """Store the pictures that are not there yet, with their tags as verdicts; returns how many were new.

    Twice is safe: a picture that the site has, or that was deleted from it, is left as it is.
    """
    folder = folder or FOLDER
    pictures = _read(folder)
    tags, new = _tags(pictures), 0
    for number, picture in enumerate(pictures, 1):
        new += _install(folder, picture, tags)
        if progress:
            progress(number, len(pictures))
    return new


def start() -> None:
    """Have a worker put the seed gallery in; `state` follows it."""
    remember(0, len(_pictures(FOLDER)))
    if not tagging.send("install_seed"):
        cache.set(_STATE, {"error": "No worker could be reached: see that Redis runs, then try again."}, _STATE_SECONDS)


def remember(done: int, total: int) -> None:
    """Keep how far the worker is, for a page to show."""
    cache.set(_STATE, {"done": done, "total": total}, _STATE_SECONDS)


def state() -> dict[str, Any]:
    """running, done and total pictures, and an error or ''; total is 0 where there is no seed gallery."""
    hashes = [picture["md5"] for picture in _pictures(FOLDER)]
    under_way = cache.get(_STATE) or {}
    done, total = under_way.get("done", 0), len(hashes)
    running = "error" not in under_way and bool(under_way) and done < total
    if not running:
        done = Post.objects.filter(md5__in=hashes).count()
    return {"running": running, "done": done, "total": total, "error": under_way.get("error", "")}


def examples(number: int) -> list[dict[str, str]]:
    """This many of the seed gallery's pictures, spread over it: their `name` and `credit`."""
    pictures = _pictures(FOLDER)
    step = max(1, len(pictures) // number)
    return [{"name": Path(one["file"]).stem, "credit": one["credit"]} for one in pictures[::step][:number]]


def example(name: str) -> Path | None:
    """The file of the seed gallery's picture called so."""
    return next((FOLDER / one["file"] for one in _pictures(FOLDER) if Path(one["file"]).stem == name), None)


@remembered
def _pictures(folder: Path) -> list[dict[str, Any]]:
    """The list of the seed that ships with the site; empty where it is left out."""
    return _read(folder) if (folder / "seed.json").is_file() else []


def _read(folder: Path) -> list[dict[str, Any]]:
    try:
        return json.loads((folder / "seed.json").read_text(encoding="utf-8"))["pictures"]
    except (OSError, ValueError, KeyError) as error:
        raise SeedError(f"The seed gallery in {folder} can't be read: get the program's files again.") from error


def _tags(pictures: list[dict[str, Any]]) -> dict[str, Tag]:
    """Tag rows by name, made where there are none."""
    wanted = {
        typed_name(name): Category.named(category)
        for picture in pictures
        for category, names in picture["tags"].items()
        for name in names
    }
    Tag.objects.bulk_create(
        [Tag(name=name, category=category) for name, category in wanted.items()], ignore_conflicts=True
    )
    return {tag.name: tag for tag in Tag.objects.filter(name__in=wanted)}


@transaction.atomic
def _install(folder: Path, picture: dict[str, Any], tags: dict[str, Tag]) -> bool:
    """One picture with its verdicts, both or neither; True when it was new."""
    path = folder / picture["file"]
    try:
        with path.open("rb") as file:
            stored = uploading.store(file, name=path.name, source=picture["source"], credit=picture["credit"])
    except OSError as error:
        raise SeedError(f"The seed gallery's {path.name} can't be read: get the program's files again.") from error
    except uploading.Refused:
        return False
    if stored.created:
        names = {typed_name(name) for listed in picture["tags"].values() for name in listed}
        Verdict.objects.bulk_create(
            Verdict(post=stored.post, tag=tags[name], answer=True, origin=Verdict.Origin.SEED) for name in sorted(names)
        )
        indexing.rebuild([stored.post.pk])
    return stored.created
