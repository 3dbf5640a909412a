"""Pictures on their way to the network: streamed or kept, ahead of time, in an order that resumes, broken ones too."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tagger.preprocess import Preprocess
from tagger.vocabulary import Vocabulary
from tests.benchmarks import loader
from tests.training import made
from training import config, dataset, train
from training.dataset import Rows
from training.feeding import targets
from training.feeding.feed import Feed
from training.feeding.material import prepare
from training.feeding.pictures import Ahead, Source, Streamed, Unreadable
from training.feeding.sampling import Order, repeat_factors
from training.network import TrainedTagger, new_tagger
from training.run import RunFolder

CLOCK = ("elapsed", "pictures_per_second", "eta", "memory")


def lines(run: RunFolder) -> list[dict]:
    found = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in found]


def go(tmp_path: Path, source: Path, name: str, *settings: str) -> RunFolder:
    return train.train(
        config.read("tiny", [*made.FAST, "train.epochs=1", *settings]), source, tmp_path / name, None, None
    )


def test_streamed_pictures_teach_the_same_as_kept_ones(tmp_path: Path) -> None:
    source = made.shapes(tmp_path / "shapes")
    kept = go(tmp_path, source, "kept", "data.cache=decoded")
    streamed = go(tmp_path, source, "streamed", "data.cache=none", "data.workers=3")
    assert lines(kept) == lines(streamed) and len(lines(kept)) > 3
    assert not list(streamed.cache.glob("pictures-*")) and list(kept.cache.glob("pictures-*"))


def test_pictures_may_lie_in_a_folder(tmp_path: Path) -> None:
    rows = [made.row(number) for number in range(80)]
    (tmp_path / "art").mkdir()
    for number, row in enumerate(rows):
        (tmp_path / f"art/{number}.png").write_bytes(row["image"])
        row["image"] = {"bytes": None, "path": str(tmp_path / f"art/{number}.png")}
    source = dataset.write(tmp_path / "paths", {"train": rows[:60], "validation": rows[60:]}, {})
    whole = dataset.write(
        tmp_path / "bytes",
        {
            name: [made.row(n) for n in numbers]
            for name, numbers in (("train", range(60)), ("validation", range(60, 80)))
        },
        {},
    )
    assert lines(go(tmp_path, source, "a", "data.cache=none")) == lines(go(tmp_path, whole, "b"))


class Slow(Source):
    """Says which rows are being decoded, and waits to be let on."""

    def __init__(self, rows: int) -> None:
        self.rows, self.preprocess, self.begun = rows, Preprocess(8), []
        self.gate = threading.Event()

    def __len__(self) -> int:
        return self.rows

    def decode(self, row: int) -> np.ndarray:
        self.begun.append(row)
        self.gate.wait(10)
        return np.full((8, 8, 3), row, dtype=np.uint8)


def test_batches_are_decoded_by_all_threads_before_they_are_asked_for(tmp_path: Path) -> None:
    source = Slow(64)
    streamed = Streamed(source, Unreadable(RunFolder(tmp_path), "train", 64, 0.0), workers=8)
    batches = [np.arange(start, start + 4) for start in range(0, 64, 4)]
    ahead = Ahead(streamed, iter(batches), depth=3)
    assert len(ahead.begun) == 3
    source.gate.set()
    for rows in batches:
        assert (ahead.take(rows)[:, 0, 0, 0] == rows).all()
    assert sorted(source.begun) == list(range(64))
    assert ahead.take(batches[0]) is None


def test_eight_threads_decode_at_once(tmp_path: Path) -> None:
    source = Slow(8)
    streamed = Streamed(source, Unreadable(RunFolder(tmp_path), "train", 8, 0.0), workers=8)
    waiting = streamed.start(np.arange(8))
    for _ in range(1000):
        if len(source.begun) == 8:
            break
        threading.Event().wait(0.01)
    assert len(source.begun) == 8 and not any(future.done() for future in waiting)
    source.gate.set()
    assert streamed.finish(np.arange(8), waiting).shape == (8, 8, 8, 3)


@pytest.mark.parametrize("cache", ["decoded", "none"])
def test_few_unreadable_pictures_are_named_counted_and_not_learned_from(tmp_path: Path, cache: str) -> None:
    rows = [made.row(number) for number in range(200)]
    rows[7]["image"] = b"no picture"
    rows[70]["image"] = {"bytes": None, "path": str(tmp_path / "gone.png")}
    source = dataset.write(tmp_path / "broken", {"train": rows[:150], "validation": rows[150:]}, {})
    run = go(tmp_path, source, "run", f"data.cache={cache}", "data.unreadable_share=0.02")
    told = [json.loads(line) for line in (run.folder / "unreadable.jsonl").read_text().splitlines()]
    assert sorted(one["row"] for one in told) == [7, 70]
    assert {one["split"] for one in told} == {"train"} and run.state["unreadable"] == 2
    assert any("gone.png" in one["why"] for one in told)


def test_cells_of_an_unreadable_picture_are_unknown() -> None:
    rows = [dataset.complete_row({"image": b"", "tags_general": ["red"]}) for _ in range(3)]
    known = targets.build(rows, Vocabulary(["red", "blue"], ["general"] * 2, [1, 1]))
    mask = np.zeros(9, dtype=bool)
    from dataclasses import replace

    known = replace(known, unreadable=mask, place=np.array([2, 4, 6]))
    assert known.batch(np.arange(3))[1].all()
    mask[4] = True
    assert known.batch(np.arange(3))[1].tolist() == [[1, 1], [0, 0], [1, 1]]


def test_a_picture_comes_as_often_as_its_rarest_tag_asks() -> None:
    tags = [["common"]] * 90 + [["common", "rare"]] * 8 + [["rarest"]] * 2
    rows = [dataset.complete_row({"image": b"", "tags_general": names}) for names in tags]
    known = targets.build(rows, Vocabulary(["common", "rare", "rarest"], ["general"] * 3, [98, 8, 2]))
    factors = repeat_factors(known, 0.05)
    expected = {}
    for name, pictures in (("common", 98), ("rare", 8), ("rarest", 2)):
        frequency = ((pictures / 100) * (pictures / 108)) ** 0.5
        expected[name] = max(1.0, (0.05 / frequency) ** 0.5)
    assert factors.tolist() == pytest.approx([expected[names[-1]] for names in tags])
    assert expected["rarest"] > 1.5 and expected["common"] == 1
    order = Order(3, 100, factors)
    counts = np.mean([np.bincount(order.epoch(epoch), minlength=100) for epoch in range(400)], axis=0)
    assert counts[98:].mean() == pytest.approx(expected["rarest"], rel=0.05)
    assert counts[:90].mean() == pytest.approx(1, rel=0.03)
    assert {len(order.epoch(epoch)) for epoch in range(5)} == {order.length} == {round(factors.sum())}


def test_the_order_of_an_epoch_is_the_same_whenever_it_is_asked_for() -> None:
    assert (Order(1, 50).epoch(3) == Order(1, 50).epoch(3)).all()
    assert sorted(Order(1, 50).epoch(3)) == list(range(50))
    assert (Order(1, 50).epoch(3) != Order(1, 50).epoch(4)).any() and (
        Order(2, 50).epoch(3) != Order(1, 50).epoch(3)
    ).any()


def test_rows_read_by_column_are_known_as_rows_read_one_by_one(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    names = [f"t{i}" for i in range(12)]
    rows = [
        made.row(n, tags_general=list(draw.choice(names, 4, replace=False)), tags_artist=["someone"][: n % 2],
                 rating=[None, "general", "explicit"][n % 3], year=[None, 2020][n % 2])
        for n in range(40)
    ]  # fmt: skip
    source = dataset.write(tmp_path / "d", {"train": rows}, {})
    opened = dataset.read(source, tmp_path / "cache").splits["train"]
    vocabulary = Vocabulary(
        [*names[:9], "someone", "flat", "rating_general", "rating_explicit", "year_2020"],
        ["general"] * 9 + ["artist", "meta", "rating", "rating", "year"], [1] * 14,
    )  # fmt: skip
    index = np.array([3, 9, 2, 30, 31, 32])
    for chosen in (None, index):
        lazy = Rows(opened, chosen)
        assert targets.plain(next(lazy.tables()))
        quick, slow = targets.build(lazy, vocabulary), targets.build(list(lazy), vocabulary)
        everything = np.arange(len(lazy))
        for a, b in zip(quick.batch(everything), slow.batch(everything), strict=True):
            assert (a == b).all()
        assert targets.count_tags(lazy, {}) == targets.count_tags(list(lazy), {})
        assert [lazy[i]["md5"] for i in everything] == [row["md5"] for row in lazy]


def test_a_tag_that_begins_like_a_year_leaves_the_year_open() -> None:
    row = dataset.complete_row({"image": b"", "tags_general": ["year_of_the_tiger"]})
    vocabulary = Vocabulary(["year_of_the_tiger", "year_2020"], ["general", "year"], [1, 1])
    for known in (vocabulary, Vocabulary(["year_2020"], ["year"], [1])):
        assert targets.build([row], known).batch(np.arange(1))[1][0, -1] == 0
    dated = dataset.complete_row({"image": b"", "tags_general": [], "year": 2019})
    assert targets.build([dated], vocabulary).batch(np.arange(1))[1].all()


def test_unreadable_pictures_stay_unknown_where_activations_are_kept(tmp_path: Path) -> None:
    """Also to a process that finds the activations made, and when a run goes on."""
    rows = [made.row(number) for number in range(60)]
    rows[7]["image"] = b"no picture"
    source = dataset.write(tmp_path / "broken", {"train": rows}, {})
    settings = [*made.FAST, "data.cache=none", "data.unreadable_share=0.1", "data.validation_share=0.0"]
    recipe = config.read("tiny", [*settings, "model.frozen_stages=3"])
    run = RunFolder(tmp_path / "run")
    run.make()
    masks = []
    for _ in range(2):
        material = prepare(recipe, dataset.read(source, tmp_path / "cache"), run, None)
        network = TrainedTagger(new_tagger(recipe, material.vocabulary, len(material.train)), recipe).eval()
        Feed(material.train, material, recipe, network, torch.device("cpu")).keep_early(run, 1)
        masks.append(np.flatnonzero(material.train.targets.unreadable).tolist())
    assert masks == [[7], [7]]


def test_a_second_process_waits_for_what_the_first_one_prepares(tmp_path: Path) -> None:
    rows = [made.row(number) for number in range(60)]
    rows[7]["image"] = b"no picture"
    source = dataset.write(tmp_path / "broken", {"train": rows}, {})
    settings = [*made.FAST, "data.cache=decoded", "data.unreadable_share=0.1", "data.validation_share=0.0"]
    recipe = config.read("tiny", [*settings, "model.frozen_stages=3"])
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run", writes=False)
    first.make()

    def ready(run: RunFolder, cache: str) -> tuple[list[int], np.ndarray, np.ndarray]:
        material = prepare(recipe, dataset.read(source, tmp_path / cache), run, None)
        network = TrainedTagger(new_tagger(recipe, material.vocabulary, len(material.train)), recipe).eval()
        feed = Feed(material.train, material, recipe, network, torch.device("cpu"))
        pixels = material.train.pixels(np.arange(60))
        feed.keep_early(run, 1)
        return np.flatnonzero(material.train.targets.unreadable).tolist(), pixels, np.asarray(feed.kept)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ready, second, "b")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        assert not list(first.cache.iterdir())
        ours, theirs = ready(first, "a"), waiting.result(timeout=60)
    assert ours[0] == theirs[0] == [7]
    assert all(np.array_equal(a, b) for a, b in zip(ours[1:], theirs[1:], strict=True))


def test_the_loader_is_measured_against_a_plain_one_on_the_same_pictures(tmp_path: Path) -> None:
    split = dataset.read(loader.made(tmp_path / "made", 10), tmp_path / "cache").splits["train"]
    source, order = Source(split, loader.preprocess(32)), [np.array([3, 1, 4]), np.array([5, 9, 2]), np.array([6])]
    run = RunFolder(tmp_path / "run")
    ours = list(loader.by_trainer(source, order, 2, run))
    plain = list(loader.by_dataloader(source, order, 0))
    assert [len(batch) for batch in ours] == [3, 3, 1]
    assert all(torch.equal(*pair) for pair in zip(ours, plain, strict=True))
    ways = {"trainer": lambda workers: loader.by_trainer(source, order, workers, run)}
    passes = loader.compare(ways, 1, rounds=1)["trainer"]
    assert list(passes) == list(loader.DEVICES)
    for (one,) in passes.values():
        assert (one.pictures, one.batches) == (7, 3)
        assert one.busy > 0 and one.idle >= 0 and one.waited < one.seconds
    assert set(loader.best(passes)) == {"rate", "cost", *loader.SHARES}
