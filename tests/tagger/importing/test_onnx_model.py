"""Each tagger's importer against a small model with that tagger's exact interface."""

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tagger import release
from tagger.importing import command
from tagger.importing.vocabularies import as_vocabulary
from tagger.inference import Predictor
from tagger.release import ReleaseError
from tests.tagger.published import weight, write_json, write_onnx

PICTURE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 50, 4), dtype=np.uint8), "RGBA")
WD_TAGS = [("general", 9), ("sensitive", 9), ("questionable", 9), ("explicit", 9), ("1girl", 0), ("red_hair", 0)]
WD_TAGS += [("hatsune_miku", 4), ("sensitive", 0)]


def write_csv(folder: Path, tags: list[tuple[str, int]]) -> None:
    with (folder / "selected_tags.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([number, name, category, 100 - number] for number, (name, category) in enumerate(tags))


def wd(folder: Path) -> None:
    write_csv(folder, WD_TAGS)
    shape = ["batch", 448, 448, 3]
    write_onnx(folder / "model.onnx", shape, {"output": weight(8) / 255}, sigmoid=["output"], pooled=(1, 2))


def camie_v2(folder: Path) -> None:
    tags = ["year_2021", "rating_general", "rating_explicit", "1girl", "surtr_(arknights)", "arknights"]
    categories = dict(zip(tags, ["year", "rating", "rating", "general", "character", "copyright"], strict=True))
    mapping = {"idx_to_tag": {str(index): tag for index, tag in enumerate(tags)}, "tag_to_category": categories}
    info = {"total_tags": 6, "tag_mapping": mapping}
    write_json(folder / "camie-tagger-v2-metadata.json", {"model_info": {"img_size": 512}, "dataset_info": info})
    outputs = {"initial_predictions": weight(6, 1), "refined_predictions": weight(6, 2)}
    shape = ["batch", 3, 512, 512]
    write_onnx(folder / "camie-tagger-v2.onnx", shape, outputs, indices="selected_candidates")


def pixai(folder: Path) -> None:
    tags = [("1girl", 0), ("long hair", 0), ("hatsune_miku", 4)]
    with (folder / "selected_tags.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "tag_id", "name", "category", "count", "ips"])
        rows.writerows([number, number, name, category, 5.0, "[]"] for number, (name, category) in enumerate(tags))
    outputs = {"embedding": weight(16), "logits": weight(3, 3), "prediction": weight(3, 3)}
    write_onnx(folder / "model.onnx", ["batch", 3, 448, 448], outputs, sigmoid=["prediction"])


def joytag(folder: Path) -> None:
    (folder / "top_tags.txt").write_text("1girl\nsolo\nlong_hair\n", "utf-8")
    write_onnx(folder / "model.onnx", [1, 3, 448, 448], {"output": weight(3, 4)}, input_name="images")


MAKERS = {"wd-v3": wd, "camie-v2": camie_v2, "pixai-v0.9": pixai, "joytag": joytag}


def on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def square(image: Image.Image) -> np.ndarray:
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), (255, 255, 255))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(canvas.resize((448, 448), Image.Resampling.BICUBIC), dtype=np.float64)


def wd_scores(image: Image.Image) -> np.ndarray:
    colour = square(on_white(image))[:, :, ::-1].mean(axis=(0, 1))
    return colour @ (weight(8) / 255)


def camie_v2_scores(image: Image.Image) -> np.ndarray:
    canvas = Image.new("RGB", (512, 512), (124, 116, 104))
    resized = image.convert("RGB").resize((512, int(512 / (50 / 30))), Image.Resampling.LANCZOS)
    canvas.paste(resized, (0, (512 - resized.height) // 2))
    pixels = (np.asarray(canvas) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return pixels.mean(axis=(0, 1)) @ weight(6, 2)


def pixai_scores(image: Image.Image) -> np.ndarray:
    stretched = on_white(image).resize((448, 448), Image.Resampling.BILINEAR)
    return ((np.asarray(stretched) / 255 - 0.5) / 0.5).mean(axis=(0, 1)) @ weight(3, 3)


def joytag_scores(image: Image.Image) -> np.ndarray:
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return ((square(image.convert("RGB")) / 255 - mean) / std).mean(axis=(0, 1)) @ weight(3, 4)


# OpenVINO is an extra: where it is installed, it must agree too.
ENGINES = ["auto", *(["openvino"] if importlib.util.find_spec("openvino") else [])]
SCORES = {"wd-v3": wd_scores, "camie-v2": camie_v2_scores, "pixai-v0.9": pixai_scores, "joytag": joytag_scores}


def import_tagger(kind: str, folder: Path, *words: str) -> int:
    (folder / "files").mkdir(exist_ok=True)
    MAKERS[kind](folder / "files")
    return command.main([kind, "--from", str(folder / "files"), "--out", str(folder / "release"), *words])


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_published_tagger_gives_its_own_scores(kind: str, engine: str, tmp_path: Path) -> None:
    """The whole way from a transparent picture to confidences, against the tagger's own steps written out."""
    assert import_tagger(kind, tmp_path) == 0
    predictor = Predictor(tmp_path / "release", "cpu", threads=1, engine=engine)
    assert predictor.batch_size == (1 if kind == "joytag" else predictor.batch_size)
    expected = 1 / (1 + np.exp(-SCORES[kind](PICTURE)))
    confidences = predictor.confidences(predictor.prepare(PICTURE)[None])
    assert confidences.dtype == np.float32
    np.testing.assert_allclose(confidences[0], expected, atol=2e-4)
    for found in predictor.predict([PICTURE, PICTURE.rotate(90), PICTURE]):
        assert (np.diff(found.confidences) <= 0).all()
        assert (found.confidences >= 0.1).all()
        assert found.feature is None
        assert len(found.indices) <= len(predictor.release.vocabulary)


def test_what_a_release_of_another_tagger_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_tagger("wd-v3", tmp_path) == 0
    assert "8 tags" in capsys.readouterr().out
    written = release.read(tmp_path / "release")
    names = ["rating_general", "rating_sensitive", "rating_questionable", "rating_explicit"]
    assert written.vocabulary.names == [*names, "1girl", "red_hair", "hatsune_miku", "sensitive"]
    assert written.vocabulary.categories == ["rating"] * 4 + ["general", "general", "character", "general"]
    assert written.vocabulary.counts[4] == 96
    assert (written.stage, written.exclusive_categories) == ("refined", ["rating"])
    assert written.thresholds["refined"]["character"] == {"balanced": {"threshold": 0.85}}
    with pytest.raises(ReleaseError, match="another project's ONNX model"):
        _ = written.architecture
    assert import_tagger("wd-v3", tmp_path) == command.CANNOT_IMPORT
    assert "exists already" in capsys.readouterr().err
    assert import_tagger("wd-v3", tmp_path, "--replace", "--name", "wd", "--title", "WD") == 0
    assert release.read(tmp_path / "release").title == "WD"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "release"]


def descriptor(**output: Any) -> dict[str, Any]:
    return {
        "input": {"size": 32, "geometry": "stretch", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "output": output,
        "vocabulary": {"file": "tags.json", "format": "json", "names": "tags", "categories": "kinds"},
        "categories": {"person": "character"},
        "thresholds": {"overall": {"balanced": 0.4, "high_recall": 0.2}},
    }


def by_hand(folder: Path, written: Any, *words: str) -> int:
    files = folder / "files"
    files.mkdir(exist_ok=True)
    outputs = {"logits": weight(3), "few": weight(2)}
    write_onnx(files / "any.onnx", [2, 3, 32, 32], outputs)
    write_json(files / "tags.json", {"tags": ["sky", "blue tree", "ada"], "kinds": {"ada": "person"}})
    write_json(folder / "descriptor.json", written)
    words = ("--descriptor", str(folder / "descriptor.json"), *words)
    return command.main(["onnx", "--from", str(files), "--out", str(folder / "release"), *words])


def test_any_model_by_a_descriptor_also_with_a_fixed_batch(tmp_path: Path) -> None:
    assert by_hand(tmp_path, descriptor(name="logits"), "--name", "mine") == 0
    predictor = Predictor(tmp_path / "release", "cpu")
    assert predictor.release.vocabulary.names == ["sky", "blue_tree", "ada"]
    assert predictor.release.vocabulary.categories == ["general", "general", "character"]
    assert predictor.batch_size == 2
    images = [PICTURE, PICTURE.rotate(90), PICTURE.rotate(180)]
    alone = [predictor.confidences(predictor.prepare(image)[None])[0] for image in images]
    together = predictor.confidences(np.stack([predictor.prepare(image) for image in images[:2]]))
    np.testing.assert_allclose(together, alone[:2], atol=1e-6)
    assert len(predictor.predict(images)) == 3


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (descriptor(name="scores"), "no output scores; it has logits, few"),
        (descriptor(index=5), "has 2 outputs, none at index 5"),
        (descriptor(name="few"), "is of shape (2, 2), not (2, 3)"),
        (descriptor(activation="identity"), "not from 0 to 1; set the descriptor's output to the activation sigmoid"),
        (descriptor(activation="softmax"), "must be sigmoid or identity"),
        (descriptor() | {"input": {"size": 64}}, "takes pictures of shape (3, 32, 32)"),
        (descriptor() | {"input": {"size": 32, "layout": "NHWC"}}, "correct the descriptor's layout and size"),
        (descriptor() | {"input": {"size": 32, "name": "x"}}, "has no input x; it has input"),
        (descriptor() | {"input": {}}, "lacks its size"),
        (descriptor() | {"tags": {}}, "unknown parts: tags"),
        (descriptor() | {"thresholds": {}}, "lack the number overall"),
        (descriptor() | {"categories": {}}, "The tag ada has the category 'person'"),
        (descriptor() | {"vocabulary": {"file": "gone.csv", "format": "csv"}}, "lacks the tag list gone.csv"),
        (descriptor() | {"vocabulary": {"file": "tags.json", "format": "xml"}}, "csv or json or lines"),
        (descriptor() | {"thresholds": None}, "lack the number overall"),
        (descriptor() | {"vocabulary": 3}, "vocabulary and categories must be JSON objects"),
        (descriptor() | {"exclusive_categories": [[1]]}, "must be a list of general"),
        ([], "not a JSON object"),
    ],
)
def test_a_wrong_descriptor_is_a_sentence_and_writes_nothing(
    tmp_path: Path, written: Any, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert by_hand(tmp_path, written) == command.CANNOT_IMPORT
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["descriptor.json", "files"]


@pytest.mark.parametrize(
    ("kind", "file", "text", "sentence"),
    [
        ("wd-v3", "selected_tags.csv", "tag_id,name,category,count\n1,sky\n", "sky has the category None"),
        ("wd-v3", "selected_tags.csv", "", "as it should be (A vocabulary needs at least one tag); correct it"),
        ("wd-v3", "selected_tags.csv", "tag_id,name\n1,sky\n", "is not as it should be (KeyError('category'))"),
        ("joytag", "top_tags.txt", "\n", "needs at least one tag"),
        ("camie-v2", "camie-tagger-v2-metadata.json", '{"dataset_info": 3}', "is not as it should be (TypeError"),
    ],
)
def test_a_damaged_tag_list_is_a_sentence(
    tmp_path: Path, kind: str, file: str, text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").mkdir()
    MAKERS[kind](tmp_path / "files")
    (tmp_path / "files" / file).write_text(text, "utf-8")
    words = [kind, "--from", str(tmp_path / "files"), "--out", str(tmp_path / "release")]
    assert command.main(words) == command.CANNOT_IMPORT
    assert sentence in capsys.readouterr().err


def test_a_name_that_comes_again_and_again_keeps_its_place() -> None:
    found = as_vocabulary([("a", "0", 3), ("a", "4", 2), ("a", "4", 1), ("a", "4", 0), ("b", "0", 0)])
    assert found.names == ["a", "a_(character)", "a_(character_2)", "a_(character_3)", "b"]
    assert found.categories == ["general", "character", "character", "character", "general"]


@pytest.mark.parametrize(
    ("kind", "file", "sentence"),
    [
        ("camie-v2", "camie-tagger-v2.safetensors", "lacks camie-tagger-v2.onnx; camie-tagger-v2.safetensors cannot"),
        ("joytag", "model.safetensors", "lacks config.json, which says how model.safetensors is built"),
        ("joytag", "nothing.txt", "lacks model.onnx; get the ONNX file"),
        ("wd-v3", "nothing.txt", "lacks model.onnx; get the ONNX file"),
    ],
)
def test_other_weights_name_the_file_to_get(
    tmp_path: Path, kind: str, file: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / file).write_bytes(b"")
    words = [kind, "--from", str(tmp_path / "files"), "--out", str(tmp_path / "release")]
    assert command.main(words) == command.CANNOT_IMPORT
    assert sentence in capsys.readouterr().err


def test_engines_and_damage_are_sentences(tmp_path: Path) -> None:
    assert import_tagger("wd-v3", tmp_path) == 0
    for words, options in [
        ("run it with onnxruntime or openvino", {"engine": "torch"}),
        ("No engine is called 'abacus'", {"engine": "abacus"}),
        ("No device is called 'abacus'", {"device": "abacus"}),
        ("has no CUDA", {"device": "cuda"}),
    ]:
        with pytest.raises(ReleaseError, match=words):
            Predictor(tmp_path / "release", **options)
    config = json.loads((tmp_path / "release" / "config.json").read_text())
    assert config["descriptor"]["input"]["channels"] == "BGR"
    (tmp_path / "release" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ReleaseError, match="cannot be opened"):
        Predictor(tmp_path / "release", "cpu")
