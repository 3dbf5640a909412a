"""The DeepSpeed configuration of a recipe: what its JSON file would hold."""

from typing import Any, Protocol

from training.config import Recipe

Groups = list[dict[str, Any]]


class Shared(Protocol):
    """The part of `engine.Sharing` that is told."""

    accumulate: int
    parts: int


def deepspeed_config(
    recipe: Recipe, precision: str, sharing: Shared, highest: list[float], steps_an_epoch: int
) -> dict[str, Any]:
    """`highest` are the parameter groups' highest rates, `steps_an_epoch` micro-batches of all processes."""
    engine = recipe.engine
    values: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": max(recipe.train.batch_size // sharing.parts, 1),
        "gradient_accumulation_steps": sharing.accumulate,
        "gradient_clipping": engine.gradient_clipping,
        "zero_optimization": zero(recipe),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's AdamW on the CPU; DeepSpeed's would be compiled first
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
    if precision == "bf16":
        values["bf16"] = {"enabled": True}
    if precision == "fp16":  # loss_scale 0 is dynamic
        values["fp16"] = {"enabled": True, "loss_scale": 0, "initial_scale_power": engine.initial_scale_power}
    if engine.activation_checkpointing:
        values["activation_checkpointing"] = checkpointing(recipe)
    if recipe.train.schedule == "warmup":
        values["scheduler"] = warmup(recipe, highest, steps_an_epoch)
    return values


def zero(recipe: Recipe) -> dict[str, Any]:
    engine = recipe.engine
    values: dict[str, Any] = {"stage": engine.zero_stage}
    if engine.zero_stage:
        values |= {
            "contiguous_gradients": True,
            "overlap_comm": False,  # it doubles the buckets, and one process has nothing to overlap
            "reduce_bucket_size": engine.bucket_size,
            "allgather_bucket_size": engine.bucket_size,
        }
    if engine.zero_stage == 3:
        values |= {
            "stage3_prefetch_bucket_size": engine.bucket_size,
            "stage3_param_persistence_threshold": engine.whole_below,
        }
    if engine.offload_optimizer:
        values["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if engine.offload_parameters:
        values["offload_param"] = {"device": "cpu", "pin_memory": True}
    return values


def checkpointing(recipe: Recipe) -> dict[str, Any]:
    """DeepSpeed reads `contiguous_memory_optimization` only where activations are partitioned over model-parallel
    processes; it is stated because the published run states it. The network recomputes stages by torch's function,
    which, unlike DeepSpeed's, takes pictures that need no gradient."""
    return {
        "partition_activations": False,
        "contiguous_memory_optimization": recipe.engine.contiguous_memory,
        "cpu_checkpointing": False,
        "number_checkpoints": recipe.engine.number_checkpoints,
    }


def warmup(recipe: Recipe, highest: list[float], steps_an_epoch: int) -> dict[str, Any]:
    """DeepSpeed's WarmupLR: from floor to the highest rate by the logarithm of the optimiser step, then flat."""
    train = recipe.train
    steps = train.warmup_epochs * steps_an_epoch / train.accumulate
    return {
        "type": "WarmupLR",
        "params": {
            "warmup_min_lr": [rate * train.floor for rate in highest],
            "warmup_max_lr": list(highest),
            "warmup_num_steps": max(round(steps), 1),
            "warmup_type": train.warmup_kind,
        },
    }
