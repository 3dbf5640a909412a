from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from tagger import release
from tagger.__main__ import main
from tagger.camie import load_model
from tagger.exporting import onnx_model
from tagger.exporting.onnx_model import export_onnx
from tagger.inference import Predictor
from tagger.release import ReleaseError
from tests.tagger import releases


def pictures(count: int = 4) -> list[Image.Image]:
    draw = np.random.default_rng(3)
    return [Image.fromarray(draw.integers(0, 256, (40 + 9 * n, 64, 3), dtype=np.uint8)) for n in range(count)]


@pytest.mark.parametrize("attention", ["token", "chunk"])
def test_both_outputs_equal_torch(tmp_path: Path, attention: str) -> None:
    source = releases.write(tmp_path / "ours", attention=attention)
    made = export_onnx(source, tmp_path / "graph", name="graph")
    session = onnxruntime.InferenceSession(made.weights_file)
    assert [output.name for output in session.get_outputs()] == ["initial", "refined"]
    pixels = torch.from_numpy(np.stack([source.preprocess(picture) for picture in pictures(5)]))
    with torch.inference_mode():
        ours = load_model(source, torch.device("cpu"), torch.float32)(pixels)
    for mine, theirs in zip(ours, session.run(None, {"input": pixels.numpy()}), strict=True):
        assert np.abs(mine.numpy() - theirs).max() < 1e-4


@pytest.mark.parametrize("stages", ["full", "initial"])
def test_the_release_tags_pictures_alike_without_torch(tmp_path: Path, stages: str) -> None:
    ours = releases.write(tmp_path / "ours", stages=stages)
    assert main(["export", "onnx", str(ours.folder), "--out", str(tmp_path / "graph")]) == 0
    made = release.read(tmp_path / "graph")
    assert made.config["kind"] == "onnx" and made.thresholds == ours.thresholds
    before, after = (Predictor(folder, device="cpu", threads=1) for folder in (ours.folder, made.folder))
    for mine, theirs in zip(before.predict(pictures()), after.predict(pictures()), strict=True):
        found = dict(zip(theirs.indices.tolist(), theirs.confidences, strict=True))
        assert set(found) == set(mine.indices.tolist())
        assert np.allclose([found[tag] for tag in mine.indices.tolist()], mine.confidences, atol=1e-4)


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch) -> None:
    source = releases.write(tmp_path / "ours")
    monkeypatch.setattr(onnx_model, "TOLERANCE", 0.0)
    with pytest.raises(ReleaseError, match="off torch's answer"):
        export_onnx(source, tmp_path / "graph", name="graph")
    assert not (tmp_path / "graph").exists()


def test_an_onnx_release_is_not_exported_again(tmp_path: Path, capsys) -> None:
    source = releases.write(tmp_path / "ours")
    made = export_onnx(source, tmp_path / "graph", name="graph")
    for kind in ("onnx", "camie-v1"):
        assert main(["export", kind, str(made.folder), "--out", str(tmp_path / kind)]) == 2
        assert "ONNX model" in capsys.readouterr().err
