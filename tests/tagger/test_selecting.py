import math

import numpy as np
import pytest

from tagger.selecting import activate, select_one


def by_loop(scores: np.ndarray, floor: float, most: int) -> list[tuple[int, float]]:
    """Every tag's confidence, one after another."""
    found = [(tag, float(activate(np.array([score]), "sigmoid")[0])) for tag, score in enumerate(scores)]
    return sorted((pair for pair in found if pair[1] >= floor), key=lambda pair: (-pair[1], pair[0]))[:most]


@pytest.mark.parametrize("shift", [-9, -4, 0, 6])
@pytest.mark.parametrize(("floor", "most"), [(0.10, 256), (0.10, 5), (0.5, 256), (0.97, 40), (0.10, 10_000)])
def test_the_same_tags_as_a_loop(shift: float, floor: float, most: int) -> None:
    scores = np.random.default_rng(1).normal(shift, 2, 5000).astype(np.float32)
    tags, confidences = select_one(scores, floor, most, "sigmoid")
    expected = by_loop(scores, floor, most)
    assert tags.dtype == np.int32
    assert confidences.dtype == np.float32
    assert tags.tolist() == [tag for tag, _ in expected]
    assert confidences.tolist() == [value for _, value in expected]


def test_equal_confidences_go_by_index_and_the_limit_is_kept() -> None:
    scores = np.zeros(1000, dtype=np.float32)
    scores[[700, 3]] = 1
    tags, _ = select_one(scores, 0.1, 4, "sigmoid")
    assert tags.tolist() == [3, 700, 0, 1]
    tags, confidences = select_one(np.full(9, 90, dtype=np.float32), 0.1, 3, "sigmoid")
    assert tags.tolist() == [0, 1, 2]
    assert confidences.tolist() == [1, 1, 1]


def test_exactly_the_floor_is_kept_and_just_below_is_not() -> None:
    floor = 0.25
    logit = math.log(floor / (1 - floor))
    scores = np.array([logit + 1e-4, logit - 1e-4, -math.inf, math.inf], dtype=np.float32)
    assert select_one(scores, floor, 9, "sigmoid")[0].tolist() == [3, 0]
    assert select_one(np.array([0.25, 0.2499, 0.3], dtype=np.float32), floor, 9, "identity")[0].tolist() == [2, 0]


def test_a_confidence_is_the_sigmoid_of_its_score() -> None:
    scores = np.array([-200, -1, 0, 2, 200], dtype=np.float32)
    np.testing.assert_allclose(activate(scores, "sigmoid"), [0, 0.26894143, 0.5, 0.880797, 1], atol=1e-7)
    assert activate(scores, "identity") is scores
