"""Avatars drawn by DiceBear's styles: every part drawn is known, so every tag is exact.

The art is by people; which parts meet in one picture is chosen by the seed. The same seed draws the same pictures.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from dicebear import Avatar, Style

from training.starter.avatar_tags import NAMED, PRESENT
from training.starter.colors import color_name, hair_color, is_dark
from training.starter.drawings import Drawing

# Styles under CC0 or CC BY. Left out: avataaars and bottts ("free for personal and commercial use", no licence).
# style -> tags of the whole style in general and meta
STYLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lorelei": (("person", "portrait"), ("monochrome", "line_art")),
    "notionists": (("person", "portrait", "upper_body"), ("monochrome", "line_art")),
    "open-peeps": (("person", "portrait", "upper_body"), ("line_art",)),
    "pixel-art": (("person", "portrait"), ("pixel_art",)),
    "voxel-art": (("person", "full_body"), ("3d",)),
    "critters": (("monster",), ("flat_color",)),
    "sprouts": (("plant", "potted_plant"), ("flat_color",)),
    "adventurer": (("person", "portrait"), ("flat_color",)),
    "micah": (("person", "portrait"), ("flat_color",)),
    "personas": (("person", "portrait", "upper_body"), ("flat_color",)),
    "big-smile": (("person", "portrait"), ("flat_color",)),
    "big-ears": (("person", "portrait"), ("flat_color",)),
    "croodles": (("person", "portrait"), ("line_art", "sketch")),
    "miniavs": (("person", "portrait", "upper_body"), ("flat_color",)),
    "toon-head": (("person", "portrait", "upper_body"), ("flat_color",)),
    "dylan": (("person", "portrait"), ("flat_color",)),
    "fun-emoji": (("face",), ("flat_color",)),
}
HAIR_COLORS = {"hairColor": "hair", "topColor": "top"}  # option -> the part it colours
CLOTHES_COLORS = ("shirtColor", "clothingColor", "clothesColor")
BALD = {"bald", "hijab", "turban"}


@dataclass(frozen=True)
class AvatarStyle:
    """One style read from its package, with who drew it and under which licence."""

    name: str
    style: Style
    artist: str
    licence: str
    source: str

    @classmethod
    @cache
    def read(cls, name: str) -> "AvatarStyle":
        text = resources.files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8")
        meta = json.loads(text)["meta"]
        return cls(
            name=name,
            style=Style(json.loads(text)),
            artist=meta["creator"]["name"],
            licence=meta["license"]["name"],
            source=meta["license"]["text"],
        )


def avatars(
    count: int, seed: int = 0, size: int = 160, styles: Sequence[str] = tuple(STYLES)
) -> Iterator[dict[str, object]]:
    """`count` dataset rows, the styles in turn, longer side `size` pixels; a subject is one avatar.

    Reading a style takes about a second (its package checks the whole definition), so a quick test names a few.
    """
    for drawing in drawings(count, seed, styles):
        yield drawing.row(size)


def drawings(count: int, seed: int | str = 0, styles: Sequence[str] = tuple(STYLES)) -> Iterator[Drawing]:
    """`count` avatars, the styles in turn."""
    read = [AvatarStyle.read(name) for name in styles[:count]]
    for number in range(count):
        yield avatar(read[number % len(read)], f"{seed}-{number}")


def avatar(style: AvatarStyle, seed: str) -> Drawing:
    """The avatar that this seed draws in this style."""
    drawn = Avatar(style.style, {"seed": seed})
    general, meta = STYLES[style.name]
    return Drawing(
        layers=(str(drawn),),
        tags={
            "general": [*general, *sorted(part_tags(drawn.to_json()["options"]))],
            "meta": ["avatar", *meta],
            "artist": [snake(style.artist.split(" - ")[0])],
            "copyright": [f"dicebear_{snake(style.name)}"],
        },
        group=f"avatar {style.name} {seed}",
        family=f"dicebear-{style.name}",
        source=style.source,
        artist=style.artist,
        licence=style.licence,
    )


def part_tags(options: dict[str, object]) -> set[str]:
    """The tags of the parts and colours drawn."""
    parts = {key.removesuffix("Variant"): str(value) for key, value in options.items() if key.endswith("Variant")}
    tags = {tag for part in parts for tag in PRESENT.get(part, ())}
    for part, variant in parts.items():
        names = NAMED.get(part, {})
        fitting = [start for start in names if variant.startswith(start)]
        if fitting:
            tags.update(names[max(fitting, key=len)])
    return tags | _colors(options, parts, tags)


def _colors(options: dict[str, object], parts: dict[str, str], tags: set[str]) -> set[str]:
    """Tags of the colours that can be seen: hair, skin, clothes, background."""

    def first(option: str) -> str | None:
        codes = options.get(option)
        return codes[0] if isinstance(codes, list) and codes else None

    found = set()
    for option, part in HAIR_COLORS.items():
        if part in parts and (code := first(option)) and not tags & BALD:
            found.add(hair_color(code))
    if (code := first("skinColor") or (first("baseColor") if "ears" in parts else None)) and is_dark(code):
        found.add("dark_skin")
    if any(part in parts for part in ("clothes", "outfit", "body")) or "clothingColor" in options:
        found.update(f"{color_name(code)}_shirt" for option in CLOTHES_COLORS if (code := first(option)))
    if code := first("backgroundColor"):
        found.add(f"{color_name(code)}_background")
    return found


def snake(name: str) -> str:
    """A name as a tag: lower case, underscores."""
    return "_".join(name.lower().replace("-", " ").replace("(", "").replace(")", "").split())
