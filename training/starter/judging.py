"""What the starter's card says beyond any release's: its data, its leaks guarded, the price of a strange style.

    python -m training.starter card --release FOLDER --dataset FOLDER

Rewrites the release's card.md, metrics.json and CREDITS.md.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tagger.inference import Predictor
from tagger.thresholds import site_profiles
from training import dataset
from training.starter.splitting import TEST, fraction

BATCH = 64
MARK = "## How it was held to account"


class Tally:
    """True positives, wrong and missed tags."""

    def __init__(self) -> None:
        self.right = self.wrong = self.missed = self.pictures = 0

    def add(self, said: set[str], true: set[str]) -> None:
        self.right += len(said & true)
        self.wrong += len(said - true)
        self.missed += len(true - said)
        self.pictures += 1

    def f1(self) -> float:
        """Micro F1."""
        return 2 * self.right / max(2 * self.right + self.wrong + self.missed, 1)


def judge(release: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Micro F1 on general tags by art source, on subjects never trained on, and in the style left out."""
    predictor = Predictor(release)
    vocabulary, profile = predictor.release.vocabulary, site_profiles(predictor.release.thresholds)[2]
    threshold = profile.threshold("general")
    general = {tag for tag, category in enumerate(vocabulary.categories) if category == "general"}
    splits = dataset.read(folder).splits
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    for name in ("test", "style"):
        for row, tags, confidences in _predicted(predictor, splits.get(name, ())):
            said = {
                vocabulary.names[t] for t, c in zip(tags, confidences, strict=True) if c >= threshold and t in general
            }
            for key in keys(name, row):
                tallies[key].add(said, set(row["tags_general"]))
    return {key: {"pictures": t.pictures, "general_micro_f1": round(t.f1(), 4)} for key, t in sorted(tallies.items())}


def keys(split: str, row: Mapping[str, object]) -> list[str]:
    """The rows of the card's table a picture counts in."""
    held = fraction(str(row["group"])) < TEST
    if split == "style":
        return ["strange style, new subjects" if held else "strange style, known subjects"]
    family = str(row["family"])
    source = family.split("-")[0] if family.startswith(("dicebear", "openmoji")) else family
    known = not family.startswith(("dicebear", "openclipart", "comicgen"))
    return [f"source {source}", *(["known emoji styles, new subjects"] if known else [])]


def _predicted(
    predictor: Predictor, rows: Sequence[Mapping[str, object]]
) -> Iterator[tuple[Mapping[str, object], np.ndarray, np.ndarray]]:
    for start in range(0, len(rows), BATCH):
        batch = [rows[at] for at in range(start, min(start + BATCH, len(rows)))]
        images = [Image.open(BytesIO(row["image"]["bytes"])) for row in batch]
        for row, found in zip(batch, predictor.predict(images), strict=True):
            yield row, found.indices, found.confidences


def write_card(release: Path, folder: Path, credits: str) -> None:
    """Adds the starter's own part to the card, the figures to metrics.json, and CREDITS.md beside them."""
    found = judge(release, folder)
    metrics = json.loads((release / "metrics.json").read_text("utf-8")) | {"sources": found}
    (release / "metrics.json").write_text(json.dumps(metrics, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (release / "CREDITS.md").write_text(credits, "utf-8")
    card = (release / "card.md").read_text("utf-8").split(f"\n{MARK}")[0].rstrip()
    (release / "card.md").write_text(f"{card}\n\n{section(found, dataset.read(folder).about)}", "utf-8")


def section(found: Mapping[str, Mapping[str, float]], about: Mapping[str, object]) -> str:
    """The starter's part of the card, as Markdown."""
    rows = [f"| {key} | {part['pictures']} | {part['general_micro_f1']:.3f} |" for key, part in found.items()]
    return "\n".join(
        [
            MARK,
            "",
            "It tags emoji, clipart, avatars and simple comics of the styles it saw. It is no anime tagger.",
            "",
            "- **test** holds whole subjects that training never saw, in any style: if the hedgehog is held out, every",
            "  artist's hedgehog is. One subject are: skin tones (left out of the data), man, woman and person of one",
            "  activity, hours of the clock face, phases of the moon, hearts and circles of all colours, directions of",
            "  an arrow, keycaps, families, numbered series of clipart. Held-out drawings that look like a training",
            "  picture of another name (16 x 16 grey pixels) were thrown away.",
            "- **seen** holds other drawings of subjects that training saw in another style.",
            "- **style** is an art source that training never saw "
            f"({about['filters']['style_left_out']}). Its artist and copyright tags are not in the vocabulary.",
            "- Avatars and comics are put together from parts: their held-out pictures are new combinations of known",
            "  parts, which is easy. The figures by source show it.",
            "",
            "Micro F1 on general tags at the category's balanced threshold:",
            "",
            "| pictures of | number | micro F1 |",
            "|---|--:|--:|",
            *rows,
            "",
            "The keywords of emoji and clipart were written for searching, so some that could be seen are missing and",
            "some that cannot be seen are there: part of the error is theirs. Made by",
            "`python -m training.starter build`, `python -m training.train starter` and, on its release,",
            "`python -m training.train starter-head`.",
            "",
        ]
    )
