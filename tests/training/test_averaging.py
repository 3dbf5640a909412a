"""What several processes, halves of floats and few pictures must not change."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from tagger.vocabulary import Vocabulary
from tests.training import made
from training import config, dataset, train
from training.network import Average
from training.run import read_json
from training.scoring.tally import Tally
from training.validation import file_stem


def test_the_average_is_not_rounded_by_being_judged() -> None:
    layer = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).to(torch.bfloat16)
    average = Average(layer, 0.9)
    exact = {key: value.add_(1e-5).clone() for key, value in average.values.items()}
    weights = layer[0].weight.detach().clone()
    average.swap()
    assert torch.equal(layer[0].weight, exact["0.weight"].bfloat16())
    average.swap()
    assert torch.equal(layer[0].weight, weights)
    assert all(torch.equal(average.values[key], exact[key]) for key in exact)
    assert {tensor.shape for tensor in average.statistics()} == {(4,)} and len(average.statistics()) == 2


def test_an_average_is_loaded_where_it_is_used() -> None:
    layer = nn.Linear(4, 4, device="meta")  # stands for another device than the checkpoint's
    average = Average(layer, 0.9)
    average.load({key: torch.zeros(value.shape) for key, value in average.values.items()})
    assert {value.device.type for value in average.values.values()} == {"meta"}


def tally() -> Tally:
    return Tally(Vocabulary(["a"], ["general"], [1]), ["initial"], torch.device("cpu"))


def test_a_loss_is_the_mean_over_cells_where_batches_differ() -> None:
    found = tally()
    for loss, cells in ((1.0, 30.0), (4.0, 10.0)):
        found.add_losses((torch.tensor(loss),) * 3, torch.tensor(cells, dtype=torch.float64))
    assert found.means(lambda tensor: tensor)["loss"] == 1.75


def test_a_checkpoint_keeps_the_tally_of_all_processes() -> None:
    found, again = tally(), tally()
    found.add_losses((torch.tensor(1.0),) * 3)
    again.load(found.state(lambda tensor: tensor * 2))
    assert again.losses.tolist() == [2, 2, 2, 2] and found.losses.tolist() == [1, 1, 1, 1]


def test_a_sample_is_named_by_nothing_but_a_hash() -> None:
    assert file_stem("0" * 32, 3) == "0" * 32
    assert file_stem("../../config", 3) == file_stem("", 3) == "row-3"


def test_few_verdicts_choose_no_epoch_and_no_temperature(tmp_path: Path) -> None:
    rows = [made.row(number) for number in range(40)]
    source = dataset.write(tmp_path / "few", {"train": rows[:32], "validation": rows[32:]}, {})
    recipe = config.read("tiny", [*made.FAST, "train.epochs=3", "train.learning_rate=1e-9"])
    run = train.train(recipe, source, tmp_path / "run", None, None)
    assert run.state["best"]["epoch"] == 3
    assert read_json(run.folder / "metrics.json")["calibration"] == {}
    assert np.isfinite(run.state["best"]["micro_f1"])
