"""The configurations that recipes make, as DeepSpeed's own parser reads them."""

import pytest

from training import config
from training.config import RecipeError
from training.deepspeed_config import deepspeed_config
from training.engine import Sharing, quiet_deepspeed

quiet_deepspeed()
from deepspeed.runtime.config import DeepSpeedConfig  # noqa: E402


def parsed(recipe: str, *settings: str, precision: str = "fp16", steps: int = 497_888) -> DeepSpeedConfig:
    one = config.read(recipe, settings)
    highest = [3e-4, 3e-4]
    return DeepSpeedConfig(deepspeed_config(one, precision, Sharing.of(one.train, 1), highest, steps))


def test_the_published_run_is_read_as_its_card_tells_it() -> None:
    found = parsed("camie-v1")
    assert found.train_micro_batch_size_per_gpu == 4 and found.gradient_accumulation_steps == 8
    assert found.train_batch_size == 32
    assert found.zero_enabled and found.zero_optimization_stage == 2
    assert found.float16_config.enabled and found.float16_config.loss_scale == 0
    assert found.float16_config.initial_scale_power == 16
    assert found.activation_checkpointing_config.contiguous_memory_optimization
    assert found.gradient_clipping == 1.0
    assert found.scheduler_name == "WarmupLR"
    assert found.scheduler_params["warmup_min_lr"] == pytest.approx([3e-6] * 2)
    assert found.scheduler_params["warmup_max_lr"] == [3e-4] * 2
    assert found.scheduler_params["warmup_num_steps"] == 497_888 // 8 // 4
    assert not found.zero_config.cpu_offload and found.zero_config.offload_optimizer is None


def test_the_published_run_is_as_long_as_its_card_tells_it() -> None:
    train = config.read("camie-v1").train
    assert train.pictures // train.batch_size == 1_756_098
    assert train.learning_rate == 3e-4 and train.weight_decay == 0.01


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_stage_is_read(stage: int) -> None:
    found = parsed("camie-v1", f"engine.zero_stage={stage}", precision="bf16")
    assert found.zero_optimization_stage == stage and found.bfloat16_config.enabled
    assert not found.float16_config.enabled


def test_states_may_lie_in_the_cpus_memory() -> None:
    found = parsed("camie-v1", "engine.zero_stage=3", "engine.offload_optimizer=true", "engine.offload_parameters=true")
    assert found.zero_config.offload_optimizer.device == "cpu" and found.zero_config.offload_param.device == "cpu"
    with pytest.raises(RecipeError, match="needs zero_stage"):
        config.read("camie-v1", ["engine.zero_stage=2", "engine.offload_parameters=true"])


@pytest.mark.parametrize(
    ("processes", "width", "accumulate", "parts"), [(1, 1, 8, 1), (2, 2, 4, 1), (8, 8, 1, 1), (16, 1, 8, 16)]
)
def test_an_optimiser_step_holds_the_same_pictures_on_any_number_of_processes(
    processes: int, width: int, accumulate: int, parts: int
) -> None:
    train = config.read("camie-v1", ["train.batch_size=16"]).train
    sharing = Sharing.of(train, processes)
    assert (sharing.width, sharing.accumulate, sharing.parts) == (width, accumulate, parts)
    assert train.batch_size // sharing.parts * sharing.accumulate * processes == 16 * 8
    with pytest.raises(RecipeError, match="divides by the 3 processes"):
        Sharing.of(train, 3)
