"""Write a dataset folder: pictures with what the tagger said and what people say of it.

The format is the dataset folder's: `dataset.json` beside `data/train-*.parquet`, which
`datasets.load_dataset` opens as it is. In every row `verified` is yes, `rejected` is no and all
else is unknown (`complete` is false); `tags_*` are the tags on under the site's default profile,
and `predicted_*` what the release said that people judged. A validation split is the trainer's to
choose.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from gallery import locking, profiles, tagging
from gallery.index import indexing
from gallery.models import Category, Export, Post, Rating, Release, Tag, TagIndex, Verdict

if TYPE_CHECKING:
    from datasets import Features

logger = logging.getLogger(__name__)

_LISTED = [category for category in Category if category != Category.RATING]
_ROWS_A_GROUP = 100  # small row groups stream and shuffle well
_GROUP_BYTES = 64 * 1024 * 1024  # of pictures; a group is in memory as a whole, twice while it is written
_SHARD_BYTES = 400 * 1024 * 1024
_LOCK = 0x6578_706F  # with an export's id; any number that no other advisory lock of the site uses
_UNSENT_SECONDS = 60  # a worker that is free begins within this time


class ExportError(ValueError):
    """An export that can't be written; the text is one sentence for the person."""


def start(user: AbstractBaseUser | None) -> Export:
    """Have a worker write the posts that people judged; the row says how far it is."""
    row = Export.objects.create(started_by=user)
    transaction.on_commit(lambda: _send(row), robust=True)
    return row


def _send(row: Export) -> None:
    if not tagging.send("run_export", row.pk):
        _fail(row, "No worker could be reached: see that Redis runs, then export again.")


def run(export_id: int) -> None:
    """What the worker does; nothing when it was done or deleted meanwhile, or another one writes it."""
    row = Export.objects.filter(pk=export_id, state=Export.State.RUNNING).first()
    if row is not None:
        try:
            export(row)
        except ExportError as error:
            logger.warning("Export %s failed: %s", export_id, error)


def export(row: Export, folder: Path | None = None, everything: bool = False) -> None:
    """Write the folder whole or not at all and keep the row up to date. Raises ExportError.

    Posts that someone judged, or all of them; `folder` is by default one under EXPORTS_DIR.
    """
    folder = folder or settings.EXPORTS_DIR / f"export-{row.pk}-{row.created_at:%Y%m%d-%H%M%S}"
    with _held(row) as ours:
        if not ours:
            raise ExportError(f"Export {row.pk} is being written, or was: see the list of exports.")
        try:
            _write(row, folder.absolute(), everything)
        except ExportError as error:
            _fail(row, str(error))
            raise
        except OSError as error:
            sentence = f"The export can't be written to {folder} ({error.strerror or error}): make room there."
            _fail(row, sentence)
            raise ExportError(sentence) from error
        except Exception as error:
            _fail(row, f"The export broke off: {error}")
            raise


def sweep() -> int:
    """Let exports fail whose writer died, and ask again for those that no worker began; returns how many failed."""
    broken = 0
    for row in Export.objects.filter(state=Export.State.RUNNING):
        with _held(row) as ours:
            if ours and row.total:
                for left in settings.EXPORTS_DIR.glob(f".export-{row.pk}-*"):
                    shutil.rmtree(left, ignore_errors=True)
                _fail(row, "The worker was stopped while it wrote: export again.")
                broken += 1
            elif ours and row.created_at < timezone.now() - timedelta(seconds=_UNSENT_SECONDS):
                tagging.send("run_export", row.pk)
    return broken


def is_ours(row: Export) -> bool:
    """Whether the folder was made by the site for this export alone, so that it may go with it."""
    folder = Path(row.folder)
    others = Export.objects.exclude(pk=row.pk).filter(folder=row.folder)
    return bool(row.folder) and folder.parent == settings.EXPORTS_DIR and not others.exists()


@contextmanager
def _held(row: Export) -> Iterator[bool]:
    """Be the only one to write an export that runs; False when another does, or it ended."""
    with locking.held(_LOCK, row.pk) as ours:
        yield ours and Export.objects.filter(pk=row.pk, state=Export.State.RUNNING).exists()


def _fail(row: Export, sentence: str) -> None:
    row.state, row.error, row.finished_at = Export.State.FAILED, sentence, timezone.now()
    row.save(update_fields=["state", "error", "finished_at"])


def _write(row: Export, folder: Path, everything: bool) -> None:
    posts = Post.objects.active()
    if not everything:
        posts = posts.filter(Exists(Verdict.objects.filter(post=OuterRef("pk"))))
    row.total = posts.count()
    if not row.total:
        raise ExportError("There is nothing to export: say yes or no to some tags first.")
    if folder.exists():
        raise ExportError(f"{folder} exists already: choose another folder, or remove it.")
    row.done = 0
    row.save(update_fields=["total", "done"])  # from here on it is begun
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        counts = _write_shards(row, posts, temporary / "data")
        (temporary / "dataset.json").write_text(
            json.dumps(_about(folder.name, everything, counts), ensure_ascii=False, indent=1), encoding="utf-8"
        )
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    row.folder, row.state, row.finished_at = str(folder), Export.State.DONE, timezone.now()
    row.counts = {"posts": counts.posts, "yes": counts.yes, "no": counts.no, "missing": counts.missing}
    row.done = row.total
    row.save()


@dataclass
class _Counts:
    """What was written; also the vocabulary: how many posts carry each tag."""

    posts: int = 0
    yes: int = 0
    no: int = 0
    missing: int = 0  # posts whose file is gone from the storage
    tags: Counter[tuple[str, str]] = field(default_factory=Counter)  # (category, name)


def _about(name: str, everything: bool, counts: _Counts) -> dict[str, Any]:
    release = Release.objects.filter(active=True).values_list("name", flat=True).first()
    return {
        "format": "manabooru-dataset",
        "version": 1,
        "name": name,
        "created_at": timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "source": settings.SITE_NAME,
        "licence": "",
        "filters": {"posts": "all" if everything else "judged", "profile": profiles.default_profile().key},
        "release": release,
        "counts": {"train": counts.posts},
        "vocabulary": [
            {"name": name, "category": category, "count": count}
            for (category, name), count in sorted(counts.tags.items())
        ],
    }


def _write_shards(row: Export, posts: QuerySet[Post], data: Path) -> _Counts:
    """Stream rows into parquet shards; holds one row group in memory."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    data.mkdir()
    counts, shards, writer, written = _Counts(), [], None, 0
    schema = _features().arrow_schema
    for group in _groups(row, posts, counts):
        if writer is None or written > _SHARD_BYTES:
            if writer:
                writer.close()
            shards.append(data / f"{len(shards)}.parquet")
            writer, written = parquet.ParquetWriter(shards[-1], schema), 0
        writer.write_table(pa.Table.from_pylist(group, schema=schema))
        written += sum(len(each["image"]["bytes"]) for each in group)
        group.clear()  # before the next one is read
    if writer is None:
        raise ExportError("The pictures' files are missing from the storage: see that its disk is there.")
    writer.close()
    for number, shard in enumerate(shards):
        shard.rename(data / f"train-{number:05d}-of-{len(shards):05d}.parquet")
    return counts


def _features() -> Features:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is looked up elsewhere
    os.environ.setdefault("HF_HOME", str(settings.DATA_DIR / "huggingface"))
    from datasets import Features, Image, List, Value

    return Features(
        {
            "image": Image(),
            "md5": Value("string"),
            **{f"tags_{category.label}": List(Value("string")) for category in _LISTED},
            "rating": Value("string"),
            "year": Value("int32"),
            "verified": List(Value("string")),
            "rejected": List(Value("string")),
            "complete": Value("bool"),
            "predicted_tags": List(Value("string")),
            "predicted_confidences": List(Value("float32")),
            "release": Value("string"),
            "width": Value("int32"),
            "height": Value("int32"),
            **{name: Value("string") for name in ("group", "family", "source", "artist_credit", "licence")},
        }
    )


def _groups(row: Export, posts: QuerySet[Post], counts: _Counts) -> Iterator[list[dict[str, Any]]]:
    """Rows in groups of bounded number and size, oldest posts first; saves the progress before each."""
    thresholds, last = profiles.resolve(None), 0
    while chunk := list(posts.filter(pk__gt=last).order_by("pk")[:_ROWS_A_GROUP]):
        last = chunk[-1].pk
        known = _Known.about(chunk, thresholds)
        rows, size = [], 0
        for post in chunk:
            row.done += 1
            if each := _row(post, known, counts):
                rows.append(each)
                size += len(each["image"]["bytes"])
            if rows and (size >= _GROUP_BYTES or post is chunk[-1]):
                row.save(update_fields=["done"])
                yield rows
                rows, size = [], 0
        row.save(update_fields=["done"])


@dataclass(frozen=True)
class _Known:
    """What the tables say of a chunk of posts, by post id."""

    thresholds: profiles.Thresholds
    tags: dict[int, tuple[str, int]]  # tag id: name, category
    index: dict[int, TagIndex]
    predictions: dict[int, Any]
    verdicts: dict[int, dict[int, bool]]

    @classmethod
    def about(cls, posts: list[Post], thresholds: profiles.Thresholds) -> _Known:
        ids = [post.pk for post in posts]
        index = TagIndex.objects.in_bulk(ids)
        rows = indexing.current_predictions(ids).select_related("release").defer(*Release.bulk("release__"))
        predictions = {row.post_id: row for row in rows}
        verdicts = indexing.answers_of(ids)
        used = {tag_id for each in (*index.values(), *predictions.values()) for tag_id in each.tag_ids}
        used |= {tag_id for answers in verdicts.values() for tag_id in answers}
        tags = {
            pk: (name, category)
            for pk, name, category in Tag.objects.filter(pk__in=used).values_list("id", "name", "category")
        }
        return cls(thresholds, tags, index, predictions, verdicts)

    def names_on(self, post: Post) -> dict[int, list[str]]:
        """Names of the post's tags that are on, by category, most confident first."""
        row = self.index.get(post.pk)
        found: dict[int, list[str]] = {}
        if row is None:
            return found
        bytes_of = dict(zip(row.tag_ids, bytes(row.confidences)[1:], strict=True))
        present = [(-byte, self.tags[tag_id], tag_id) for tag_id, byte in bytes_of.items() if tag_id in self.tags]
        for byte, (name, category), tag_id in sorted(present):
            if -byte >= self.thresholds.byte(tag_id, category):
                found.setdefault(category, []).append(name)
        return found


def _row(post: Post, known: _Known, counts: _Counts) -> dict[str, Any] | None:
    """One row of the dataset; None when the picture's file is gone."""
    picture = _picture(post)
    if picture is None:
        counts.missing += 1
        return None
    names = known.names_on(post)
    prediction = known.predictions.get(post.pk)
    answers = known.verdicts.get(post.pk, {}).items()
    judged = [(*known.tags[tag_id], answer) for tag_id, answer in answers if tag_id in known.tags]
    verified = [name for name, _, answer in judged if answer]
    rejected = [name for name, _, answer in judged if not answer]
    _count(counts, names, [(name, category) for name, category, _ in judged], len(verified), len(rejected))
    index = known.index.get(post.pk)
    years = [
        int(name[5:]) for name in names.get(Category.YEAR, []) if name.startswith("year_") and name[5:].isdecimal()
    ]
    return {
        "image": {"bytes": picture, "path": f"{post.md5}.{post.ext}"},
        "md5": post.md5,
        **{f"tags_{category.label}": names.get(category, []) for category in _LISTED},
        "rating": Rating(index.rating).label if index and index.rating is not None else None,
        "year": years[0] if years else None,
        "verified": verified,
        "rejected": rejected,
        "complete": False,
        **_predicted(prediction, known),
        "width": post.width,
        "height": post.height,
        "group": post.md5,
        "family": "",
        "source": post.source,
        "artist_credit": post.credit,
        "licence": "",
    }


def _picture(post: Post) -> bytes | None:
    """The original's bytes; None when its file is gone. Raises ExportError for one that is there and can't be read."""
    try:
        with default_storage.open(post.file_path) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ExportError(
            f"The picture of post {post.pk}, {post.file_path}, can't be read ({error.strerror or error}):"
            " let the site read it, or delete the post, then export again."
        ) from error


def _predicted(prediction: Any, known: _Known) -> dict[str, Any]:
    if prediction is None:
        return {"predicted_tags": [], "predicted_confidences": [], "release": None}
    found = [
        (known.tags[tag_id][0], byte) for tag_id, byte in indexing.unpack(prediction).items() if tag_id in known.tags
    ]
    found.sort(key=lambda pair: (-pair[1], pair[0]))
    confidences = np.array([byte for _, byte in found], np.float32) / profiles.SCALE
    return {
        "predicted_tags": [name for name, _ in found],
        "predicted_confidences": confidences.tolist(),
        "release": prediction.release.name,
    }


def _count(counts: _Counts, names: dict[int, list[str]], judged: list[tuple[str, int]], yes: int, no: int) -> None:
    counts.posts += 1
    counts.yes += yes
    counts.no += no
    on = {(Category(category).label, name) for category, listed in names.items() for name in listed}
    counts.tags.update(on)
    for name, category in judged:  # a tag that was only rejected is part of the vocabulary, too
        counts.tags.setdefault((Category(category).label, name), 0)
