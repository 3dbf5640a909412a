from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tagger import release
from tagger.inference import Predictor, select
from tagger.release import ReleaseError
from tests.tagger import releases


def pictures(count: int) -> list[Image.Image]:
    """Pictures of several sizes and colours, each with some noise."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(count):
        noise = rng.integers(0, 120, (40 + 11 * number, 90, 3)) + rng.integers(0, 135, (1, 1, 3))
        made.append(Image.fromarray(noise.astype(np.uint8)))
    return made


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    releases.write(tmp_path / "one")
    return Predictor(tmp_path / "one", "cpu")


def test_predictions_equal_the_slow_way(predictor: Predictor) -> None:
    weights = {key: value.float() for key, value in release.load_weights(predictor.release).items()}
    model = releases.model()
    model.load_state_dict(weights)
    images = pictures(4)
    found = predictor.predict(images)
    assert len(found) == 4
    for image, (tags, confidences, feature) in zip(images, found, strict=True):
        with torch.no_grad():
            features = model.features(torch.from_numpy(predictor.prepare(image))[None])
            refined = model.head(features)[1][0]
        assert feature.dtype == np.float16
        np.testing.assert_allclose(feature, features[0], atol=2e-3, rtol=2e-3)
        everything = sorted(((float(p), -i) for i, p in enumerate(torch.sigmoid(refined)) if p >= 0.10), reverse=True)
        assert tags.dtype == np.int32
        assert confidences.dtype == np.float32
        assert tags.tolist() == [-index for _, index in everything]
        np.testing.assert_allclose(confidences, [p for p, _ in everything], atol=1e-5)
    assert len({tuple(each.indices) for each in found}) > 1


def test_the_initial_stage_answers_when_asked_and_when_alone(tmp_path: Path, predictor: Predictor) -> None:
    initial = Predictor(predictor.release.folder, "cpu", stage="initial")
    pixels = np.stack([predictor.prepare(image) for image in pictures(2)])
    assert not np.allclose(initial.confidences(pixels), predictor.confidences(pixels), atol=1e-3)
    releases.write(tmp_path / "alone", stages="initial")
    alone = Predictor(tmp_path / "alone", "cpu")
    assert alone.stage == "initial"
    np.testing.assert_allclose(alone.confidences(pixels).shape, (2, len(releases.TAGS)))


def test_more_pictures_than_fit_one_pass(predictor: Predictor) -> None:
    images = pictures(7)
    whole = predictor.predict(images)
    predictor.batch_size = 3
    for found, expected in zip(predictor.predict(images), whole, strict=True):
        assert found.indices.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(found.confidences, expected.confidences, atol=1e-5)
        np.testing.assert_allclose(found.feature, expected.feature, atol=2e-3, rtol=2e-3)


def test_no_pictures_no_predictions(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_select_equals_a_loop() -> None:
    rng = np.random.default_rng(2)
    confidences = rng.integers(0, 20, (6, 300)).astype(np.float32) / 20
    confidences[3] = 0
    for (tags, kept, feature), row in zip(select(confidences, None, 0.5, 40), confidences, strict=True):
        expected = sorted(((-value, index) for index, value in enumerate(row) if value >= 0.5))[:40]
        assert feature is None
        assert tags.tolist() == [index for _, index in expected]
        assert kept.tolist() == [-value for value, _ in expected]


def test_scores_that_are_not_numbers_are_an_error(predictor: Predictor) -> None:
    predictor.engine.model.temperature.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        predictor.confidences(np.zeros((1, 3, 64, 64), dtype=np.float32))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "abacus"}, "No device is called 'abacus'"),
        ({"device": "meta"}, "not supported"),
        ({"device": "cuda:99"}, "no cuda:99 on this machine"),
        ({"stage": "third"}, "initial or refined"),
    ],
)
def test_impossible_choices_are_a_sentence(predictor: Predictor, options: dict[str, str], words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        Predictor(predictor.release.folder, **options)


@pytest.mark.parametrize("attention", ["chunk", "token"])
def test_half_precision_model_runs_on_the_processor(attention: str) -> None:
    """What CUDA runs: the whole model in half precision, its input cast to it."""
    model = releases.model(attention=attention)
    features = torch.randn(3, 320)
    with torch.no_grad():
        whole = torch.sigmoid(model.head(features)[0])
        half = torch.sigmoid(model.half().head(features.half())[0]).float()
    torch.testing.assert_close(half, whole, atol=0.03, rtol=0)
