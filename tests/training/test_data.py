"""Datasets from Danbooru's metadata: the filter against a slow obvious one, layouts of pictures, going on, reports."""

import io
import json
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training import posts
from training import dataset
from training.data import __main__ as command
from training.data.danbooru import Maker, Order
from training.data.filtering import POST_MINIMA, TAG_MINIMA, Rules, choose_posts, count_tags, frequent, hold_out
from training.data.images import Finder, Images
from training.data.metadata import CATEGORIES, Metadata, find_files
from training.data.progress import Progress

QUIET = Progress("", 0)


def found(root: Path) -> Images:
    return Finder(root).walk(lambda count: None)


def by_number(folder: Path, numbers: list[int]) -> Path:
    for number in numbers:
        posts.picture(folder / f"{number}.png", number)
    return folder


def slowly(made: list[dict], rules: Rules) -> tuple[dict[str, set[str]], list[int]]:
    """The filter, said as plainly as it can be."""
    kept = {}
    for category in CATEGORIES:
        counts = Counter(tag for post in made for tag in post[category])
        kept[category] = {tag for tag, count in counts.items() if count >= rules.tag_minima[category]}
    left = []
    for post in made:
        if post["ext"] in ("mp4", "zip"):
            continue
        if all(len(set(post[c]) & kept[c]) >= rules.post_minima[c] for c in CATEGORIES):
            left.append(post["id"])
    return kept, left


names = st.lists(st.sampled_from("abcdefg"), unique=True, max_size=5)
post = st.fixed_dictionaries(dict.fromkeys(CATEGORIES, names) | {"ext": st.sampled_from(["png", "mp4"])})
minima = st.fixed_dictionaries({category: st.integers(0, 4) for category in CATEGORIES})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(post, min_size=1, max_size=25), minima, minima)
def test_the_filter_keeps_what_a_slow_obvious_one_keeps(tmp_path: Path, made, tag_minima, post_minima) -> None:
    rules = Rules(tag_minima, post_minima)
    numbered = [{**one, "id": number + 1} for number, one in enumerate(made)]
    expected_tags, expected = slowly(numbered, rules)
    metadata = Metadata(find_files(posts.write(tmp_path / str(len(list(tmp_path.iterdir()))), numbered)))
    kept, _ = frequent(count_tags(metadata, QUIET), tag_minima)
    assert {category: set(names.to_pylist()) for category, names in kept.items()} == expected_tags
    finder = Finder(tmp_path)
    for number in range(1, len(made) + 1):
        finder.take(f"{number}.png", finder.add_place("x"))
    candidates = choose_posts(metadata, kept, rules, finder.images(), QUIET)
    assert candidates.ids.tolist() == expected
    assert candidates.rows.tolist() == [number - 1 for number in expected]
    assert sum(candidates.dropped.values()) == len(made) - len(expected)


def test_the_minima_are_the_published_ones() -> None:
    assert TAG_MINIMA == {"general": 20, "artist": 200, "copyright": 50, "character": 40, "meta": 50}
    assert POST_MINIMA == {"general": 25, "artist": 0, "copyright": 1, "character": 1, "meta": 0}


def test_the_split_is_that_of_scikit_learn() -> None:
    # train_test_split(range(10), test_size=0.3, random_state=42) holds out 8, 1 and 5
    assert np.flatnonzero(hold_out(10, 0.3, 42)).tolist() == [1, 5, 8]
    assert hold_out(201, 0.01, 42).sum() == 3 and not hold_out(5, 0.0, 42).any()


SIMPLE = ["--tag-minimum", *(f"{c}=1" for c in CATEGORIES), "--post-minimum", *(f"{c}=0" for c in CATEGORIES)]


def simple(number: int, **columns) -> dict:
    return {"id": number, "general": ["red", f"n{number % 3}"], "artist": ["someone"], **columns}


def run(tmp_path: Path, made: list[dict], images: Path, *more: str) -> int:
    pattern = posts.write(tmp_path / "metadata", made)
    out = str(tmp_path / "out")
    return command.main(["danbooru2024", "--metadata", pattern, "--images", str(images), "--out", out, *SIMPLE, *more])


def layout_flat(folder: Path, number: int, md5: str) -> None:
    posts.picture(folder / f"{number}.png", number)


def layout_modulo(folder: Path, number: int, md5: str) -> None:
    posts.picture(folder / f"{number % 1000}" / f"{number}.jpg", number, "JPEG")


def layout_padded(folder: Path, number: int, md5: str) -> None:
    posts.picture(folder / "original" / f"{number % 1000:04d}" / f"{number:07d}.webp", number, "WEBP")


def layout_hashes(folder: Path, number: int, md5: str) -> None:
    posts.picture(folder / md5[:2] / md5[2:4] / f"{md5}.png", number)


def layout_tars(folder: Path, number: int, md5: str) -> None:
    folder.mkdir(exist_ok=True)
    posts.picture(folder / "tmp.webp", number, "WEBP")
    data = (folder / "tmp.webp").read_bytes()
    (folder / "tmp.webp").unlink()
    with tarfile.open(folder / f"{number % 2:04d}.tar", "a") as tar:
        told = tarfile.TarInfo(f"{number % 2:04d}/{number}.webp")
        told.size = len(data)
        tar.addfile(told, io.BytesIO(data))


def layout_indexed_tars(folder: Path, number: int, md5: str) -> None:
    layout_tars(folder, number, md5)
    for file in folder.glob("*.tar"):
        with tarfile.open(file) as tar:
            files = {m.name: {"offset": m.offset_data, "size": m.size} for m in tar}
        file.with_suffix(".json").write_text(json.dumps({"files": files}))


LAYOUTS = [layout_flat, layout_modulo, layout_padded, layout_hashes, layout_tars, layout_indexed_tars]


@pytest.mark.parametrize("as_bytes", [False, True], ids=["paths", "bytes"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.__name__ for layout in LAYOUTS])
def test_pictures_are_found_in_every_layout(tmp_path: Path, layout, as_bytes: bool) -> None:
    made = [simple(number, md5=f"{number * 7919:032x}"[::-1]) for number in (5, 61, 1005, 40_404)]
    for one in made[:3]:
        layout(tmp_path / "images", one["id"], one["md5"])
    kind = ["--images-as", "bytes"] if as_bytes else []
    assert run(tmp_path, made, tmp_path / "images", "--validation", "0", *kind) == 0
    opened = dataset.read(tmp_path / "out", tmp_path / "cache")
    assert opened.splits["train"]["group"] == ["danbooru 5", "danbooru 61", "danbooru 1005"]
    assert (opened.splits["train"][0]["image"]["bytes"] is not None) == as_bytes
    from PIL import Image

    for index, number in enumerate((5, 61, 1005)):
        picture = Image.open(io.BytesIO(dataset.picture_bytes(opened.splits["train"], index))).convert("RGB")
        expected = Image.open(io.BytesIO(posts.made.picture(list(posts.made.COLORS)[number % 3],
                                                            posts.made.SHAPES[number % 2], number)))  # fmt: skip
        assert np.abs(np.asarray(picture, int) - np.asarray(expected.convert("RGB"), int)).mean() < 6


def test_a_dataset_says_what_was_dropped_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [
        simple(number, created_at=f"20{10 + number % 3}-01-01", rating="gsqe"[number % 4]) for number in range(1, 41)
    ]
    made[3] |= {"ext": "mp4"}
    made[4] |= {"general": ["rare"]}
    images = by_number(tmp_path / "images", [number for number in range(1, 41) if number != 7])
    (images / "readme.md").write_text("no picture")
    rules = ["--tag-minimum", "general=2", "--post-minimum", "general=1", "--count", "30", "--validation", "0.1"]
    assert run(tmp_path, made, images, *rules) == 0
    told = {
        (e["step"], e["why"].split(";")[0]): (e["kept"], e["dropped"])
        for e in json.loads((tmp_path / "out/report.json").read_text())
    }
    assert told["general tags", "on fewer than 2 posts"] == (4, 1)
    assert told["posts", "is a video or an animation in a zip file"] == (39, 1)
    assert told["posts", "has fewer than 1 general tags"] == (38, 1)
    assert told["posts", "has no picture under the images folder"] == (37, 1)
    assert told["posts", "not among the newest"] == (30, 7)
    assert told["pictures found", "files named neither by a number nor by an md5"] == (39, 1)
    assert (tmp_path / "out/report.txt").read_text().strip() == capsys.readouterr().out.strip()
    about = json.loads((tmp_path / "out/dataset.json").read_text())
    assert about["counts"] == {"train": 27, "validation": 3}
    assert about["filters"]["count"] == 30 and about["filters"]["tag_minima"]["general"] == 2
    opened = dataset.read(tmp_path / "out", tmp_path / "cache")
    rows = [row for split in opened.splits.values() for row in dataset.labels(split)]
    assert sorted(int(row["group"].split()[1]) for row in rows) == list(range(11, 41))
    for row in rows:
        number = int(row["group"].split()[1])
        assert row["year"] == 2010 + number % 3 and row["rating"][0] == "gsqe"[number % 4]
        assert row["tags_general"] == ["red", f"n{number % 3}"] and row["complete"]
    counts = Counter(tag for row in rows for tag in dataset.tags_of(row))
    assert {(tag["category"], tag["name"]): tag["count"] for tag in about["vocabulary"]} == counts


def test_random_posts_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    images = by_number(tmp_path / "images", list(range(1, 31)))
    drawn = []
    for seed in (1, 1, 2):
        folder = tmp_path / str(len(drawn))
        made = [simple(number) for number in range(1, 31)]
        assert run(folder, made, images, "--count", "9", "--choose", "random", "--seed", str(seed)) == 0
        drawn.append(sorted(file_rows(folder / "out")))
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 9


def test_pictures_of_a_folder_given_by_a_relative_path_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_number(tmp_path / "pictures", [1, 2])
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path, [simple(1), simple(2)], Path("pictures"), "--validation", "0") == 0
    opened = dataset.read(tmp_path / "out", tmp_path / "cache")
    assert all(dataset.picture_bytes(opened.splits["train"], row, opened.folder) for row in (0, 1))


def file_rows(folder: Path) -> list[str]:
    return [name for file in (folder / "data").glob("*") for name in parquet.read_table(file)["group"].to_pylist()]


def test_a_killed_making_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    made = [simple(number) for number in range(1, 81)]
    images = by_number(tmp_path / "images", list(range(1, 81)))
    assert run(tmp_path / "whole", made, images, "--rows-a-shard", "10") == 0
    pattern = posts.write(tmp_path / "metadata", made)
    out = tmp_path / "out"
    told = ["danbooru2024", "--metadata", pattern, "--images", str(images), "--out", str(out), *SIMPLE]
    script = (
        "import os, signal; from training.data import shards, __main__ as command\n"
        "wrote = shards.Shards.write_file\n"
        "def write(self, file, parts):\n"
        "    wrote(self, file, parts)\n"
        "    if '00003-of' in file.name: os.kill(os.getpid(), signal.SIGKILL)\n"
        "shards.Shards.write_file = write\n"
        f"command.main({[*told, '--rows-a-shard', '10']!r})"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL and not out.exists()
    partial = tmp_path / ".out.partial"
    first = (partial / "data/train-00002-of-00008.parquet").stat()
    assert command.main([*told, "--rows-a-shard", "20"]) == 1  # another order's
    again = subprocess.run([sys.executable, "-m", "training.data", *told, "--rows-a-shard", "10"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert "4 of 8 files are there already" in again.stderr and not partial.exists()
    assert (out / "data/train-00002-of-00008.parquet").stat().st_mtime_ns == first.st_mtime_ns
    for file in sorted((tmp_path / "whole/out/data").iterdir()):
        assert parquet.read_table(file).equals(parquet.read_table(out / "data" / file.name))


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (["--count", "0"], "--count must be at least 1"),
        (["--validation", "0.9"], "must be from 0 to 0.5"),
        (["--tag-minimum", "general"], "is no minimum"),
        (["--images", "/nowhere"], "There is no folder"),
        (["--metadata", "/nowhere/*.parquet"], "no parquet files"),
        (["--post-minimum", "general=9"], "No post is left"),
    ],
)
def test_a_wrong_order_is_a_sentence(
    tmp_path: Path, told: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, [simple(1)], by_number(tmp_path / "images", [1]), *told) == 1
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error


@pytest.mark.parametrize("killed", [False, True])
def test_pictures_that_vanish_are_told_where_bytes_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    images = by_number(tmp_path / "images", [1, 2, 3])
    pattern = posts.write(tmp_path / "metadata", [simple(n) for n in (1, 2, 3)])
    rules = Rules(dict.fromkeys(CATEGORIES, 1), dict.fromkeys(CATEGORIES, 0))
    maker = Maker(Order(pattern, images, tmp_path / "out", rules, validation=0, images_as="bytes", rows_a_shard=2))
    maker.open_work()
    maker.images()  # they are found, and then one goes
    (images / "2.png").unlink()
    if killed:
        with monkeypatch.context() as broken, pytest.raises(RuntimeError):
            broken.setattr(Maker, "finish", lambda self, shards: (_ for _ in ()).throw(RuntimeError()))
            maker.make()
        maker = Maker(maker.order)
    report = maker.make()
    assert (tmp_path / "out/unreadable.txt").read_text().strip().endswith("2.png")
    assert {"step": "rows of train", "kept": 2, "dropped": 0, "why": ""} in report.entries


def test_real_pictures_become_a_dataset_that_trains(tmp_path: Path) -> None:
    """The demo gallery's art and tags, in the published form."""
    from training import config, train

    seed = Path(__file__).resolve().parents[2] / "gallery/seed"
    pictures = json.loads((seed / "seed.json").read_text("utf-8"))["pictures"]
    made = []
    for number, one in enumerate(pictures, 1000):
        file = seed / one["file"]
        place = tmp_path / "images" / f"{number % 1000:04d}" / f"{number}{file.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
        made.append({"id": number, "md5": one["md5"], **{c: one["tags"].get(c, []) for c in CATEGORIES}})
    rules = ["--tag-minimum", "general=4", "--post-minimum", "general=2", "--validation", "0.2"]
    assert run(tmp_path, made, tmp_path / "images", *rules) == 0
    counts = json.loads((tmp_path / "out/dataset.json").read_text())["counts"]
    assert 60 < counts["train"] + counts["validation"] <= len(pictures)
    recipe = config.read("tiny", [*posts.made.FAST, "train.epochs=1"])
    trained = train.train(recipe, tmp_path / "out", tmp_path / "run", None, None)
    assert trained.state["status"] == "finished"
