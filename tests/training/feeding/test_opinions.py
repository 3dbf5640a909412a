"""What a run leans on where nobody judged: the start release's opinion, moved by what people said of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tagger.vocabulary import Vocabulary
from tests.training import made
from tests.training.test_run import correction, finished, release, run_tiny, shapes  # noqa: F401
from training import config, dataset, train
from training.config import RecipeError
from training.feeding import opinions, targets

VOCABULARY = Vocabulary(["red", "circle", "flat"], ["general", "general", "meta"], [5, 5, 5])


def loss_of(shift: float, logits: np.ndarray, truth: np.ndarray, spread: float) -> float:
    """What the shift is to make least: the verdicts' negative log likelihood, and the prior's."""
    signed = np.where(truth, 1, -1) * (logits + shift)
    return float(np.log1p(np.exp(-signed)).sum() + shift**2 / (2 * spread**2))


@pytest.mark.parametrize("spread", [0.5, 2.0, 5.0])
def test_shifts_are_those_of_a_walk_over_all_numbers(spread: float) -> None:
    draw = np.random.default_rng(3)
    tags = draw.integers(0, 6, 200)
    tags[tags == 4] = 5  # nobody said anything of tag 4
    logits = draw.normal(0, 3, 200)
    truth = draw.random(200) < np.where(tags < 2, 0.05, 0.6)
    truth[tags == 0] = False  # always rejected
    found = opinions.shifts(logits, truth, tags, 6, spread)
    walk = np.linspace(-20, 20, 40_001)
    for tag in range(6):
        mine = tags == tag
        best = walk[np.argmin([loss_of(one, logits[mine], truth[mine], spread) for one in walk[::20]]) * 20]
        assert found[tag] == pytest.approx(best, abs=0.03)
    assert found[4] == 0 and found[0] < -1


def test_only_verdicts_on_what_people_were_shown_count() -> None:
    rows = [
        correction(0, verified=["circle"], rejected=["red"]),
        {**correction(1, verified=["flat"]), "predicted_tags": ["red"], "predicted_confidences": [0.4]},
        {**made.row(2), "complete": True, "predicted_tags": [], "predicted_confidences": []},
    ]
    rows = [{**dataset.EMPTY, **row} for row in rows]
    place, tags, truth = opinions.shown_verdicts(targets.build(rows, VOCABULARY))
    assert sorted(zip(place.tolist(), tags.tolist(), truth.tolist(), strict=True)) == [(0, 0, False), (0, 1, True)]


def test_a_fine_tuned_release_leans_on_the_moved_opinion(release: Path, tmp_path: Path) -> None:  # noqa: F811
    rows = [correction(n, verified=["circle"], rejected=["red"]) for n in range(30)]
    source = dataset.write(tmp_path / "export", {"train": rows}, {"release": "shapes", "vocabulary": []})
    found = {}
    for spread in (0.001, 3.0):  # so narrow a prior moves nothing
        settings = ["train.epochs=1", "train.batch_size=8", "train.threads=1", f"loss.soft_spread={spread}"]
        run = train.train(config.read("finetune", settings), source, tmp_path / f"run-{spread}", release, None)
        found[spread] = np.fromfile(run.cache / "opinions-train.float16", np.float16)
    tags = Vocabulary.read(run.vocabulary)
    own, moved = (one.reshape(30, len(tags)).astype(float) for one in found.values())
    red, circle, green = (tags.index(name) for name in ("red", "circle", "green"))
    assert (moved[:, red] < 0.5 * own[:, red]).all() and (moved[:, circle] > own[:, circle]).all()
    assert moved[:, green] == pytest.approx(own[:, green], abs=1e-3)  # nobody was asked
    known = dataclasses.replace(targets.build([{**dataset.EMPTY, **row} for row in rows], tags), opinions=moved)
    values, weights = known.batch(np.arange(2), soft_weight=0.25)
    assert values[0, [circle, red]].tolist() == [1, 0] and weights[0, [circle, red]].tolist() == [1, 1]
    assert values[:, green] == pytest.approx(moved[:2, green]) and weights[:, green].tolist() == [0.25, 0.25]


def test_a_fresh_head_has_no_opinion() -> None:
    with pytest.raises(RecipeError, match="model.fresh_head leaves it out"):
        config.read("starter-head", ["loss.soft_spread=1.0"])
