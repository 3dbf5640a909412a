"""Which pictures are kept for judging: whole subjects, so that no near copy of a judged drawing was trained on."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from PIL import Image

TEST, VALIDATION, SEEN = 0.12, 0.06, 0.08
NEAR = 0.035  # root mean square difference of 16 x 16 grey pixels under which two drawings are near copies
COMPOSED = ("comicgen", "dicebear-")  # new combinations of known parts: alike by making, and said so on the card
JUDGED = ("validation", "test")


def split(rows: Sequence[Mapping[str, object]], style: str | None) -> list[str]:
    """The split of every row: train, validation, test (subjects never trained on), seen (other drawings of subjects
    that were), style (the art source left out), or "" for a near copy that belongs nowhere.
    """
    alone = Counter(row["group"] for row in rows if row["family"] != style)
    names = [_split_of(row, style, alone) for row in rows]
    for at in near_copies(rows, names):
        names[at] = ""
    return names


def _split_of(row: Mapping[str, object], style: str | None, drawings: Counter[str]) -> str:
    if row["family"] == style:
        return "style"
    share = fraction(str(row["group"]))
    if share < TEST:
        return "test"
    if share < TEST + VALIDATION:
        return "validation"
    if drawings[row["group"]] > 1 and fraction(f"{row['md5']} {row['family']}") < SEEN:
        return "seen"
    return "train"


def fraction(key: str) -> float:
    """A number from 0 to 1 that is always the same for this key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def near_copies(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> list[int]:
    """Positions of judged rows that look like a training row of another subject (same drawing, other name)."""
    natural = [at for at, row in enumerate(rows) if not str(row["family"]).startswith(COMPOSED)]
    trained = [at for at in natural if names[at] == "train"]
    judged = [at for at in natural if names[at] in JUDGED]
    if not trained or not judged:
        return []
    known = np.stack([thumb(rows[at]) for at in trained])
    squares = (known**2).sum(axis=1)
    found = []
    for at in judged:
        pixels = thumb(rows[at])
        distances = squares - 2 * (known @ pixels) + pixels @ pixels
        if distances.min() < NEAR**2 * pixels.size:
            found.append(at)
    return found


def thumb(row: Mapping[str, object]) -> np.ndarray:
    """The picture as 16 x 16 grey pixels from 0 to 1, letterboxed on white: float32 [256]."""
    image = Image.open(BytesIO(row["image"]["bytes"])).convert("L")
    page = Image.new("L", (max(image.size),) * 2, 255)
    page.paste(image, ((page.width - image.width) // 2, (page.height - image.height) // 2))
    small = page.resize((16, 16), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel() / 255
