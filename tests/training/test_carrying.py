"""Going on from a release with another vocabulary: kept tags keep their rows and their scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tagger import release as releases
from tagger.architecture import Architecture
from tagger.model import CamieTagger
from tagger.preprocess import Preprocess
from tagger.vocabulary import Vocabulary
from tests.training import made
from training import config, dataset, publish, train
from training.network import TAG_ROWS, grown_tagger

NAMES = [f"t{number}" for number in range(12)]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> releases.ReleaseFolder:
    torch.manual_seed(0)
    tagger = CamieTagger(
        Architecture(12, "efficientnet_tiny", 32, 32, 32, 32, tag_context_size=4, heads=4, attention="token")
    )
    for name in ("initial_classifier", "refined_classifier"):
        tagger.get_submodule(name)[7].bias.data.uniform_(-4, 1)
    modes = {mode: {"threshold": 0.5, "micro_f1": 0, "macro_f1": 0, "precision": 0, "recall": 0}
             for mode in ("balanced", "high_precision", "high_recall", "micro_opt", "macro_opt")}  # fmt: skip
    return releases.write(
        tmp_path_factory.mktemp("r") / "old",
        config={
            "name": "old", "title": "Old", "licence": "CC0-1.0", "architecture": tagger.architecture.to_config(),
            "preprocess": Preprocess(32).to_config(),
            "score_floor": 0.2, "max_predictions": 64, "exclusive_categories": ["year"],
        },
        weights={key: value.contiguous() for key, value in tagger.state_dict().items()},
        vocabulary=Vocabulary(NAMES, ["general"] * 12, [5] * 12),
        thresholds={"initial": {"overall": modes}, "refined": {"overall": modes}},
        metrics={},
        card="",
    )  # fmt: skip


def test_kept_rows_are_equal_and_new_ones_are_there(release) -> None:
    names = ["new_a", *NAMES[::-1][:9], "new_b"]
    grown, carried = grown_tagger(release, Vocabulary(names, ["general"] * 11, [1] * 11), seed=1)
    stored, state = releases.load_weights(release), grown.state_dict()
    for key, tensor in state.items():
        if TAG_ROWS.fullmatch(key):
            for place, name in enumerate(names[1:10], 1):
                assert torch.equal(tensor[place], stored[key][NAMES.index(name)].float())
            assert tensor.isfinite().all()
        else:
            assert torch.equal(tensor, stored[key].to(tensor.dtype))
    assert carried.sentence == "of the release's 12 tags 9 are carried over and 3 left out; 2 tags are new"
    assert carried.to_json() == {"kept": 9, "left_out": NAMES[:3], "new": ["new_a", "new_b"]}


def test_scores_of_kept_tags_are_the_same_at_the_first_step(release) -> None:
    old = CamieTagger(release.architecture).eval()
    old.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in releases.load_weights(release).items()}
    )
    names = ["new_a", *NAMES[::-1], "new_b"]
    new, _ = grown_tagger(release, Vocabulary(names, ["general"] * 14, [1] * 14), seed=1)
    pictures = torch.rand(5, 3, 32, 32)
    with torch.inference_mode():
        before, after = old(pictures), new.eval()(pictures)
    place = [names.index(name) for name in NAMES]
    for ours, theirs in zip(after, before, strict=True):
        assert torch.allclose(ours[:, place], theirs, atol=1e-6)
        assert np.ptp(ours[:, 0].numpy()) >= 0 and (ours[:, [0, 13]] < theirs.median()).all()


@pytest.mark.parametrize(("how", "tags"), [("dataset", 7), ("grow", 19)])
def test_a_run_says_what_it_carried_over(release, tmp_path: Path, how: str, tags: int) -> None:
    rows = [made.row(number) for number in range(24)]
    source = dataset.write(tmp_path / "data", {"train": rows[:16], "validation": rows[16:]}, {})
    settings = ["train.epochs=1", "train.batch_size=8", "train.threads=1", "data.minimum_count=1",
                "model.frozen_stages=0", "train.cache_activations=0", f"data.vocabulary={how}"]  # fmt: skip
    run = train.train(config.read("finetune", settings), source, tmp_path / "run", release.folder, None)
    carried = json.loads((run.folder / "carried.json").read_text())
    assert len(Vocabulary.read(run.vocabulary)) == tags
    assert carried["kept"] == (0 if how == "dataset" else 12) and len(carried["new"]) == 7
    assert len(carried["left_out"]) == (12 if how == "dataset" else 0)
    learned = publish.publish(run.folder, tmp_path / "new", "new", "New", "CC0-1.0")
    assert (learned.score_floor, learned.max_predictions, learned.exclusive_categories) == (0.2, 64, ["year"])
