"""Made metadata with the published columns, and pictures for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from tests.training import made

COUNTS = {"general": (40_000, 35), "character": (30_000, 2), "copyright": (6_000, 1.5), "artist": (60_000, 1),
          "meta": (400, 3)}  # fmt: skip
MEDIA = pa.struct([("file_ext", pa.string()), ("file_size", pa.int64()), ("md5", pa.string())])


def table(posts: list[Mapping[str, Any]]) -> pa.Table:
    """Posts by id and tags by category; the other published columns are filled in."""
    columns: dict[str, Any] = {
        "id": pa.array([post["id"] for post in posts], pa.int64()),
        "created_at": [post.get("created_at", "2021-05-06T07:08:09.000-04:00") for post in posts],
        "updated_at": ["2024-01-01"] * len(posts),
        "score": [3] * len(posts),
        "source": [post.get("source", "") for post in posts],
        "rating": [post.get("rating", "g") for post in posts],
        "image_width": [48] * len(posts),
        "image_height": [48] * len(posts),
        "is_deleted": [post.get("is_deleted", False) for post in posts],
        "is_banned": [False] * len(posts),
        "media_asset": pa.array(
            [{"file_ext": post.get("ext", "jpg"), "file_size": 9, "md5": post.get("md5")} for post in posts], MEDIA
        ),
    }
    for category in COUNTS:
        columns[f"tag_string_{category}"] = pa.array([" ".join(post.get(category, ())) for post in posts], pa.string())
        columns[f"tag_count_{category}"] = [len(post.get(category, ())) for post in posts]
    return pa.table(columns)


def write(folder: Path, posts: list[Mapping[str, Any]], files: int = 2) -> str:
    """Parquet files, and the pattern that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(np.array_split(np.arange(len(posts)), files)):
        parquet.write_table(table([posts[i] for i in part]), folder / f"{number:04d}.parquet")
    return str(folder / "*.parquet")


def many(count: int, first: int = 1, seed: int = 0) -> pa.Table:
    """Posts with as many tags, as unevenly spread, as the real ones, quickly."""
    draw = np.random.default_rng([seed, first])
    columns: dict[str, Any] = {
        "id": np.arange(first, first + count, dtype=np.int64),
        "created_at": [f"{2005 + i % 20}-03-04T05:06:07.000-04:00" for i in range(count)],
        "rating": draw.choice(list("gsqe"), count),
        "source": [f"https://example.org/{i}" for i in range(count)],
        "image_width": np.full(count, 900),
        "image_height": np.full(count, 1200),
        "media_asset": pa.array([{"file_ext": "jpg", "file_size": 9, "md5": None}] * count, MEDIA),
    }
    for category, (names, mean) in COUNTS.items():
        lengths = draw.poisson(mean, count)
        numbers = (names ** draw.random(lengths.sum())).astype(np.int64)  # log-uniform: a few tags are everywhere
        words = np.array([f"{category}_{i}" for i in range(names + 1)], dtype=object)[numbers]
        ends = np.cumsum(lengths)
        columns[f"tag_string_{category}"] = [
            " ".join(dict.fromkeys(words[end - n : end])) for end, n in zip(ends, lengths, strict=True)
        ]
    return pa.table(columns)


def picture(file: Path, number: int, form: str = "PNG") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    data = made.picture(list(made.COLORS)[number % 3], made.SHAPES[number % 2], number)
    if form == "PNG":
        file.write_bytes(data)
        return
    import io

    from PIL import Image

    Image.open(io.BytesIO(data)).save(file, form)
