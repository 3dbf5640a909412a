"""Runs that cannot write, or meet losses that are no numbers."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tagger import release as releases
from tests.training import made
from training import config, dataset, evaluation, publish, train
from training.run import RunError, RunFolder
from training.skipping import Skipped


def test_lines_that_cannot_be_written_are_counted_and_bounded(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.make()
    (run.folder / "metrics.jsonl").symlink_to("/dev/full")
    for _ in range(5):
        run.record("train", step=1)
    assert run.state["failed_writes"] == 5
    with pytest.raises(OSError, match="metrics.jsonl"):
        run.record("train", step=1)


def poisoned(folder: Path, rows: int, bad: set[int]) -> Path:
    """Predictions that are no numbers make losses that are none, where unknown cells lean on them."""
    shown = {"complete": False, "release": "r", "predicted_tags": ["red", "circle"]}
    made_rows = []
    for n in range(rows):
        yes = ["flat", "red"] if n == 47 else ["flat"]
        made_rows.append(made.row(n, **shown, verified=yes, predicted_confidences=[np.nan if n in bad else 0.5, 0.2]))
    vocabulary = [{"name": name, "category": "general", "count": rows} for name in ("red", "circle", "flat")]
    return dataset.write(folder, {"train": made_rows}, {"vocabulary": vocabulary})


POISON = ("data.minimum_count=1", "loss.soft_weight=0.5", "train.epochs=2", "data.validation_share=0.0")


def learned(tmp_path: Path, source: Path, *settings: str) -> tuple[int, Path]:
    told = [part for setting in (*made.FAST, *POISON, *settings) for part in ("--set", setting)]
    return train.main(["tiny", "--dataset", str(source), "--run", str(tmp_path / "run"), *told]), tmp_path / "run"


def test_losses_that_are_no_numbers_are_skipped_and_counted(tmp_path: Path) -> None:
    source = poisoned(tmp_path / "poisoned", 48, {5})
    code, run = learned(tmp_path, source, "train.batch_size=8")
    state = json.loads((run / "state.json").read_text())
    assert code == 0 and state["status"] == "finished" and state["skipped"] == 2  # once an epoch
    told = [json.loads(line) for line in (run / "skipped.jsonl").read_text().splitlines()]
    assert len(told) == 2 and all(f"{5:032x}" in one["md5"] for one in told)
    kept = load_file(run / "skipped/process-0.safetensors")
    assert set(kept) == {"inputs", "targets", "weights"} and kept["targets"].isnan().any()
    assert all(tensor.isfinite().all() for tensor in load_file(run / "checkpoints/best.safetensors").values())


def test_a_skipped_batch_after_a_start_keeps_the_loaded_statistics(tmp_path: Path) -> None:
    class Alone:
        device, rank = torch.device("cpu"), 0
        total = staticmethod(lambda tensor: tensor)

    norm = torch.nn.BatchNorm2d(2)
    norm.norm_statistics = lambda: iter([norm.running_mean, norm.running_var])
    run = RunFolder(tmp_path / "run")
    run.make()
    skipped = Skipped(run, Alone(), norm, 10)
    norm.running_mean.fill_(3.0)  # as a checkpoint does
    skipped.remember()
    norm.running_mean.fill_(np.nan)
    part = SimpleNamespace(rows=[{"md5": ""}])
    assert skipped.takes(torch.tensor(np.nan), 1, np.array([0]), part, *(torch.zeros(1) for _ in range(3)))
    skipped.restore()
    assert norm.running_mean.tolist() == [3.0, 3.0]


def test_too_many_of_them_stop_the_run_with_the_batch_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = poisoned(tmp_path / "poisoned", 48, set(range(48)))
    code, run = learned(tmp_path, source, "train.batch_size=8", "train.skip_limit=3")
    error = capsys.readouterr().err
    assert code == 1 and "no number in 4 micro-batches" in error and error.count("\n") == 1
    assert json.loads((run / "state.json").read_text())["status"] == "stopped"
    assert load_file(run / "skipped/process-0.safetensors")["inputs"].shape[0] == 8


def test_the_recipe_says_what_is_wrong_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["tiny", "--dataset", str(tmp_path / "none"), "--run", str(tmp_path / "run")]) == 1
    source = made.shapes(tmp_path / "shapes", 8, 2)
    assert train.main(["finetune", "--dataset", str(source), "--run", str(tmp_path / "run")]) == 1
    assert "give --release" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert config.read("tiny").train.skip_limit == 10


def test_a_run_killed_before_its_recipe_was_written_begins_again(tmp_path: Path) -> None:
    recipe, folder = config.read("tiny"), tmp_path / "run"
    run = RunFolder(folder)
    run.make()
    run.update(status="preparing", step=0)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="no run folder and not empty"):
        train.open_run(folder, recipe, tmp_path / "data", None)
    (folder / "notes.txt").unlink()
    train.open_run(folder, recipe, tmp_path / "data", None)
    assert train.open_run(folder, recipe, tmp_path / "data", None).state["recipe"] == "tiny"
    with pytest.raises(RunError, match="another recipe, dataset or release"):
        train.open_run(folder, recipe, tmp_path / "other", None)


def test_a_run_is_not_judged_or_published_before_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path / "run")
    assert evaluation.main([str(run.folder)]) == 1 and "is no run folder" in capsys.readouterr().err
    run.make()
    run.update(status="stopped", dataset=str(tmp_path))
    run.write_text("config.toml", config.to_toml(config.read("tiny")))
    assert evaluation.main([str(run.folder)]) == 1 and "goes on with it" in capsys.readouterr().err
    assert RunFolder(run.folder).state["status"] == "stopped"
    assert publish.main([str(run.folder), "--out", str(tmp_path / "out"), "--name", "x"]) == 1
    assert "is not a finished run" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_damaged_weights_and_a_run_that_goes_on_elsewhere_are_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made.shapes(tmp_path / "shapes", 32, 8)
    command = ["tiny", "--dataset", str(source), "--run", str(tmp_path / "run")]
    command += [part for setting in (*made.FAST, "train.epochs=1") for part in ("--set", setting)]
    recipe = config.read("tiny", (*made.FAST, "train.epochs=1"))
    run = train.open_run(tmp_path / "run", recipe, source, None)
    with run.alone():
        assert train.main(command) == 1
    assert "Another program is writing the run" in capsys.readouterr().err
    assert RunFolder(run.folder).state["status"] == "preparing"
    assert train.main(command) == 0
    words = [str(run.folder), "--out", str(tmp_path / "out"), "--name", "x"]
    assert publish.main([*words, "--credits", "nofile"]) == 1 and "no file nofile" in capsys.readouterr().err
    for replace in ([], ["--replace"], ["--replace"]):
        assert publish.main([*words, *replace]) == 0
    assert "None was stated. Credits" in (tmp_path / "out/card.md").read_text()
    run.best.write_bytes(run.best.read_bytes()[:1000])
    capsys.readouterr()
    assert evaluation.main([str(run.folder)]) == 1
    assert publish.main([*words, "--replace"]) == 1
    error = capsys.readouterr().err
    assert error.count("cannot be read") == 2 and error.count("\n") == 2
    assert releases.read(tmp_path / "out").name == "x"  # the one before stays
    checkpoint = next(run.checkpoints.glob("step-*"))
    for file in checkpoint.iterdir():
        file.write_bytes(file.read_bytes()[:1000])
    RunFolder(run.folder).update(status="training")
    assert train.main(command) == 1
    error = capsys.readouterr().err
    assert f"The checkpoint {checkpoint} cannot be read" in error and error.count("\n") == 1
    (run.checkpoints / "latest").unlink()
    assert train.main(command) == 0 and publish.main([*words, "--replace"]) == 0


@pytest.mark.parametrize(
    "words", [["--minutes", "0"], ["--minutes", "-3"], ["--steps", "0"], ["--tags", "0", "--plan"]]
)
def test_no_time_no_steps_and_no_tags_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(["tiny", "--dataset", "d", "--run", "r", *words])
    assert ended.value.code == 2 and f"{words[0]} must be above 0" in capsys.readouterr().err
