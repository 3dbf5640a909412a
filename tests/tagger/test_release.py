import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tagger import release
from tagger.inference import Predictor
from tagger.release import ReleaseError
from tests.tagger import releases


def change_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def parts(**changes: Any) -> dict[str, Any]:
    """What `release.write` takes, whole and right but for the changes."""
    config = {"name": "parts", "architecture": releases.architecture().to_config(), "preprocess": {"size": 64}}
    right = {"weights": releases.model().state_dict(), "vocabulary": releases.vocabulary(), "metrics": {}, "card": ""}
    return {"config": config, "thresholds": releases.thresholds(), **right, **changes}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = releases.write(tmp_path / "first", seed=4)
    again = release.read(tmp_path / "first")
    assert again == written
    assert (again.name, again.title) == ("first", "first (random)")
    assert again.architecture == releases.architecture()
    assert again.preprocess.size == 64
    assert again.vocabulary == releases.vocabulary()
    assert again.metrics == {"refined": {"micro_f1": 0.5}}
    assert again.card.startswith("# Random")
    assert (again.score_floor, again.max_predictions, again.exclusive_categories) == (0.10, 256, ["rating"])
    assert again.config["created_at"].endswith("Z")
    original = releases.model(seed=4).state_dict()
    stored = release.load_weights(again)
    assert stored.keys() == original.keys()
    for key, tensor in stored.items():
        assert tensor.dtype == (torch.float16 if original[key].is_floating_point() else torch.int64)
        torch.testing.assert_close(tensor.to(original[key].dtype), original[key], atol=1e-3, rtol=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert os.stat(tmp_path / "first").st_mode & 0o055 == 0o055


def test_numbers_too_large_for_half_precision_stay_whole(tmp_path: Path) -> None:
    weights = releases.model().state_dict()
    weights["backbone.features.0.1.running_var"][0] = 1e6
    written = release.write(tmp_path / "large", **parts(weights=weights))
    stored = release.load_weights(written)["backbone.features.0.1.running_var"]
    assert stored.dtype == torch.float32
    assert stored[0] == 1e6


def test_an_existing_release_is_kept_unless_replaced(tmp_path: Path) -> None:
    releases.write(tmp_path / "one")
    with pytest.raises(ReleaseError, match="exists already"):
        release.write(tmp_path / "one", **parts())
    release.write(tmp_path / "one", **parts(card="new"), replace=True)
    assert release.read(tmp_path / "one").card == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_extra_files_travel_and_may_not_take_a_name_in_use(tmp_path: Path) -> None:
    (tmp_path / "credits").write_text("thanks")
    extra = {"CREDITS.md": tmp_path / "credits", "note.txt": "text", "raw.bin": b"\x00"}
    release.write(tmp_path / "one", **parts(), extra_files=extra)
    assert (tmp_path / "one" / "CREDITS.md").read_text() == "thanks"
    assert (tmp_path / "one" / "raw.bin").read_bytes() == b"\x00"
    for name in ("config.json", "../escape.txt", ""):
        with pytest.raises(ReleaseError, match="plain name"):
            release.write(tmp_path / "two", **parts(), extra_files={name: "x"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["credits", "one"]


def test_weights_may_come_from_a_safetensors_file(tmp_path: Path) -> None:
    save_file(releases.model().state_dict(), tmp_path / "run.safetensors")
    written = release.write(tmp_path / "one", **parts(weights=tmp_path / "run.safetensors"))
    assert len(release.load_weights(written)) == len(releases.model().state_dict())
    (tmp_path / "run.safetensors").write_bytes(b"not weights")
    with pytest.raises(ReleaseError, match="damaged"):
        release.write(tmp_path / "two", **parts(weights=tmp_path / "run.safetensors"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": Path("model.pt")}, "pickle.*convert it to safetensors"),
        ({"weights": {"temperature": torch.tensor([torch.nan])}}, "not finite"),
        ({"thresholds": {}}, "initial or refined"),
        ({"config": parts()["config"] | {"name": "../up"}}, "release name"),
        ({"config": parts()["config"] | {"weights": {"file": "model.bin", "dtype": "float16"}}}, "pickle"),
        ({"config": parts()["config"] | {"score_floor": 0}}, "score_floor"),
    ],
)
def test_a_bad_release_is_never_written(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        release.write(tmp_path / "bad", **parts(**changes))
    assert list(tmp_path.iterdir()) == []


CORRUPTIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "lacks its weights"),
    "no vocabulary": (lambda folder: (folder / "vocabulary.json").unlink(), "has no vocabulary.json"),
    "cut config": (lambda folder: (folder / "config.json").write_text('{"format": "man'), "cannot be read"),
    "config is binary": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "cannot be read"),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
    "other format": (lambda folder: change_json(folder / "config.json", format="zip"), "not a release folder"),
    "newer version": (lambda folder: change_json(folder / "config.json", version=2), "release version 2"),
    "other kind": (lambda folder: change_json(folder / "config.json", kind="joy"), "unknown kind 'joy'"),
    "kind is a list": (lambda folder: change_json(folder / "config.json", kind=["camie"]), "unknown kind"),
    "exclusive lists": (lambda folder: change_json(folder / "config.json", exclusive_categories=[[]]), "exclusive_"),
    "thresholds in a list": (
        lambda folder: (folder / "thresholds.json").write_text('{"refined": {"general": [1]}}'),
        "Thresholds lack refined / general / 1",
    ),
    "pickle": (
        lambda folder: change_json(folder / "config.json", weights={"file": "model.pt", "dtype": "float16"}),
        "pickle",
    ),
    "outside": (
        lambda folder: change_json(folder / "config.json", weights={"file": "../m.safetensors", "dtype": "float16"}),
        "must be a .safetensors file in it",
    ),
    "no architecture": (lambda folder: change_json(folder / "config.json", architecture=None), "lacks its part"),
    "unknown key": (lambda folder: change_json(folder / "config.json", preprocess={"size": 64, "crop": 1}), "crop"),
    "wrong type": (lambda folder: change_json(folder / "config.json", max_predictions="all"), "max_predictions"),
    "exclusive": (lambda folder: change_json(folder / "config.json", exclusive_categories=["age"]), "exclusive_"),
    "fewer tags": (
        lambda folder: change_json(folder / "vocabulary.json", tags=releases.vocabulary().to_config()["tags"][:-1]),
        "names 34 tags but its model scores 35",
    ),
    "thresholds": (lambda folder: (folder / "thresholds.json").write_text("{}"), "initial or refined"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_damaged_release_is_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    corrupt, words = CORRUPTIONS[name]
    folder = releases.write(tmp_path / "one").folder
    corrupt(folder)
    with pytest.raises(ReleaseError, match=words):
        release.read(folder)


def test_a_card_of_another_encoding_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = releases.write(tmp_path / "one").folder
    (folder / "card.md").write_bytes("# Größe".encode("latin-1"))
    assert release.read(folder).card.startswith("# Gr")


def test_no_folder_and_a_pickle_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no release folder"):
        release.read(tmp_path / "nothing")
    with pytest.raises(ReleaseError, match="pickle"):
        release.read(tmp_path / "model_refined.pt")


@pytest.mark.parametrize("cut", [0, 5, 200, 100_000])
def test_cut_weights_are_refused(tmp_path: Path, cut: int) -> None:
    file = releases.write(tmp_path / "one").weights_file
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ReleaseError, match="damaged"):
        Predictor(tmp_path / "one", "cpu")


def test_weights_of_another_model_list_every_difference(tmp_path: Path) -> None:
    file = releases.write(tmp_path / "one").weights_file
    weights = load_file(file)
    del weights["temperature"]
    weights["extra.weight"] = torch.zeros(2)
    weights["tag_embedding.weight"] = torch.zeros(7, 32)
    save_file(weights, file)
    with pytest.raises(ReleaseError) as caught:
        Predictor(tmp_path / "one", "cpu")
    sentence = str(caught.value)
    assert "1 missing (temperature)" in sentence
    assert "1 unexpected (extra.weight)" in sentence
    assert "1 wrong-shaped (tag_embedding.weight is (7, 32), not (35, 32))" in sentence
