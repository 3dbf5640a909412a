"""What corrections are worth: `python -m tests.benchmarks.learning DATASET` (`make learn-demo DATASET=starter-data`).

DATASET is what `python -m training.starter build` writes: its split `style` is a family of art that the starter never
saw. Half of that family, by subject, goes into a real gallery and is tagged; N verdicts are given as its true tags
say, on tags chosen at random and in the order in which the page *Review* asks; they are exported, the starter is
fine-tuned on them and published. Judged is micro F1 at the site's default thresholds, before and after, on the other
half of the family and on the old test split. The last line is JSON; gains are in points.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import stage

ROOT = Path(__file__).resolve().parent.parent.parent
STARTER = ROOT / "tagger/releases/starter"
COUNTS = (100, 300, 1000)
WAYS = ("review", "random")
HELD = 0.5  # of the family's subjects
MODE = "balanced"  # each category at its own: the site's default profile
ROUND = 20  # questions that the page asks for at once
AT = 300


@dataclass(frozen=True)
class Learned:
    """One release that learned from verdicts. F1 in points; minutes of export, training and publishing."""

    way: str
    verdicts: int
    wrong: int  # verdicts against what the tagger had said at its thresholds
    posts: int
    family_before: float
    family_after: float
    rest_before: float
    rest_after: float
    minutes: float

    @property
    def gain(self) -> float:
        return round(self.family_after - self.family_before, 2)

    @property
    def change(self) -> float:
        return round(self.rest_after - self.rest_before, 2)


class Gallery:
    """Pictures of one family in a real gallery, and somebody who knows their true tags."""

    def __init__(self, release: Path) -> None:
        from gallery.releases import releasing

        self.release = releasing.install(release, activate=True)
        self.truth: dict[int, set[str]] = {}

    def fill(self, pictures: Iterator[tuple[bytes, set[str]]]) -> None:
        from gallery import tagging, uploading

        for number, (data, tags) in enumerate(pictures):
            stored = uploading.store(io.BytesIO(data), name=f"{number}.png")
            self.truth[stored.post.pk] = tags
        while tagging.tag_waiting(seconds=3600):
            pass

    def judge(self, way: str, count: int, seed: int) -> None:
        """Adds verdicts until there are `count`; goes on where an earlier call ended."""
        from gallery.models import Verdict

        while (missing := count - Verdict.objects.count()) > 0:
            asked = self.ask(way, missing, seed)
            if not asked:
                return
            self.answer(asked)

    def ask(self, way: str, missing: int, seed: int) -> list[Any]:
        from gallery import profiles, reviewing

        thresholds = profiles.resolve(None)
        if way == "review":
            return reviewing.questions(thresholds, limit=min(ROUND, missing))
        every = reviewing.questions(thresholds, limit=10**9, posts=10**9)
        every.sort(key=lambda question: question.pair)
        return random.Random(seed).sample(every, min(missing, len(every)))

    def answer(self, asked: Sequence[Any]) -> None:
        from gallery import correcting
        from gallery.models import Post, Tag

        posts = Post.objects.in_bulk({question.post_id for question in asked})
        tags = Tag.objects.in_bulk({question.tag_id for question in asked})
        for question in asked:
            tag = tags[question.tag_id]
            correcting.record(posts[question.post_id], tag, tag.name in self.truth[question.post_id], None)

    def forget(self) -> None:
        from gallery.index import indexing
        from gallery.models import Verdict

        Verdict.objects.all().delete()
        indexing.rebuild(list(self.truth))

    def facts(self) -> tuple[int, int]:
        """How many verdicts went against the tagger, and on how many posts they are."""
        from gallery import profiles
        from gallery.models import Verdict

        thresholds = profiles.resolve(None)
        rows = list(Verdict.objects.select_related("tag"))
        wrong = sum(v.answer != ((v.confidence or 0) >= thresholds.byte(v.tag_id, v.tag.category)) for v in rows)
        return wrong, len({v.post_id for v in rows})

    def export(self, folder: Path) -> Path:
        from gallery import exporting
        from gallery.models import Export

        exporting.export(Export.objects.create(), folder)
        return folder


class Judge:
    """Judges releases on pictures that no gallery here holds, with the start release's tags."""

    def __init__(self, start: Path, family: Any, rest: Any) -> None:
        from tagger import release

        self.start = release.read(start)
        self.samples = {"family": family, "rest": rest}
        self.before = self.points(start)

    def points(self, folder: Path) -> dict[str, float]:
        """Micro F1 over all of the start release's tags, in points."""
        from tagger import release
        from training import compare
        from training.scoring import scores

        judged, vocabulary = release.read(folder), self.start.vocabulary
        found = {}
        for name, sample in self.samples.items():
            split = compare.judge(judged, sample, vocabulary)
            counts = compare.outcome(judged, split, vocabulary, MODE).counts()
            found[name] = 100 * scores.measures(*counts)["micro_f1"]
        return found


def halves(dataset_folder: Path, family: str, cache: Path) -> tuple[Any, Any, Any]:
    """The family's pictures for the gallery and those held out, no subject in both, and the old test split."""
    import numpy as np

    from training import compare, dataset

    source = dataset.read(dataset_folder, cache / "datasets")
    whole = compare.Sample.of(source, family, cache)
    held = np.array(dataset.hold_out(whole.rows, HELD), dtype=bool)
    return whole.part(np.flatnonzero(~held)), whole.part(np.flatnonzero(held)), compare.Sample.of(source, "test", cache)


def pictures(sample: Any) -> Iterator[tuple[bytes, set[str]]]:
    from training import dataset
    from training.feeding import targets

    for row, index in zip(sample.rows, sample.index, strict=True):
        yield dataset.picture_bytes(sample.split, int(index), sample.folder), targets.yes_tags(row)


def teach(start: Path, export: Path, work: Path, recipe: str, settings: Sequence[str] = ()) -> Path:
    """Fine-tunes and publishes by the commands that a person types; returns the release."""
    run, release = work / f"run-{export.name}", work / f"release-{export.name}"
    changes = [word for setting in settings for word in ("--set", setting)]
    train = ["training.train", recipe, "--dataset", export, "--release", start, "--run", run, *changes]
    publish = ["training.publish", run, "--out", release, "--name", export.name]
    for words in (train, publish):
        done = subprocess.run([sys.executable, "-m", *map(str, words)], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(
                f"python -m {' '.join(map(str, words))} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
    return release


def demonstrate(
    gallery: Gallery, judge: Judge, start: Path, work: Path, *, ways: Sequence[str] = WAYS,
    counts: Sequence[int] = COUNTS, seed: int = 1, recipe: str = "finetune", settings: Sequence[str] = (),
) -> Iterator[Learned]:  # fmt: skip
    for way in ways:
        gallery.forget()
        for count in sorted(counts):
            gallery.judge(way, count, seed)
            wrong, posts = gallery.facts()
            began = time.monotonic()
            export = gallery.export(work / f"{way}-{count}")
            release = teach(start, export, work, recipe, settings)
            minutes = (time.monotonic() - began) / 60
            after = judge.points(release)
            numbers = (judge.before["family"], after["family"], judge.before["rest"], after["rest"], minutes)
            yield Learned(way, count, wrong, posts, *(round(number, 2) for number in numbers))


def summary(learned: Sequence[Learned]) -> dict[str, float]:
    """The headline: 300 verdicts in the order of the page *Review*."""
    at = next((one for one in learned if (one.way, one.verdicts) == ("review", AT)), None)
    if at is None:
        return {}
    return {"family_gain_at_300": at.gain, "rest_change_at_300": at.change, "minutes_at_300": at.minutes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="what `python -m training.starter build` wrote")
    parser.add_argument(
        "--release", type=Path, default=STARTER, help="the release that learns; the starter unless given"
    )
    parser.add_argument("--family", default="style", help="the split that holds the family left out of its training")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="numbers of verdicts")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="how tags to judge are chosen")
    parser.add_argument("--recipe", default="finetune")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change the recipe")
    parser.add_argument("--seed", type=int, default=1, help="of the random choice")
    options = parser.parse_args()
    stage.start_django()
    with tempfile.TemporaryDirectory(prefix="manabooru-learn-") as temporary:
        work = Path(temporary)
        pool, held, rest = halves(options.dataset.absolute(), options.family, work)
        gallery = Gallery(options.release)
        gallery.fill(pictures(pool))
        judge = Judge(options.release, held, rest)
        print(f"{len(pool.rows)} pictures in the gallery, {len(held.rows)} held out, {len(rest.rows)} of the old test")
        learned = []
        chosen = {"ways": options.ways, "counts": options.counts, "seed": options.seed}
        for one in demonstrate(
            gallery, judge, options.release, work, **chosen, recipe=options.recipe, settings=options.set
        ):
            learned.append(one)
            print(json.dumps(asdict(one) | {"gain": one.gain, "change": one.change}), flush=True)
    head = (
        "chosen by",
        "verdicts",
        "wrong before",
        "posts",
        "family",
        "after",
        "gain",
        "rest",
        "after",
        "change",
        "min",
    )
    stage.table("micro F1 in points", head, [list(row(one)) for one in learned])
    print(json.dumps(summary(learned)))


def row(one: Learned) -> Iterator[object]:
    yield from (one.way, one.verdicts, one.wrong, one.posts)
    yield from (f"{one.family_before:.1f}", f"{one.family_after:.1f}", f"{one.gain:+.1f}")
    yield from (f"{one.rest_before:.1f}", f"{one.rest_after:.1f}", f"{one.change:+.1f}", f"{one.minutes:.1f}")


if __name__ == "__main__":
    main()
