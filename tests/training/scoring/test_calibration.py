import math

import numpy as np
import pytest

from training.scoring import calibration
from training.scoring.calibration import STEP, LogitCounts

TAGS, ROWS = 4, 300


def cells(seed: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits in steps, and truths as likely as the logits divided by the temperature say."""
    draw = np.random.default_rng(seed)
    logits = (np.rint(draw.normal(-1, 2, (ROWS, TAGS)) / STEP) * STEP).astype(np.float32)
    truth = draw.random((ROWS, TAGS)) < 1 / (1 + np.exp(-logits / temperature))
    return logits, truth, draw.random((ROWS, TAGS)) < 0.8


def counted(given: tuple[np.ndarray, np.ndarray, np.ndarray]) -> LogitCounts:
    counts = LogitCounts(TAGS)
    for rows in np.array_split(np.arange(len(given[0])), 3):
        counts.add(*(part[rows] for part in given))
    return counts


def test_average_precision_is_that_of_a_walk_down_the_list() -> None:
    logits, truth, known = cells(0)
    found = calibration.average_precision(counted((logits, truth, known)))
    for tag in range(TAGS):
        pairs = [(float(logits[r, tag]), bool(truth[r, tag])) for r in range(ROWS) if known[r, tag]]
        positives, total, before = sum(yes for _, yes in pairs), 0.0, 0.0
        for level in sorted({score for score, _ in pairs}, reverse=True):
            said = [yes for score, yes in pairs if score >= level]
            recall = sum(said) / positives
            total += (recall - before) * sum(said) / len(said)
            before = recall
        assert found[tag] == pytest.approx(total, abs=1e-6)


def test_a_tag_without_true_cells_has_no_average_precision() -> None:
    logits, truth, known = cells(1)
    truth[:, 2] = False
    found = calibration.average_precision(counted((logits, truth, known)))
    assert math.isnan(found[2]) and np.isfinite(found[[0, 1, 3]]).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_fitted_temperature_is_the_one_of_least_loss(temperature: float) -> None:
    logits, truth, known = cells(2, temperature)

    def loss(at: float) -> float:
        p = 1 / (1 + np.exp(-logits.astype(np.float64) / at))
        return float(-np.log(np.where(truth, p, 1 - p))[known].mean())

    fitted = calibration.fit_temperature(counted((logits, truth, known)))
    slow = min(np.arange(0.3, 3.0, 0.01), key=loss)
    assert fitted == pytest.approx(slow, abs=0.011)
    assert fitted == pytest.approx(temperature, rel=0.25)


def test_the_curve_and_its_error_are_those_of_a_plain_count() -> None:
    logits, truth, known = cells(3)
    points = {point["low"]: point for point in calibration.curve(counted((logits, truth, known)))}
    total = weighted = 0.0
    for place in range(10):
        p = 1 / (1 + np.exp(-logits.astype(np.float64)))
        inside = known & (np.minimum((p * 10).astype(int), 9) == place)
        if inside.any():
            point = points[place / 10]
            assert point["cells"] == inside.sum()
            assert point["confidence"] == pytest.approx(p[inside].mean(), abs=2e-3)
            assert point["true"] == pytest.approx(truth[inside].mean(), abs=2e-4)
            if place:
                total += inside.sum()
                weighted += inside.sum() * abs(p[inside].mean() - truth[inside].mean())
    assert calibration.expected_error(list(points.values())) == pytest.approx(weighted / total, abs=2e-3)


def test_the_temperature_mends_confidences_that_are_too_sure() -> None:
    counts = counted(cells(4, 2.5))
    found = calibration.report(counts, calibration.fit_temperature(counts))
    assert found["error_at_temperature"] < found["error"] / 2
