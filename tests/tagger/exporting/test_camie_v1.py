import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tagger import release
from tagger.__main__ import main
from tagger.importing.camie_v1 import import_camie_v1
from tests.tagger import releases


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> release.ReleaseFolder:
    return releases.write(tmp_path_factory.mktemp("releases") / "ours")


@pytest.fixture(scope="module")
def files(ours: release.ReleaseFolder) -> Path:
    out = ours.folder.with_name("files")
    assert main(["export", "camie-v1", str(ours.folder), "--out", str(out)]) == 0
    return out


def test_there_and_back_is_the_same_release(ours: release.ReleaseFolder, files: Path, tmp_path: Path) -> None:
    back = import_camie_v1(files, tmp_path / "back", name="back", title=ours.title)
    assert back.vocabulary == ours.vocabulary
    assert back.thresholds == ours.thresholds
    assert (back.architecture, back.preprocess) == (ours.architecture, ours.preprocess)
    assert back.config["licence"] == "CC0-1.0"
    before, after = release.load_weights(ours), release.load_weights(back)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)


def test_the_first_stage_alone_is_there_too(ours: release.ReleaseFolder, files: Path, tmp_path: Path) -> None:
    back = import_camie_v1(files, tmp_path / "back", stages="initial", name="back", title="back")
    assert back.architecture.stages == "initial" and "refined" not in back.thresholds
    assert release.load_weights(back).keys() < release.load_weights(ours).keys()


def test_the_files_are_those_that_were_published(files: Path) -> None:
    assert {str(file.relative_to(files)) for file in files.rglob("*") if file.is_file()} == {
        "model_refined.safetensors", "model_initial.safetensors", "README.md",
        "model/metadata.json", "model/thresholds.json", "model/model_info_refined.json",
    }  # fmt: skip
    metadata = json.loads((files / "model" / "metadata.json").read_text())
    assert metadata["total_tags"] == len(metadata["idx_to_tag"]) == len(releases.TAGS)
    assert metadata["tag_to_category"][metadata["idx_to_tag"]["2"]] == "rating"
    info = json.loads((files / "model" / "model_info_refined.json").read_text())
    assert (info["tag_context_size"], info["num_heads"], info["precision"]) == (8, 4, "float16")
    keys = load_file(files / "model_initial.safetensors").keys()
    assert {key.split(".")[0] for key in keys} == {"backbone", "initial_classifier", "temperature"}


def test_a_folder_that_is_there_is_kept(ours: release.ReleaseFolder, files: Path, capsys) -> None:
    command = ["export", "camie-v1", str(ours.folder), "--out", str(files)]
    assert main(command) == 2 and "exists already" in capsys.readouterr().err
    assert main([*command, "--replace"]) == 0
