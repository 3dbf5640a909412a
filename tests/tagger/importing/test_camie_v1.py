"""The published layouts, with weights of the published names and shapes whose numbers are all zero."""

import json
from pathlib import Path
from typing import Any

import pytest

from tagger import release
from tagger.architecture import Architecture
from tagger.camie import empty_model
from tagger.importing import command
from tagger.importing.camie_v1 import import_camie_v1
from tagger.release import ReleaseError
from tagger.thresholds import site_profiles
from tests.tagger import releases
from tests.tagger.published import metadata, write_json

Shapes = dict[str, tuple[int, ...]]
SIZES = {"F16": 2, "I64": 8}


@pytest.fixture(scope="module")
def shapes() -> dict[str, Shapes]:
    """Every key of both published models, for the test's few tags."""
    found = {}
    for stages in ("full", "initial"):
        model = empty_model(Architecture(tag_count=len(releases.TAGS), stages=stages))
        found[stages] = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    return found


def write_zeros(file: Path, shapes: Shapes) -> None:
    """A safetensors file without its numbers: the file system fills in zeros and stores nothing."""
    header, end = {}, 0
    for key, shape in sorted(shapes.items(), key=lambda item: item[0].endswith("tracked"), reverse=True):
        dtype, size = ("I64", 8) if key.endswith("tracked") else ("F16", 2)
        for side in shape:
            size *= side
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)


def published(folder: Path, shapes: dict[str, Shapes], place: str = ".", stages: str = "full") -> Path:
    name = {"full": "model_refined.safetensors", "initial": "model_initial.safetensors"}[stages]
    folder.mkdir(exist_ok=True)
    write_zeros(folder / name, shapes[stages])
    write_json(folder / place / "metadata.json", metadata(releases.vocabulary()))
    write_json(folder / place / "thresholds.json", releases.thresholds())
    (folder / "README.md").write_text("# Camie Tagger\n", "utf-8")
    return folder


def test_the_full_model_with_its_notes_in_a_folder(tmp_path: Path, shapes: dict[str, Shapes]) -> None:
    source = published(tmp_path / "files", shapes, "model")
    write_json(source / "model" / "model_info_refined.json", {"tag_context_size": 128, "num_heads": 16})
    assert command.main(["camie-v1", "--from", str(source), "--out", str(tmp_path / "camie")]) == 0
    written = release.read(tmp_path / "camie")
    assert written.title == "Camie Tagger v1"
    assert (written.architecture.stages, written.architecture.attention) == ("full", "chunk")
    assert (written.architecture.tag_context_size, written.architecture.heads) == (128, 16)
    assert written.vocabulary.names == releases.vocabulary().names
    assert written.vocabulary.categories == releases.vocabulary().categories
    assert (written.preprocess.size, written.preprocess.pad_color) == (512, (0, 0, 0))
    assert (written.preprocess.alpha, written.preprocess.mean) == ("drop", None)
    assert written.config["weights"] == {"file": "model.safetensors", "dtype": "float16"}
    assert written.metrics == {stage: {"micro_f1": 0.5, "macro_f1": 0.4} for stage in ("initial", "refined")}
    assert "GPL-3.0" in written.card
    assert written.card.endswith("# Camie Tagger\n")
    assert len(site_profiles(written.thresholds)) == 8
    assert (tmp_path / "camie" / "model.safetensors").stat().st_size == (
        source / "model_refined.safetensors"
    ).stat().st_size


def test_the_initial_stage_alone(tmp_path: Path, shapes: dict[str, Shapes]) -> None:
    source = published(tmp_path / "files", shapes, stages="initial")
    words = ["camie-v1", "--from", str(source), "--out", str(tmp_path / "camie"), "--stages", "initial"]
    assert command.main(words) == 0
    written = release.read(tmp_path / "camie")
    assert (written.stage, list(written.thresholds)) == ("initial", ["initial"])


def test_what_the_notes_leave_out_is_filled_as_the_published_code_does(
    tmp_path: Path, shapes: dict[str, Shapes]
) -> None:
    source = published(tmp_path / "files", shapes, stages="initial")
    notes = metadata(releases.vocabulary())
    del notes["idx_to_tag"]["10"]
    del notes["tag_to_category"]["thing_5"]
    write_json(source / "metadata.json", notes)
    thresholds = releases.thresholds()
    thresholds["initial"]["overall"]["a_later_mode"] = {"threshold": 0.5}
    thresholds["notes"] = {}
    write_json(source / "thresholds.json", thresholds)
    counter = "backbone.features.0.1.num_batches_tracked"
    write_zeros(source / "model_initial.safetensors", {k: v for k, v in shapes["initial"].items() if k != counter})
    written = import_camie_v1(source, tmp_path / "camie", stages="initial", name="camie", title="Camie")
    assert written.vocabulary.names[10] == "unknown-10"
    assert written.vocabulary.categories[written.vocabulary.index("thing_5")] == "general"
    assert counter in release.load_weights(written)


def test_every_key_that_differs_is_listed(
    tmp_path: Path, shapes: dict[str, Shapes], capsys: pytest.CaptureFixture[str]
) -> None:
    source = published(tmp_path / "files", shapes)
    changed = dict(shapes["full"])
    missing = [key for key in changed if key.startswith("refined_classifier.")]
    for key in missing:
        del changed[key]
    extra = [f"optimizer.{number}.weight" for number in range(9)]
    changed |= dict.fromkeys(extra, (2, 2))
    changed["tag_embedding.weight"] = (70_527, 1280)
    write_zeros(source / "model_refined.safetensors", changed)
    assert command.main(["camie-v1", "--from", str(source), "--out", str(tmp_path / "camie")]) == 2
    error = capsys.readouterr().err
    assert len(missing) == 10
    for key in (*missing, *extra):
        assert key in error
    assert "tag_embedding.weight is (70527, 1280), not (35, 1280)" in error
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def without_weights(folder: Path) -> None:
    (folder / "model_refined.safetensors").unlink()


def only_pickles(folder: Path) -> None:
    without_weights(folder)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "model_refined.pt").write_bytes(b"")


def only_initial(folder: Path) -> None:
    (folder / "model_refined.safetensors").rename(folder / "model_initial.safetensors")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without_weights, "lacks model_refined.safetensors; copy it"),
        (only_pickles, "model_refined.pt is a pickle, .* get model_refined.safetensors"),
        (only_initial, "it has the file for --stages initial"),
        (lambda folder: (folder / "metadata.json").unlink(), "lacks metadata.json, in itself or in model/"),
        (lambda folder: (folder / "metadata.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "metadata.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "metadata.json").write_text("{}"), "lacks idx_to_tag"),
        (lambda folder: (folder / "metadata.json").write_text('{"idx_to_tag": {"x": "a"}}'), "as it should be"),
        (lambda folder: (folder / "thresholds.json").unlink(), "lacks thresholds.json"),
        (lambda folder: (folder / "thresholds.json").write_text('{"refined": 3}'), "thresholds.json is not as it"),
        (lambda folder: (folder / "model_info_refined.json").write_text('{"release": 3}'), "json is not as it should"),
        (lambda folder: (folder / "model_refined.safetensors").write_bytes(b"\xff" * 99), "not a safetensors file"),
    ],
)
def test_a_folder_that_is_not_whole_is_a_sentence(
    tmp_path: Path, shapes: dict[str, Shapes], change: Any, sentence: str
) -> None:
    source = published(tmp_path / "files", shapes)
    change(source)
    with pytest.raises(ReleaseError, match=sentence):
        import_camie_v1(source, tmp_path / "camie", name="camie", title="Camie")
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_a_pickle_or_nothing_for_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, sentence in [("model_refined.pt", "pickle"), ("nothing", "There is no folder")]:
        words = ["camie-v1", "--from", str(tmp_path / source), "--out", str(tmp_path / "camie")]
        assert command.main(words) == 2
        assert sentence in capsys.readouterr().err
    assert command.main(["camie-v1", "--out", str(tmp_path / "camie")]) == 2
    assert "--from FOLDER" in capsys.readouterr().err
