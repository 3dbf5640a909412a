import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tagger import __main__ as command
from tagger import camie, fast, release
from tagger.camie import load_model
from tagger.inference import Predictor
from tagger.release import ReleaseError
from tests.tagger import releases
from tests.tagger.test_inference import pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    releases.write(tmp_path / "one")
    return tmp_path / "one"


def test_exact_is_the_default_and_fast_computes_in_fewer_bits(folder: Path) -> None:
    exact, quick = Predictor(folder, "cpu"), Predictor(folder, "cpu", mode="fast")
    assert (exact.mode, exact.engine.title) == ("exact", "torch fp32")
    assert (quick.mode, quick.engine.title) == ("fast", "torch bf16")
    pixels = np.stack([exact.prepare(image) for image in pictures(4)])
    difference = np.abs(exact.confidences(pixels) - quick.confidences(pixels))
    assert 1e-5 < difference.max() < 0.2
    assert quick.predict(pictures(1))[0].confidences.dtype == np.float32
    with pytest.raises(ReleaseError, match="exact or fast"):
        Predictor(folder, "cpu", mode="slow")


def test_a_picture_that_overflows_half_precision_is_done_exactly(folder: Path) -> None:
    """What a GPU does, on the processor."""
    predictor = Predictor(folder, "cpu", mode="fast")
    engine = predictor.engine
    engine.dtype, engine.keys = torch.float16, None
    engine.model = load_model(engine.release, engine.device, engine.dtype)
    pixels = np.stack([predictor.prepare(image) for image in pictures(2)])
    one = predictor.answer(pixels[:1])
    pixels[1] *= 1e5
    found, features = predictor.answer(pixels)
    assert engine.title == "torch fp16"
    exact, _ = Predictor(folder, "cpu").answer(pixels)
    np.testing.assert_allclose(found[1], exact[1], atol=1e-5)
    np.testing.assert_allclose(found[0], one[0][0], atol=1e-2)
    assert features.dtype == np.float16
    np.testing.assert_allclose(predictor.answer(pixels[:1])[0], one[0])


def test_the_check_measures_the_agreement_of_both_modes(folder: Path) -> None:
    images = pictures(6)
    gate = fast.check(folder, images, "cpu", anyway=True)
    assert gate.engine == "torch bf16"
    assert gate.pictures == 6
    on = [fast.tags_on(Predictor(folder, "cpu", mode=mode), images) for mode in ("exact", "fast")]
    expected = np.mean([len(a & b) / len(a | b) for a, b in zip(*on, strict=True)])
    assert gate.agreement == pytest.approx(expected, abs=1e-4)
    assert fast.Gate.from_json(json.loads(json.dumps(gate.to_json()))) == gate
    assert gate.passed == (expected >= 0.97)
    assert gate.passed or "97% are needed" in gate.reason
    here = fast.check(folder, images, "cpu")
    if fast.has_amx():
        assert here == gate
    else:
        assert (here.agreement, here.passed) == (None, False)
        assert "AMX" in here.reason


def test_the_check_is_of_the_stage_that_is_asked_for(folder: Path) -> None:
    images = pictures(6)
    gate = fast.check(folder, images, "cpu", anyway=True, stage="initial")
    assert gate.key == "torch bf16, initial"
    on = [fast.tags_on(Predictor(folder, "cpu", "initial", mode=mode), images) for mode in ("exact", "fast")]
    expected = np.mean([fast.jaccard(one, other) for one, other in zip(*on, strict=True)])
    assert (gate.stage, gate.agreement) == ("initial", pytest.approx(expected, abs=1e-4))


def test_a_release_of_its_initial_stage_alone_is_checked_in_that(tmp_path: Path) -> None:
    releases.write(tmp_path / "one", stages="initial")
    assert fast.check(tmp_path / "one", pictures(2), "cpu", anyway=True).stage == "initial"
    assert fast.check(tmp_path / "one", [], "cpu", anyway=True).stage == "initial"


def test_the_first_blocks_stay_exact_because_rounding_tells_most_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """How far the starter's features are off, by the number of such blocks."""
    starter = Path(fast.__file__).parent / "releases/starter"
    exact = Predictor(starter, "cpu", threads=1)
    pixels = np.stack([exact.prepare(image) for image in fast.calibration_pictures(starter)[:6]])
    expected = exact.answer(pixels)[1].astype(np.float32)
    off = []
    for blocks in (camie.EXACT_BLOCKS, 1):
        monkeypatch.setattr(camie, "EXACT_BLOCKS", blocks)
        features = Predictor(starter, "cpu", threads=1, engine="torch", mode="fast").answer(pixels)[1]
        off.append(np.linalg.norm(features - expected) / np.linalg.norm(expected))
    assert 1e-3 < off[0] < 0.04 < 0.05 < off[1]


def test_tags_on_are_the_balanced_profile_s_and_one_rating(folder: Path) -> None:
    predictor = Predictor(folder, "cpu")
    for on, found in zip(fast.tags_on(predictor, pictures(3)), predictor.predict(pictures(3)), strict=True):
        categories = predictor.release.vocabulary.categories
        limits = {"general": 0.42}
        wanted = {
            tag
            for tag, confidence in zip(found.indices.tolist(), found.confidences, strict=True)
            if categories[tag] != "rating" and confidence >= limits.get(categories[tag], 0.30)
        }
        ratings = [tag for tag in found.indices.tolist() if categories[tag] == "rating"]
        assert on == wanted | set(ratings[:1])


def test_jaccard() -> None:
    assert fast.jaccard({1, 2, 3}, {2, 3, 4}) == 0.5
    assert fast.jaccard(set(), set()) == 1
    assert fast.jaccard({1}, set()) == 0


def test_calibration_pictures_travel_in_the_release(folder: Path) -> None:
    assert fast.calibration_pictures(folder) == []
    large = [Image.new("RGB", (300, 200), (number, 0, 0)) for number in range(60)]
    assert fast.write_calibration(folder, [Image.new("RGBA", (9, 9), (1, 2, 3, 0)), *large], "By nobody.") == 48
    found = fast.calibration_pictures(folder)
    assert len(found) == 48
    assert found[0].mode == "RGBA"
    assert max(image.width for image in found) == release.read(folder).preprocess.size
    assert (folder / "calibration/CREDITS.md").read_text() == "By nobody."
    assert fast.write_calibration(folder, large[:2]) == 2
    assert len(fast.calibration_pictures(folder)) == 2


def test_results_are_kept_by_engine(folder: Path) -> None:
    assert fast.gates(folder) == {}
    one, other = fast.Gate("torch bf16", 0.98, 9, True), fast.Gate("openvino bf16", 0.5, 9, False, "No.")
    fast.keep(folder, one)
    fast.keep(folder, other)
    initial = fast.Gate("torch bf16", 0.97, 9, True, "", "initial")
    fast.keep(folder, initial)
    assert fast.gates(folder) == {"torch bf16": one, "openvino bf16": other, "torch bf16, initial": initial}
    (folder / "gate.json").write_text("broken")
    assert fast.gates(folder) == {}


def test_check_fast_says_what_it_found(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check-fast", str(folder), "--device", "cpu"]
    assert command.main([*words, "--anyway"]) == 2
    assert "no pictures to compare" in capsys.readouterr().out
    fast.write_calibration(folder, pictures(4))
    code = command.main([*words, "--anyway"])
    said = capsys.readouterr().out
    assert "torch bf16" in said
    assert "on 4 pictures" in said
    assert code == (0 if "Passed" in said else 1)
    assert fast.gates(folder)["torch bf16"].pictures == 4
    assert command.main([*words, "--anyway", "--stage", "initial", "--engine", "torch"]) == code
    assert fast.gates(folder)["torch bf16, initial"].pictures == 4
    (tmp_path / "broken.png").write_text("no picture")
    assert command.main([*words, "--anyway", "--pictures", str(tmp_path)]) == 2
    assert "broken.png cannot be opened as a picture" in capsys.readouterr().err
    assert command.main(["check-fast", str(tmp_path / "nowhere")]) == 2
    assert "no release folder" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["torch bf16", "torch bf16, initial", "openvino bf16", "openvino bf16, initial"])
def test_the_starter_says_what_its_own_check_found(key: str) -> None:
    """In gate.json and on its card, for the pictures that it carries."""
    starter = Path(fast.__file__).parent / "releases/starter"
    gate = fast.gates(starter)[key]
    assert gate.pictures == len(fast.calibration_pictures(starter))
    assert gate.passed == (gate.agreement >= fast.ENOUGH)
    assert f"{gate.agreement:.1%}".replace("%", " %") in (starter / "card.md").read_text("utf-8")
