import numpy as np
import pytest

from training.scoring import outcomes, scores
from training.scoring.outcomes import Cells

TAGS, ROWS = 5, 60
GROUPS = {"overall": np.arange(TAGS), "meta": np.array([3, 4])}
BINS = np.array([40, 60, 90, 20, 100])


def split(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth = draw.random((ROWS, TAGS)) < np.linspace(0.05, 0.5, TAGS)
    confidences = np.clip(draw.normal(0.3 + 0.3 * truth, 0.25), 0, 1).astype(np.float32)
    return confidences, truth, draw.random((ROWS, TAGS)) < 0.9


def counted(cells: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Cells:
    kept = Cells(TAGS)
    for rows in np.array_split(np.arange(ROWS), 4):
        kept.add(*(part[rows] for part in cells))
    return kept


def plain(cells: tuple[np.ndarray, np.ndarray, np.ndarray], rows: np.ndarray, tags: np.ndarray) -> tuple[float, float]:
    """Micro and macro F1 of rows that may come several times, cell by cell."""
    right, said, there = np.zeros(TAGS), np.zeros(TAGS), np.zeros(TAGS)
    for row in rows:
        for tag in tags:
            if cells[2][row, tag]:
                on = cells[0][row, tag] >= np.float32(BINS[tag] / 200)
                right[tag] += on and cells[1][row, tag]
                said[tag] += on
                there[tag] += cells[1][row, tag]
    each = [2 * right[tag] / (said[tag] + there[tag]) for tag in tags if there[tag]]
    return 2 * right[tags].sum() / max(said[tags].sum() + there[tags].sum(), 1), float(np.mean(each)) if each else 0.0


@pytest.mark.parametrize("seed", range(3))
def test_each_sample_counts_like_rows_drawn_and_copied(seed: int) -> None:
    cells = split(seed)
    units = outcomes.units_of([f"subject {row // 3}" if row < 30 else "" for row in range(ROWS)])
    assert units.max() + 1 == 10 + 30
    weights = outcomes.draws(units, 5, seed)
    found = outcomes.sampled(counted(cells).at(BINS), GROUPS, weights)
    for sample, weight in enumerate(weights):
        assert len(set(weight[units == units[0]])) == 1
        rows = np.repeat(np.arange(ROWS), weight.astype(int))
        for name, tags in GROUPS.items():
            assert found[name][sample] == pytest.approx(plain(cells, rows, tags), abs=1e-4)


def test_whole_splits_agree_with_the_histograms() -> None:
    cells = split(7)
    histogram = scores.Histogram(TAGS)
    histogram.add(*cells)
    right, wrong, positives = counted(cells).at(BINS).counts()
    true, false = histogram.at_least()
    assert right.tolist() == true[np.arange(TAGS), BINS].tolist()
    assert wrong.tolist() == false[np.arange(TAGS), BINS].tolist()
    assert positives.tolist() == histogram.positives().tolist()


def test_an_interval_holds_the_number_and_narrows_with_more_subjects() -> None:
    outcome = counted(split(1)).at(BINS)
    alone, grouped = np.arange(ROWS), np.arange(ROWS) // 20
    micro = scores.measures(*outcome.counts())["micro_f1"]
    for units in (alone, grouped):
        low, high = outcomes.intervals(outcome, GROUPS, units, 200)["overall"]["micro_f1"]
        assert low <= micro <= high and high - low > 0.01


def test_a_better_tagger_is_told_from_an_equal_one() -> None:
    confidences, truth, known = split(2)
    better = np.clip(confidences + 0.25 * (2 * truth - 1), 0, 1).astype(np.float32)
    before, after = counted((confidences, truth, known)).at(BINS), counted((better, truth, known)).at(BINS)
    units = np.arange(ROWS)
    low, high = outcomes.differences(before, after, GROUPS, units, 200)["overall"]["micro_f1"]
    assert 0 < low < high
    assert outcomes.differences(before, before, GROUPS, units, 50)["meta"]["macro_f1"] == (0.0, 0.0)


def test_an_empty_split_is_no_error() -> None:
    assert outcomes.intervals(Cells(TAGS).at(BINS), GROUPS, outcomes.units_of([])) == {}
