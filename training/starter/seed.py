"""Makes the seed gallery: about 150 freely licensed pictures with tags by people, for a first page that is not empty.

    seed.json      {"pictures": [{"file", "md5", "tags": {category: [names]}, "source", "artist", "licence", "credit"}]}
    pictures/      WebP, 512 pixels
    CREDITS.md     who drew what, under which licence, and what was changed

There is no rating: nobody rated these drawings.
"""

import dataclasses
import hashlib
import json
import random
import re
import shutil
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from training.starter import avatars, clipart, comics, emoji, packages
from training.starter.credits import credit_line, credits_page
from training.starter.drawings import Drawing
from training.starter.seed_choice import AVATAR_STYLES, AVATARS, CLIPART, COMICS, OPENMOJI, TWIN_SETS, TWINS
from training.starter.splitting import TEST, fraction

SIZE = 512
QUALITY = 88


def make(out: Path, work: Path) -> int:
    """Writes the seed gallery into `out`, replacing what is there, and returns the number of pictures."""
    packages.check()
    drawings = mixed(chosen(packages.fetch(work)))
    shutil.rmtree(out / "pictures", ignore_errors=True)
    (out / "pictures").mkdir(parents=True)
    pictures = [_write(drawing, out, number) for number, drawing in enumerate(drawings, 1)]
    (out / "seed.json").write_text(json.dumps({"pictures": pictures}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (out / "CREDITS.md").write_text(credits_page(drawings), "utf-8")
    return len(pictures)


def chosen(folders: dict[str, Path]) -> dict[str, list[Drawing]]:
    """The drawings of the gallery by source."""
    known = emoji.subjects(folders["emojibase-data"])
    openmoji = {_code(drawing): drawing for drawing in emoji.openmoji(folders["openmoji"], known) if _colour(drawing)}
    clips = {drawing.source.split()[-1]: drawing for drawing in clipart.drawings(packages.OPENCLIPART)}
    return {
        "openmoji": [_seen(openmoji[code], words) for code, words in OPENMOJI.items()],
        "twins": list(_twins(folders, known)),
        "clipart": [_seen(clips[path], words) for path, words in CLIPART.items()],
        "avatars": list(avatars.drawings(AVATARS, "gallery", AVATAR_STYLES)),
        "comics": _comics(folders["comicgen"]),
    }


def mixed(parts: dict[str, list[Drawing]]) -> list[Drawing]:
    """All drawings, every source spread evenly over the whole, so that each page shows all of them."""
    placed = [
        ((number + 0.5 + order / 10) / len(part), drawing)
        for order, part in enumerate(parts.values())
        for number, drawing in enumerate(part)
    ]
    return [drawing for _, drawing in sorted(placed, key=lambda place: place[0])]


def _twins(folders: dict[str, Path], known: dict[str, emoji.Subject]) -> Iterator[Drawing]:
    for package, source in TWIN_SETS.items():
        for drawing in emoji.iconify(package, folders[package], {code: known[code] for code in TWINS}):
            code = next(code for code in TWINS if known[code].group == drawing.group)
            yield _seen(dataclasses.replace(drawing, source=source), OPENMOJI[code])


def _comics(folder: Path) -> list[Drawing]:
    """Two combinations of each character that training never saw."""
    held = [drawing for drawing in comics.drawings(folder) if fraction(drawing.group) < TEST]
    by_character: dict[str, list[Drawing]] = {}
    for drawing in held:
        by_character.setdefault(drawing.tags["character"][0], []).append(drawing)
    each = COMICS // len(by_character)
    picked = [drawing for part in by_character.values() for drawing in _richest(part)[:each]]
    random.Random(1).shuffle(picked)
    return picked


def _richest(drawings: Iterable[Drawing]) -> list[Drawing]:
    """Those with most to see first."""
    return sorted(drawings, key=lambda drawing: -len(drawing.tags["general"]))


def _seen(drawing: Drawing, words: str) -> Drawing:
    return dataclasses.replace(drawing, tags=drawing.tags | {"general": words.split()})


def _code(drawing: Drawing) -> str:
    return re.search(r"emoji-([0-9A-F-]+)", drawing.source)[1]


def _colour(drawing: Drawing) -> bool:
    return drawing.family == "openmoji-color"


def _write(drawing: Drawing, out: Path, number: int) -> dict[str, object]:
    encoded = BytesIO()
    drawing.picture(SIZE).save(encoded, "WEBP", quality=QUALITY, method=6)
    data = encoded.getvalue()
    file = f"pictures/{number:04}.webp"
    (out / file).write_bytes(data)
    return {
        "file": file,
        "md5": hashlib.md5(data).hexdigest(),
        "tags": {category: sorted(set(tags)) for category, tags in drawing.tags.items() if tags},
        "source": re.sub(r"^.*?\((https?://[^)\s]+)\).*$", r"\1", drawing.source),
        "artist": drawing.artist,
        "licence": drawing.licence,
        "credit": credit_line(drawing),
    }
