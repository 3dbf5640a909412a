"""Emoji of seven artists' sets, tagged with emojibase's and OpenMoji's keywords.

Only emoji without a skin tone: the toned ones are near copies of them.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.starter.drawings import Drawing
from training.starter.emoji_tags import EXTRAS, SUBGROUPS
from training.starter.vocabulary import general_tags

# package -> family, tag of the set, artist, licence, meta tags
ICONIFY = {
    "@iconify-json/noto": ("noto", "noto_emoji", "Google", "Apache-2.0", []),
    "@iconify-json/noto-v1": ("noto-v1", "noto_emoji_v1", "Google", "Apache-2.0", []),
    "@iconify-json/twemoji": ("twemoji", "twemoji", "Twitter", "CC BY 4.0", ["flat_color"]),
    "@iconify-json/fluent-emoji-flat": ("fluent-emoji-flat", "fluent_emoji", "Microsoft", "MIT", ["flat_color"]),
    "@iconify-json/emojione": ("emojione", "emojitwo", "EmojiTwo", "CC BY 4.0", ["flat_color"]),
    "@iconify-json/streamline-emojis": ("streamline", "streamline_emojis", "Streamline", "CC BY 4.0", ["flat_color"]),
}
OPENMOJI_SOURCE = "https://openmoji.org/library/emoji-{}/"
DROPPED_GROUPS = {"brand", "regional-indicator", "skin-tone", "hair-style", "ui-element", "symbol-other"}
GENDER = re.compile(r"\b(man|men|woman|women|person|persons|people|boy|girl|old|older|lady|mr|mrs|deaf)\b")
COLORS = re.compile(r"\b(red|orange|yellow|green|blue|light blue|purple|brown|black|white|grey|pink)\b")
COLORED = re.compile(r"\b(heart|circle|square|diamond|book|flag|medal)$")
DIRECTIONS = re.compile(
    r"\b(up|down|left|right|upwards|downwards|leftwards|rightwards|curving|facing|small|medium|large|vertical|"
    r"horizontal|button|index|pointing|backhand|fast|last|next|track|slow|reverse)\b|-"
)


@dataclass(frozen=True)
class Subject:
    """What one emoji shows, whoever draws it."""

    code: str
    label: str
    group: str
    general: tuple[str, ...]
    character: tuple[str, ...]


def subject_group(label: str) -> str:
    """The key under which near copies are one subject: gender, direction, colour, hour, hair and number dropped."""
    text = label.lower()
    if text.startswith("flag:"):
        return text
    if re.search(r"o[’']clock|-thirty", text):
        return "clock face"
    if text.startswith("keycap"):
        return "keycap"
    if "moon" in text and text != "moon cake":
        return "moon"
    text = text.split(":")[0]
    if "arrow" in text or "triangle" in text:
        return " ".join(DIRECTIONS.sub(" ", text).split()) or "arrow"
    text = re.sub(r"\bfacing (left|right)\b", "", GENDER.sub(" ", text))
    if COLORED.search(text):
        text = COLORS.sub(" ", text)
    text = " ".join(DIRECTIONS.sub(" ", text).split()) if "pointing" in text or "square" in text else text
    return " ".join(text.split()) or "person"


def subjects(emojibase: Path) -> dict[str, Subject]:
    """Every emoji without skin tone of emojibase, by hexcode without variation selectors."""
    names = json.loads((emojibase / "meta" / "groups.json").read_text("utf-8"))["subgroups"]
    found = {}
    for entry in json.loads((emojibase / "en" / "data.json").read_text("utf-8")):
        subgroup = names.get(str(entry.get("subgroup")), "")
        if not subgroup or subgroup in DROPPED_GROUPS:
            continue
        code = plain(entry["hexcode"])
        found[code] = subject(code, entry["label"], subgroup, entry.get("tags", []))
    return found


def subject(code: str, label: str, subgroup: str, words: list[str]) -> Subject:
    group = subject_group(label)
    general = [*SUBGROUPS.get(subgroup, EXTRAS.get(subgroup, ())), *general_tags(words)]
    character = []
    if subgroup == "person-fantasy":
        name = "santa claus" if "claus" in group else re.sub(r"[^a-z ]", "", group)
        character = ["_".join(name.split())]
    return Subject(code, label, f"emoji {group}", tuple(dict.fromkeys(general)), tuple(character))


def plain(hexcode: str) -> str:
    """A hexcode without variation selectors, as the sets disagree about them."""
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


def openmoji(folder: Path, known: dict[str, Subject]) -> Iterator[Drawing]:
    """OpenMoji, in colour and in black lines: the one set with an author and a date for each drawing."""
    for entry in json.loads((folder / "data" / "openmoji.json").read_text("utf-8")):
        subgroup = entry["subgroups"]
        if entry["skintone"] or subgroup in DROPPED_GROUPS:
            continue
        shown = known.get(plain(entry["hexcode"]))
        if shown is None:
            words = re.split(r",\s*", f"{entry['tags']}, {entry['openmoji_tags']}")
            shown = subject(entry["hexcode"], entry["annotation"], subgroup, words)
        year = entry["openmoji_date"][:4]
        for variant, meta in (("color", ["flat_color"]), ("black", ["line_art", "monochrome"])):
            if variant == "black" and "flag" in subgroup:
                continue  # empty boxes
            file = folder / variant / "svg" / f"{entry['hexcode']}.svg"
            if file.exists():
                yield Drawing(
                    layers=(file.read_text("utf-8"),),
                    tags=_tags(shown, "openmoji", entry["openmoji_author"], meta)
                    | {"year": [f"year_{year}"] if year.isdigit() else []},
                    group=shown.group,
                    family=f"openmoji-{variant}",
                    source=OPENMOJI_SOURCE.format(entry["hexcode"]),
                    artist=entry["openmoji_author"],
                    licence="CC BY-SA 4.0",
                )


def iconify(package: str, folder: Path, known: dict[str, Subject]) -> Iterator[Drawing]:
    """One of the sets that iconify packs: {name: body}, and which hexcode a name is."""
    family, title, artist, licence, meta = ICONIFY[package]
    icons = json.loads((folder / "icons.json").read_text("utf-8"))
    names = {plain(code): name for code, name in json.loads((folder / "chars.json").read_text("utf-8")).items()}
    for code, shown in known.items():
        name = names.get(code) or _slug(shown.label)
        icon = icons["icons"].get(name)
        if icon is None:
            continue
        width, height = icon.get("width", icons["width"]), icon.get("height", icons.get("height", icons["width"]))
        yield Drawing(
            layers=(f'<svg {NAMESPACES} viewBox="0 0 {width} {height}">{icon["body"]}</svg>',),
            tags=_tags(shown, title, artist, meta),
            group=shown.group,
            family=family,
            source=f"{package} {name}",
            artist=artist,
            licence=licence,
        )


NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def _tags(shown: Subject, title: str, artist: str, meta: list[str]) -> dict[str, list[str]]:
    return {
        "general": list(shown.general),
        "character": list(shown.character),
        "artist": ["_".join(artist.lower().split())],
        "copyright": [title],
        "meta": ["emoji", *meta],
    }
