"""Eight million posts within 4 GB: `python -m tests.benchmarks.metadata` (`make bench-metadata ROWS=8000000`).

Makes metadata with the published columns and as many, as unevenly spread tags as the real ones have, and indices of tar
shards that hold a picture of every post (the pictures themselves are not read while paths are stored). Then
`python -m training.data danbooru2024` makes a dataset of them, in a process of its own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = 8_000_000
ROWS_A_FILE = 250_000
GIB = 1 << 30
MOST = 4 * GIB


@functools.cache
def model(count: int) -> Any:
    """One file's posts, which all files are made of."""
    from tests.training import posts

    return posts.many(count)


def make(part: tuple[Path, int, int, int]) -> None:
    """One file of metadata, its tags those of the model in an order of their own; and the tar shard of its pictures."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as parquet

    folder, first, count, largest = part
    draw, table = np.random.default_rng(first), model(largest).slice(0, count)
    table = table.set_column(0, "id", pa.array(np.arange(first, first + count)))
    for place, name in enumerate(table.column_names):
        if name.startswith("tag_string_"):
            table = table.set_column(place, name, table[name].take(draw.permutation(count)))
    parquet.write_table(table, folder / f"metadata/{first:09d}.parquet")
    files = {f"{number}.webp": {"offset": 512, "size": 1} for number in range(first, first + count)}
    (folder / f"pictures/{first:09d}.tar").touch()
    (folder / f"pictures/{first:09d}.json").write_text(json.dumps({"files": files}))


def make_all(folder: Path, rows: int, processes: int) -> float:
    """Seconds that making took; in processes of their own, so that this one stays small."""
    for name in ("metadata", "pictures"):
        (folder / name).mkdir()
    largest = min(ROWS_A_FILE, rows)
    parts = [(folder, first + 1, min(largest, rows - first), largest) for first in range(0, rows, largest)]
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(make, parts), 1):
            print(f"made {done} of {len(parts)} files", file=sys.stderr, flush=True)
    return time.monotonic() - began


def run(folder: Path) -> dict[str, float]:
    """What the command's own report says of its time and memory."""
    words = ["--metadata", folder / "metadata/*.parquet", "--images", folder / "pictures", "--out", folder / "dataset"]
    subprocess.run([sys.executable, "-m", "training.data", "danbooru2024", *map(str, words)], cwd=ROOT, check=True)
    entries = json.loads((folder / "dataset/report.json").read_text("utf-8"))
    return {name: entries[-1][name] for name in ("seconds", "peak_bytes")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"posts (default: {ROWS})")
    parser.add_argument("--processes", type=int, default=1, help="that make the metadata")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made; about 5 GB for 8 million")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="manabooru-metadata-", dir=options.folder) as temporary:
        folder = Path(temporary)
        made = make_all(folder, options.rows, options.processes)
        size = sum(file.stat().st_size for file in (folder / "metadata").iterdir())
        print(f"{options.rows:,} posts made in {made / 60:.1f} minutes, {size / GIB:.2f} GiB of parquet", flush=True)
        cost = run(folder)
    figures = {
        "rows": options.rows,
        "minutes": round(cost["seconds"] / 60, 1),
        "rows_per_second": round(options.rows / cost["seconds"]),
        "peak_gib": round(cost["peak_bytes"] / GIB, 2),
        "within_4_gib": cost["peak_bytes"] <= MOST,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
