"""Small datasets made in memory: coloured shapes on white, whose tags a tiny network learns in seconds."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from training import dataset

COLORS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (40, 70, 220)}
SHAPES = ("circle", "square", "bar")


def picture(color: str, shape: str, seed: int, side: int = 48) -> bytes:
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), "white")
    x, y, size = (int(draw.integers(4, 14)), int(draw.integers(4, 14)), int(draw.integers(18, 28)))
    pen = ImageDraw.Draw(image)
    box = (x, y, x + size, y + (size // 4 if shape == "bar" else size))
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=COLORS[color])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def row(number: int, **columns: Any) -> dict[str, Any]:
    color, shape = list(COLORS)[number % 3], SHAPES[(number // 3) % 3]
    tags = {"tags_general": [color, shape], "tags_meta": ["flat"], "group": f"{color} {shape} {number}"}
    return {"image": picture(color, shape, number), "md5": f"{number:032x}", **tags, **columns}


def shapes(folder: Path, train: int = 96, validation: int = 60) -> Path:
    """A complete dataset."""
    rows = [row(number) for number in range(train + validation)]
    return dataset.write(folder, {"train": rows[:train], "validation": rows[train:]}, {"name": "shapes"})


FAST = (
    "data.size=32", "data.minimum_count=5", "train.epochs=4", "train.batch_size=16", "train.threads=1",
    "model.embedding_size=32", "model.initial_hidden=32", "model.cross_hidden=32", "model.refined_hidden=32",
)  # fmt: skip
