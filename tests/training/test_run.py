"""Whole runs by the tiny recipe: going on after a kill, beating a baseline, publishing, learning from corrections."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tagger import release as releases
from tagger.inference import Predictor
from tests.training import made
from training import baselines, config, dataset, evaluation, publish, train
from training.run import RunError, RunFolder

STARTER_STYLES = ("adventurer", "lorelei", "pixel-art")


def run_tiny(folder: Path, source: Path, *settings: str, recipe: str = "tiny", start: Path | None = None) -> RunFolder:
    return train.train(config.read(recipe, [*made.FAST, *settings]), source, folder, start, None)


def lines(run: Path, kind: str) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clock = ("elapsed", "pictures_per_second", "eta", "memory")
    return [{k: v for k, v in line.items() if k not in clock} for line in found if line["kind"] == kind]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_tiny(tmp_path_factory.mktemp("runs") / "finished", shapes).folder


@pytest.fixture(scope="module")
def release(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("releases") / "shapes"
    publish.publish(finished, out, "shapes", "Shapes", "CC0-1.0")
    return out


def test_a_killed_run_goes_on_as_if_nothing_had_been(
    shapes: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    settings = [part for setting in (*made.FAST, "train.checkpoint_seconds=0") for part in ("--set", setting)]
    words = ["tiny", "--dataset", str(shapes), "--run", str(folder), *settings]
    killed = subprocess.Popen([sys.executable, "-m", "training.train", *words], stdout=subprocess.PIPE, text=True)
    for line in killed.stdout:
        if "step 9/" in line:
            os.kill(killed.pid, signal.SIGKILL)
            break
    assert killed.wait() == -signal.SIGKILL
    assert json.loads((folder / "state.json").read_text())["status"] == "training"
    assert train.main(words) == 0
    assert "going on at step" in capsys.readouterr().out
    assert lines(folder, "train") == lines(finished, "train")
    assert lines(folder, "validation") == lines(finished, "validation")
    ours, theirs = (load_file(run / "checkpoints/best.safetensors") for run in (folder, finished))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_finished_run_is_not_trained_again_nor_with_another_recipe(shapes: Path, finished: Path) -> None:
    before = (finished / "metrics.jsonl").read_text()
    run_tiny(finished, shapes)
    assert (finished / "metrics.jsonl").read_text() == before
    with pytest.raises(RunError, match="another recipe"):
        run_tiny(finished, shapes, "train.epochs=9")


def test_a_published_run_tags_pictures_as_it_was_judged(finished: Path, release: Path) -> None:
    predictor = Predictor(release, device="cpu", threads=1)
    assert predictor.release.metrics["splits"]["validation"]["pictures"] == 60
    assert "/" not in str(predictor.release.metrics["run"]["release"] or "")
    best = RunFolder(finished).state["best"]["step"]
    sample = json.loads((finished / f"samples/step-{best:07d}-validation.json").read_text())["samples"][0]
    number = int(sample["md5"], 16)
    data = made.picture(*made.row(number)["tags_general"], number)
    (file := finished / "picture.png").write_bytes(data)
    tags, confidences, _ = predictor.predict([Image.open(file)])[0]
    found = {predictor.release.vocabulary.names[tag]: c for tag, c in zip(tags, confidences, strict=True)}
    for name, confidence in zip(sample["predicted"]["tags"], sample["predicted"]["refined"], strict=True):
        assert found.get(name, 0) == pytest.approx(confidence if name in found else 0, abs=0.01)
    assert "## What it cannot do" in predictor.release.card


def test_what_was_measured_is_there_as_tables_and_pictures(finished: Path, release: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    split = metrics["splits"]["validation"]
    for group, measured in split["refined"]["micro_opt"].items():
        low, high = split["intervals"][group]["micro_f1"]
        assert low <= measured["micro_f1"] <= high
    assert 0 <= split["average_precision"]["overall"] <= 1
    assert split["selection"]["size"] == 7 and split["selection"]["ground_truth_recall"] == 1  # of seven tags, all
    assert metrics["calibration"]["temperature"] > 0
    tags = list(csv.DictReader((finished / "tags-validation.csv").open()))
    assert {tag["name"] for tag in tags} == set(releases.read(release).vocabulary.names)
    scores = list(csv.DictReader((finished / "scores.csv").open()))
    assert len(scores) == 2 * 5 * len(split["refined"]["balanced"])
    report = (finished / "report.md").read_text()
    assert "## validation (60 pictures)" in report and "## Calibration" in report
    for file in ("plot-thresholds.png", "plot-precision-recall.png", "plot-calibration.png", "plot-tags.png"):
        with Image.open(release / file) as picture:
            assert picture.size == (600, 400)
        assert f"]({file})" in (release / "card.md").read_text()


def test_activations_are_kept_and_weights_averaged(shapes: Path, tmp_path: Path) -> None:
    settings = ("model.frozen_stages=3", "train.cache_activations=2", "augment.flip=0.5", "train.ema=0.9")
    run = run_tiny(tmp_path / "run", shapes, *settings, "augment.scale=0.1", "train.epochs=2")
    assert (run.cache / "early-train.float16").stat().st_size == 2 * 2 * 96 * 8 * 8 * 32
    assert run.state["status"] == "finished"


def test_activations_are_kept_in_half_precision_too(shapes: Path, tmp_path: Path) -> None:
    """Auto is bf16 on every GPU, where the frozen weights are halves as well."""
    settings = ("model.frozen_stages=3", "train.cache_activations=1", "engine.precision=bf16", "train.epochs=1")
    assert run_tiny(tmp_path / "run", shapes, *settings).state["status"] == "finished"


def test_a_fresh_head_learns_on_a_releases_backbone(shapes: Path, release: Path, tmp_path: Path) -> None:
    settings = ("model.frozen_stages=-1", "model.fresh_head=true", "train.cache_activations=1", "train.epochs=2")
    settings = (*settings, "data.vocabulary=dataset", "model.refined_hidden=48")
    run = run_tiny(tmp_path / "run", shapes, *settings, start=release)
    assert (run.cache / "early-train.float16").stat().st_size == 2 * 96 * 320  # the pooled feature alone
    start = releases.read(release)
    made_new = publish.publish(run.folder, tmp_path / "new", "new", "New", "CC0-1.0")
    before, after = releases.load_weights(start), releases.load_weights(made_new)
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("backbone."))
    assert made_new.architecture.refined_hidden == 48 and made_new.vocabulary == start.vocabulary
    assert not torch.equal(before["initial_classifier.0.weight"], after["initial_classifier.0.weight"])
    evaluation.main([str(run.folder)])
    assert json.loads((run.folder / "metrics.json").read_text())["splits"] == made_new.metrics["splits"]


def test_a_time_budget_ends_the_schedule(shapes: Path, tmp_path: Path) -> None:
    recipe = config.read("tiny", [*made.FAST, "train.epochs=10000"])
    run = train.train(recipe, shapes, tmp_path / "run", None, 0.05)
    last = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()][-1]
    assert run.state["status"] == "finished" and last["step"] < run.state["steps"]


def correction(number: int, **columns: object) -> dict:
    """A row as a gallery exports it."""
    shown = {"predicted_tags": ["red", "circle", "flat"], "predicted_confidences": [0.4, 0.3, 0.9]}
    return made.row(number, complete=False, release="shapes", **shown, **columns)


@pytest.mark.parametrize("count", [3, 60])
def test_corrections_are_learned_and_the_rest_is_kept(release: Path, tmp_path: Path, count: int) -> None:
    rows = [correction(n, verified=["striped"], rejected=["red"]) for n in range(count)]
    about = {"release": "shapes", "vocabulary": [{"name": "striped", "category": "meta", "count": count}]}
    source = dataset.write(tmp_path / "export", {"train": rows}, about)
    settings = ["train.epochs=3", "train.batch_size=8", "train.threads=1", "model.frozen_stages=3"]
    run = train.train(config.read("finetune", settings), source, tmp_path / "run", release, None)
    tuned = publish.publish(run.folder, tmp_path / "tuned", "tuned", "Tuned", "CC0-1.0")
    start = releases.read(release)
    assert tuned.vocabulary.names == [*start.vocabulary.names, "striped"]
    assert tuned.vocabulary.categories[-1] == "meta"
    assert tuned.thresholds == start.thresholds
    assert "thresholds are kept" in tuned.card
    assert tuned.metrics["verdicts"]["cells"] == 2 * count
    pictures = [Image.open(file) for file in written(tmp_path, 9)]
    before, after = (Predictor(folder, "cpu", threads=1).predict(pictures) for folder in (release, tuned.folder))
    for old, new in zip(before, after, strict=True):
        drift = dict(zip(new.indices.tolist(), new.confidences.tolist(), strict=True))
        kept = [abs(drift.get(tag, 0) - c) for tag, c in zip(old.indices.tolist(), old.confidences, strict=True) if tag]
        assert np.mean(kept) < 0.35


def written(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(made.picture(*made.row(number)["tags_general"], number))
    return files


def test_a_broken_picture_stops_the_run_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [made.row(0), {**made.row(1), "image": b"not a picture"}]
    source = dataset.write(tmp_path / "broken", {"train": rows}, {})
    told = ["tiny", "--dataset", str(source), "--run", str(tmp_path / "run"), "--set", "data.minimum_count=1"]
    assert train.main(told) == 1
    error = capsys.readouterr().err
    assert "Row 1 (" in error and "no readable picture" in error and error.count("\n") == 1


def test_the_tiny_recipe_beats_the_frequency_of_tags_on_avatars(tmp_path: Path) -> None:
    from training.starter.avatars import avatars

    rows = list(avatars(460, seed=3, size=64, styles=STARTER_STYLES))
    source = dataset.write(tmp_path / "avatars", {"train": rows[:360], "validation": rows[360:]}, {})
    run = train.train(config.read("tiny", ["train.threads=1"]), source, tmp_path / "run", None, None)
    evaluated, _, material = evaluation.open_run(run.folder, None)
    frequency = baselines.judge(material, baselines.frequency(material))["validation"]["overall"]["micro_f1"]
    ours = json.loads((evaluated.folder / "metrics.json").read_text())["splits"]["validation"]
    assert ours["refined"]["micro_opt"]["overall"]["micro_f1"] >= frequency + 0.2
