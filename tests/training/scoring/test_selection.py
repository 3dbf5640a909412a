import numpy as np
import pytest

from training.scoring.selection import Selection, selected

TAGS, SIZE = 9, 4


def cells(seed: int, rows: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    probabilities = draw.random((rows, TAGS)).astype(np.float32)
    return probabilities, draw.random((rows, TAGS)) < 0.3, draw.random((rows, TAGS)) < 0.7


def plain(probabilities: np.ndarray, truth: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Picture by picture, tag by tag."""
    inside, true, other, unique, positives = 0, [], [], set(), 0
    for row in range(len(probabilities)):
        chosen = sorted(range(TAGS), key=lambda tag: -probabilities[row, tag])[:SIZE]
        unique |= set(chosen)
        for tag in range(TAGS):
            if known[row, tag] and truth[row, tag]:
                positives += 1
                inside += tag in chosen
            if known[row, tag] and tag in chosen:
                (true if truth[row, tag] else other).append(float(probabilities[row, tag]))
    return {
        "ground_truth_recall": inside / positives,
        "true_probability": sum(true) / len(true),
        "other_probability": sum(other) / len(other),
        "unique_tags": len(unique),
        "unique_share": len(unique) / TAGS,
        "size": SIZE,
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_numbers_are_those_of_a_plain_count(seed: int) -> None:
    given = cells(seed)
    counted = Selection(TAGS, SIZE)
    for rows in np.array_split(np.arange(len(given[0])), 3):
        counted.add(*(part[rows] for part in given))
    assert counted.numbers() == pytest.approx(plain(*given), abs=1e-4)


def test_the_most_likely_come_first() -> None:
    probabilities = np.array([[0.1, 0.9, 0.5, 0.5], [0.4, 0.3, 0.2, 0.1]], dtype=np.float32)
    assert selected(probabilities, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
    assert selected(probabilities, 9).tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]


def test_nothing_counted_is_no_error() -> None:
    assert Selection(TAGS, SIZE).numbers()["ground_truth_recall"] == 0
