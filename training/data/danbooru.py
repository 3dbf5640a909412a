"""A dataset folder from Danbooru's metadata and a folder of pictures, in steps that each are kept when done.

A kill loses at most the step under way, or one file of the last step: the same command goes on. What is kept lies
beside the dataset in `.NAME.partial` until the whole is renamed to its place.
"""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from training.data import filtering
from training.data.filtering import Candidates, Kept, Rules
from training.data.images import Finder, Images
from training.data.metadata import CATEGORIES, Metadata, find_files
from training.data.progress import Progress, peak_memory, say
from training.data.report import Report
from training.data.shards import Choice, Shards, count_written
from training.dataset import FORMAT, VERSION, DatasetError
from training.run import write_json


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    metadata: str
    images: Path
    out: Path
    rules: Rules
    count: int | None = None
    choose: str = "newest"
    seed: int = 42
    validation: float = 0.01
    images_as: str = "path"
    rows_a_shard: int = 50_000
    name: str = ""
    licence: str = ""


class Maker:
    def __init__(self, order: Order) -> None:
        self.order = order
        self.out = order.out.absolute()
        if self.out.exists():
            raise DatasetError(f"{self.out} exists already; choose another name or remove it first.")
        self.metadata = Metadata(find_files(order.metadata))
        self.work = self.out.with_name(f".{self.out.name}.partial")
        self.report = Report()
        self.started = time.monotonic()

    def make(self) -> Report:
        self.open_work()
        kept = self.tags()
        images = self.images()
        choice = self.choice(kept, images)
        shards = Shards(
            self.metadata, kept, images, self.work / "data", self.order.rows_a_shard, self.order.images_as == "bytes"
        )
        shards.write(choice)
        self.finish(shards)
        return self.report

    def open_work(self) -> None:
        """The partial folder of the same order, or a new one; another order's is refused."""
        order = {**asdict(self.order), "images": str(self.order.images.absolute()), "out": str(self.out)}
        files = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in self.metadata.files]
        told = json.loads(json.dumps({"order": order, "files": files}))
        file = self.work / "order.json"
        if file.exists() and json.loads(file.read_text("utf-8")) != told:
            raise DatasetError(f"{self.work} was begun with other choices or metadata; remove it and start again.")
        if self.work.exists() and file.exists():
            say(f"going on with {self.work}")
        self.work.mkdir(parents=True, exist_ok=True)
        write_json(file, told)

    def tags(self) -> Kept:
        file = self.work / "tags.json"
        if not file.exists():
            counts = filtering.count_tags(self.metadata, Progress("counting tags, rows", self.metadata.rows))
            kept, told = filtering.frequent(counts, self.order.rules.tag_minima)
            names = {category: found.to_pylist() for category, found in kept.items()}
            write_json(file, {"names": names, "told": {category: asdict(one) for category, one in told.items()}})
        found = json.loads(file.read_text("utf-8"))
        self.report.tags(found["told"], self.order.rules.tag_minima, self.metadata.rows)
        return {category: pa.array(found["names"][category], pa.string()) for category in CATEGORIES}

    def images(self) -> Images:
        file = self.work / "images.npz"
        if not file.exists():
            Finder(self.order.images).walk(Progress("looking for pictures", 0).at).save(file)
        images = Images.load(file)
        if not len(images):
            raise DatasetError(
                f"No picture under {self.order.images} is named by a post's number or md5 ({images.unknown} other "
                "files); give --images the folder that holds them."
            )
        self.report.images(images)
        return images

    def choice(self, kept: Kept, images: Images) -> Choice:
        file = self.work / "choice.npz"
        if not file.exists():
            progress = Progress("choosing posts, rows", self.metadata.rows)
            self.save_choice(file, filtering.choose_posts(self.metadata, kept, self.order.rules, images, progress))
        with np.load(file) as found:
            dropped = dict(zip(found["reasons"].tolist(), found["dropped"].tolist(), strict=True))
            self.report.posts(self.metadata.rows, dropped, int(found["candidates"]), len(found["rows"]), self.order)
            choice = Choice(found["rows"], found["held"])
        if not len(choice.rows):
            raise DatasetError(f"No post is left, so there is nothing to write:\n{self.report.text()}")
        return choice

    def save_choice(self, file: Path, candidates: Candidates) -> None:
        order = self.order
        picked = filtering.pick(candidates, order.count, order.choose, order.seed)
        held = filtering.hold_out(len(picked), order.validation, order.seed)
        temporary = file.with_name(".choice.npz")
        np.savez(
            temporary,
            rows=candidates.rows[picked],
            held=held,
            candidates=len(candidates.rows),
            reasons=np.array(list(candidates.dropped), dtype=np.str_),
            dropped=np.array(list(candidates.dropped.values()), dtype=np.int64),
        )
        temporary.replace(file)

    def finish(self, shards: Shards) -> None:
        """dataset.json and the report; then the folder takes its place."""
        written = count_written(self.work / "data")
        if shards.unreadable:
            (self.work / "unreadable.txt").write_text("\n".join(shards.unreadable) + "\n", "utf-8")
        self.report.written(written.counts, len(shards.unreadable), self.order)
        self.report.cost(self.metadata.rows, time.monotonic() - self.started, peak_memory())
        write_json(self.work / "dataset.json", self.about(written.counts, written.tags))
        write_json(self.work / "report.json", self.report.entries)
        (self.work / "report.txt").write_text(self.report.text() + "\n", "utf-8")
        for name in ("order.json", "tags.json", "images.npz", "choice.npz"):
            (self.work / name).unlink()
        for left in (self.work / "data").glob(".*"):
            left.unlink()
        shutil.move(self.work, self.out)

    def about(self, counts: dict[str, int], tags: dict[tuple[str, str], int]) -> dict[str, Any]:
        order, rules = self.order, self.order.rules
        vocabulary = [{"name": n, "category": c, "count": k} for (c, n), k in sorted(tags.items())]
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": order.name or self.out.name,
            "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "source": "Danbooru metadata: " + ", ".join(file.name for file in self.metadata.files[:3])
            + (f" and {len(self.metadata.files) - 3} more" if len(self.metadata.files) > 3 else ""),
            "licence": order.licence,
            "release": None,
            "filters": {
                "tag_minima": dict(rules.tag_minima),
                "post_minima": dict(rules.post_minima),
                "skip_deleted": rules.skip_deleted,
                "count": order.count,
                "choose": order.choose,
                "seed": order.seed,
                "validation": order.validation,
                "images_as": order.images_as,
                "report": self.report.entries,
            },
            "counts": dict(counts),
            "vocabulary": vocabulary,
        }  # fmt: skip
