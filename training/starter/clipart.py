"""Openclipart, as Debian packs it: drawings in the public domain with keywords and a creator in their metadata."""

import html
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from training.starter.drawings import Drawing
from training.starter.vocabulary import general_tags

LARGEST = 600_000  # bytes; bigger files are traced photographs that take minutes to draw
# Generated stars and test patterns, and themes of desktop icons: thousands of near copies by a few hands.
SKIPPED = ("computer/", "shapes/stars/", "special/", "buttons/", "logos/", "unsorted/duplicates/")
FOLDER_TAGS = {
    "signs_and_symbols/flags": ("flag",),
    "signs_and_symbols/map_symbols": ("map_symbol", "symbol"),
    "signs_and_symbols": ("symbol",),
    "signs_and_symbols/led": ("led",),
    "signs_and_symbols/flags/semaphore": ("semaphore", "person"),
    "people/stickmen": ("stick_figure",),
    "people/bodypart": ("body_part",),
    "people/smilies": ("face",),
    "people": ("person",),
    "people/clothing": ("clothing",),
    "shapes": ("shape",),
    "transportation": (),
    "geography": ("map",),
    "geography/astronomy": ("space",),
    "recreation/games/cards": ("playing_card",),
    "animals": ("animal",),
    "office": ("office_supplies",),
    "recreation": (),
    "education": (),
    "science": (),
    "plants": ("plant",),
    "food": ("food",),
}
REPLACES = {"people/bodypart", "people/smilies", "people/clothing", "geography/astronomy", "signs_and_symbols/flags"}


def drawings(root: Path, words: Collection[str] = ()) -> Iterator[Drawing]:
    """Every usable drawing; a subject is a series (`cat_03` and `cat_04` are one).

    `words` are the words of a file's name that count as tags: most files are named for what they show, and for whom.
    """
    for file in sorted(root.rglob("*.svg")):
        path = file.relative_to(root).as_posix()
        if file.is_symlink() or path.startswith(SKIPPED) or file.stat().st_size > LARGEST:
            continue
        text = file.read_text("utf-8", errors="replace")
        if "PublicDomain" not in text and "publicdomain" not in text:
            continue
        named = [tag for tag in general_tags(re.split(r"[_\W\d]+", file.stem)) if tag in words]
        general = [*general_tags(keywords(text)), *folder_tags(file.parent.relative_to(root).as_posix()), *named]
        if "/smilies/" in path:
            general = [tag for tag in general if tag != "person"]
        if not general:
            continue
        artist = creator(text)
        yield Drawing(
            layers=(text,),
            tags={
                "general": general,
                "artist": [tag] if (tag := artist_tag(artist)) else [],
                "copyright": ["openclipart"],
                "meta": ["clipart"],
            },
            group=f"clipart {series(file)}",
            family="openclipart",
            source=f"openclipart {path}",
            artist=artist or "unknown",
            licence="public domain",
        )


def keywords(svg: str) -> list[str]:
    """The words of dc:subject."""
    bag = re.search(r"<dc:subject>(.*?)</dc:subject>", svg, re.S)
    return [html.unescape(word).strip() for word in re.findall(r"<rdf:li>(.*?)</rdf:li>", bag[1], re.S)] if bag else []


def creator(svg: str) -> str:
    """The name in dc:creator, without what stands around it."""
    for kind in ("creator", "rights", "publisher"):
        found = re.search(rf"<dc:{kind}>.*?<dc:title>(.*?)</dc:title>.*?</dc:{kind}>", svg, re.S)
        if found and (name := " ".join(html.unescape(found[1]).split())):
            return re.split(r"[<(\[,]|\bhttp", name)[0].strip()
    return ""


def artist_tag(name: str) -> str:
    """An artist's name as a tag; an organisation or nobody is none."""
    tag = re.sub(r"[^\w.]+", "_", name.lower()).strip("_.")
    return "" if tag in {"", "unknown", "anonymous", "open_clip_art_library", "openclipart", "agent"} else tag


def folder_tags(folder: str) -> list[str]:
    """Tags of the folder and those above it; the last name counts as a keyword."""
    parts = folder.split("/")
    found: list[str] = []
    for depth in range(len(parts), 0, -1):
        above = "/".join(parts[:depth])
        found += FOLDER_TAGS.get(above, general_tags([parts[depth - 1]]))
        if above in REPLACES:
            break
    return list(dict.fromkeys(found))


def series(file: Path) -> str:
    """The folder and the name without numbers, single letters and sizes."""
    words = re.split(r"[_\-.\s]+", re.sub(r"\d+", "_", file.stem.lower()))
    kept = [word for word in words if len(word) > 1 and word not in {"md", "bw", "th", "sm", "arch", "archit", "fr"}]
    return f"{file.parent.name}/{' '.join(kept) or file.stem.lower()}"
