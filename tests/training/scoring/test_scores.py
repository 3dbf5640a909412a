import numpy as np
import pytest

from tagger import thresholds as layout
from tagger.vocabulary import Vocabulary
from training.scoring import scores
from training.scoring.scores import Histogram

TAGS = 6
VOCABULARY = Vocabulary([f"t{i}" for i in range(TAGS)], ["general"] * 4 + ["meta"] * 2, [1] * TAGS)


def split(seed: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences that tell something of the truth, the truth, and which cells are known."""
    draw = np.random.default_rng(seed)
    truth = draw.random((rows, TAGS)) < np.linspace(0.02, 0.5, TAGS)
    confidences = np.clip(draw.normal(0.35 + 0.3 * truth, 0.2), 0, 1).astype(np.float32)
    return confidences, truth, draw.random((rows, TAGS)) < 0.8


def counted(seed: int = 0) -> tuple[Histogram, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    cells = split(seed)
    histogram = Histogram(TAGS)
    for rows in np.array_split(np.arange(len(cells[0])), 3):
        histogram.add(*(part[rows] for part in cells))
    return histogram, cells


def plain(cells: tuple[np.ndarray, np.ndarray, np.ndarray], tags: np.ndarray, threshold: float) -> tuple[float, float]:
    """Micro and macro F1, cell by cell."""
    confidences, truth, known = (part[:, tags] for part in cells)
    on = confidences >= np.float32(threshold)

    def f1(on: np.ndarray, truth: np.ndarray, known: np.ndarray) -> float:
        right, said, there = ((a & known).sum() for a in (on & truth, on, truth))
        return 2 * right / max(said + there, 1)

    each = [f1(on[:, i], truth[:, i], known[:, i]) for i in range(len(tags)) if (truth & known)[:, i].any()]
    return f1(on, truth, known), float(np.mean(each))


@pytest.mark.parametrize("index", [0, 20, 77, 110, 199])
def test_measures_are_those_of_a_plain_count(index: int) -> None:
    histogram, cells = counted()
    for tags in (np.arange(TAGS), np.array([1, 4])):
        at = scores.Curves(histogram, tags).at(index)
        micro, macro = plain(cells, tags, scores.GRID[index])
        assert at["micro_f1"] == pytest.approx(micro, abs=1e-4) and at["macro_f1"] == pytest.approx(macro, abs=1e-4)


def test_chosen_thresholds_are_the_best_and_ordered() -> None:
    histogram, cells = counted(1)
    chosen = scores.choose(histogram, VOCABULARY)
    layout.check({"refined": chosen})
    shipped = {profile.key for profile in layout.site_profiles({"refined": chosen})}
    assert shipped >= {"overall", "weighted", "category-specific", "high-precision", "high-recall"}
    best = max(plain(cells, np.arange(TAGS), t)[0] for t in scores.GRID[20:180])
    assert chosen["overall"]["micro_opt"]["micro_f1"] == pytest.approx(best, abs=1e-4)
    for modes in chosen.values():
        at = {mode: numbers["threshold"] for mode, numbers in modes.items()}
        assert at["high_recall"] <= at["micro_opt"] <= at["high_precision"]
        assert modes["high_recall"]["recall"] >= modes["high_precision"]["recall"]


def test_a_category_with_few_positives_takes_the_overall_thresholds() -> None:
    histogram = Histogram(TAGS)
    confidences, truth, known = split(2, rows=60)
    truth[:, 4:] = False
    truth[:3, 4:] = True
    histogram.add(confidences, truth, known)
    chosen = scores.choose(histogram, VOCABULARY)
    assert {m: n["threshold"] for m, n in chosen["meta"].items()} == {
        m: n["threshold"] for m, n in chosen["overall"].items()
    }


def test_each_category_is_judged_at_its_own_threshold() -> None:
    histogram, cells = counted(3)
    given = {part: {"micro_opt": {"threshold": t}} for part, t in (("overall", 0.9), ("general", 0.5), ("meta", 0.3))}
    found = scores.at_thresholds(histogram, VOCABULARY, given, "micro_opt")
    assert found["general"]["micro_f1"] == pytest.approx(plain(cells, np.arange(4), 0.5)[0], abs=1e-4)
    assert found["meta"]["micro_f1"] == pytest.approx(plain(cells, np.array([4, 5]), 0.3)[0], abs=1e-4)
    assert found["overall"]["positives"] == found["general"]["positives"] + found["meta"]["positives"]


def test_a_split_without_any_truth_is_no_error() -> None:
    chosen = scores.choose(Histogram(TAGS), VOCABULARY)
    assert chosen["overall"]["balanced"]["micro_f1"] == 0
