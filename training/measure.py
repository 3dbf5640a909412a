"""Some steps of a recipe on made pictures, for their speed and memory:

    python -m training.train camie-v1 --steps 50 --tags 70527 [--plain]

`--plain` takes the same steps in eager PyTorch without DeepSpeed: automatic mixed precision over float32 weights,
torch's AdamW, no ZeRO and no activation checkpointing.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagger.vocabulary import Vocabulary
from training.config import Recipe
from training.data.progress import peak_memory
from training.engine import Engine, choose_precision
from training.losses import UnifiedFocalLoss
from training.network import Normalise, TrainedTagger, new_tagger

WARM_UP = 5
TAGS_A_PICTURE = 45
Step = Callable[[Tensor, Tensor, Tensor], float]


def made_batch(recipe: Recipe, tags: int, step: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised noise, and targets with as many tags as a picture of the published run has."""
    draw = np.random.default_rng(step)
    count, side = recipe.train.batch_size, recipe.data.size
    pixels = torch.from_numpy(draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8))
    normalise = Normalise(recipe.data.mean, recipe.data.std, device)
    targets = torch.zeros(count, tags)
    targets[np.repeat(np.arange(count), TAGS_A_PICTURE), draw.integers(0, tags, count * TAGS_A_PICTURE)] = 1
    targets = targets.to(device)
    return normalise(normalise.unit(pixels)), targets, torch.ones_like(targets)


def by_deepspeed(recipe: Recipe, network: TrainedTagger, loss: UnifiedFocalLoss) -> tuple[Step, str, torch.device]:
    engine = Engine(network, network.parameter_groups(recipe), recipe)
    loss.to(engine.device)
    engine.network.train()

    def step(inputs: Tensor, targets: Tensor, weights: Tensor) -> float:
        value = loss(*engine(inputs.to(engine.dtype)), targets, weights)[0]
        engine.step(value)
        return float(value.detach())

    return step, engine.precision, engine.device


def by_plain_torch(recipe: Recipe, network: TrainedTagger, loss: UnifiedFocalLoss) -> tuple[Step, str, torch.device]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision(recipe.engine.precision, device)
    network.to(device, memory_format=torch.channels_last).train()
    loss.to(device)
    optimizer = torch.optim.AdamW(network.parameter_groups(recipe), fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
    taken = 0

    def step(inputs: Tensor, targets: Tensor, weights: Tensor) -> float:
        nonlocal taken
        with torch.autocast(device.type, half) if half else contextlib.nullcontext():
            logits = network(inputs)
        value = loss(*logits, targets, weights)[0]
        scaler.scale(value / recipe.train.accumulate).backward()
        taken += 1
        if taken % recipe.train.accumulate == 0:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.engine.gradient_clipping)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
        return float(value.detach())

    return step, precision, device


def measure(recipe: Recipe, tags: int, steps: int, plain: bool) -> dict[str, Any]:
    """Pictures a second after the first few steps, and the peak of memory, bytes."""
    engine = dataclasses.replace(recipe.engine, activation_checkpointing=False) if plain else recipe.engine
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, pretrained=False), engine=engine)
    vocabulary = Vocabulary([f"tag_{number}" for number in range(tags)], ["general"] * tags, [1] * tags)
    network = TrainedTagger(new_tagger(recipe, vocabulary, tags), recipe)
    make = by_plain_torch if plain else by_deepspeed
    step, precision, device = make(recipe, network, UnifiedFocalLoss.from_recipe(recipe.loss))
    losses = []
    for number in range(WARM_UP + steps):
        if number == WARM_UP:
            synchronise(device)
            started = time.monotonic()
        losses.append(step(*made_batch(recipe, tags, number, device)))
    synchronise(device)
    seconds = time.monotonic() - started
    return {
        "how": "plain PyTorch" if plain else "DeepSpeed",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": precision,
        "tags": tags,
        "pictures_per_second": round(steps * recipe.train.batch_size / seconds, 2),
        "peak_bytes": torch.cuda.max_memory_reserved(device) if device.type == "cuda" else peak_memory(),
        "last_loss": losses[-1],
    }


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
