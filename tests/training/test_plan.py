import json

import pytest
import torch

from tagger.model import CamieTagger
from training import config, plan, train
from training.losses import UnifiedFocalLoss
from training.network import TrainedTagger

TAGS = 60
SMALL = ("train.batch_size=3", "data.size=64")


@pytest.mark.parametrize("backbone", ["efficientnet_tiny", "efficientnet_lite0"])
@pytest.mark.parametrize("frozen", [0, 3])
def test_planned_activations_are_those_that_autograd_keeps(backbone: str, frozen: int) -> None:
    recipe = config.read("tiny", [*SMALL, f"model.backbone={backbone}", f"model.frozen_stages={frozen}",
                                  "engine.precision=fp32", "model.dropout=0.1"])  # fmt: skip
    network = TrainedTagger(CamieTagger(recipe.model.architecture(TAGS)), recipe).train()
    own = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that its place is not given away
        return tensor

    truth = torch.zeros(3, TAGS)
    inputs = torch.rand(3, 3, 64, 64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = UnifiedFocalLoss.from_recipe(recipe.loss)(*network(inputs), truth, torch.ones_like(truth))[0]
    assert loss.requires_grad
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert plan.plan(recipe, TAGS).activations == pytest.approx(measured, rel=0.02)


def test_recomputed_stages_are_not_kept() -> None:
    whole = plan.plan(config.read("tiny", [*SMALL, "data.size=128"]), TAGS)
    again = plan.plan(config.read("tiny", [*SMALL, "data.size=128", "engine.activation_checkpointing=true"]), TAGS)
    assert again.activations < 0.6 * whole.activations
    assert sum(recomputed for _, _, recomputed in whole.stages) == 0


def test_the_published_run_fits_its_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["camie-v1", "--plan", "--card", "12GB"]) == 0
    told = capsys.readouterr().out
    assert "424,280,927 parameters" in told and "It fits a card of 12GB" in told


def test_what_does_not_fit_says_what_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["tiny", "--plan", "--card", "600MB", "--tags", "50"]) == 0
    assert "does not fit a card of 600MB" in capsys.readouterr().out
    assert train.main(["tiny", "--plan", "--card", "much", "--tags", "50"]) == 1
    assert "write its memory as 12GB" in capsys.readouterr().err


def test_states_are_shared_and_moved_as_deepspeed_does() -> None:
    def parts(*settings: str, processes: int = 1) -> dict[str, int]:
        found = plan.plan(config.read("tiny", [*SMALL, *settings]), TAGS, processes)
        return {**found.parts, "offloaded": found.offloaded, "parameters": found.parameters}

    half = parts("engine.precision=bf16")
    count = half["parameters"]
    assert (half["weights"], half["gradients"]) == (2 * count, 2 * count)
    assert half["optimiser (two moments, weights in float32)"] == 12 * count
    assert parts("engine.precision=fp32")["optimiser (two moments)"] == 8 * count
    two = parts("engine.precision=bf16", "engine.zero_stage=2", processes=2)
    assert (two["weights"], two["gradients"]) == (2 * count, count)
    away = parts("engine.precision=bf16", "engine.zero_stage=2", "engine.offload_optimizer=true")
    assert away["optimiser (two moments, weights in float32)"] == 0 and away["offloaded"] == 12 * count


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_learns_with_running_statistics_in_full(precision: str, capsys) -> None:
    settings = (*SMALL, f"engine.precision={precision}", "engine.zero_stage=2", "engine.activation_checkpointing=true")
    small = [part for value in settings for part in ("--set", value)]
    assert train.main(["tiny", "--steps", "2", "--tags", "50", *small]) == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert told["precision"] == precision and 0 < told["last_loss"] < 5


@pytest.mark.parametrize("plain", [False, True])
def test_steps_are_measured_with_and_without_deepspeed(plain: bool, capsys: pytest.CaptureFixture[str]) -> None:
    small = [part for value in (*SMALL, "train.accumulate=2") for part in ("--set", value)]
    assert train.main(["tiny", "--steps", "3", "--tags", "50", *small, *(["--plain"] if plain else [])]) == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert told["how"] == ("plain PyTorch" if plain else "DeepSpeed") and told["tags"] == 50
    assert told["pictures_per_second"] > 0 and told["peak_bytes"] > 1e7 and 0 < told["last_loss"] < 5
