"""What a trainer says of itself while it goes: the console, state.json, metrics.jsonl and samples of its last batch."""

import contextlib
import os
import platform
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from torch import Tensor

from training.scoring.tally import Selection
from training.validation import sample

if TYPE_CHECKING:
    from training.trainer import Trainer

LINES_AN_EPOCH = 10
LINE_OPTIMISER_STEPS = 25  # at most so many between two lines: a large run says something every minute or two
SHOWN = 4  # pictures of a training sample


@dataclass(frozen=True)
class LastBatch:
    rows: np.ndarray
    logits: Mapping[str, Tensor]
    targets: Tensor
    weights: Tensor


class Pace:
    """Pictures a second over the last steps."""

    def __init__(self, steps: int = 50) -> None:
        self.taken: deque[tuple[int, float]] = deque(maxlen=steps)

    def add(self, pictures: int, seconds: float) -> None:
        self.taken.append((pictures, seconds))

    def value(self) -> float:
        return sum(p for p, _ in self.taken) / max(sum(s for _, s in self.taken), 1e-9)


def memory(device: torch.device) -> dict[str, int | None]:
    """Bytes of this process and of its GPU; see `training/run.py`."""
    found: dict[str, int | None] = {"process": psutil.Process().memory_info().rss}
    found |= dict.fromkeys(("gpu", "gpu_peak", "gpu_total", "gpu_use"))
    if device.type == "cuda":
        found["gpu"] = torch.cuda.memory_allocated(device)
        found["gpu_peak"] = torch.cuda.max_memory_reserved(device)
        found["gpu_total"] = torch.cuda.get_device_properties(device).total_memory
        with contextlib.suppress(ModuleNotFoundError, RuntimeError):  # NVIDIA's management library is not always there
            found["gpu_use"] = torch.cuda.utilization(device)
    return found


def numbers(parameter: Tensor) -> int:
    """How many it holds in all; ZeRO's stage 3 leaves each process an empty one that knows."""
    return getattr(parameter, "ds_numel", parameter.numel())


def begin(trainer: "Trainer") -> None:
    t, run = trainer, trainer.run
    run.forget_after(t.step)
    trained = sum(numbers(p) for p in t.network.parameters() if p.requires_grad)
    total = sum(numbers(p) for p in t.network.tagger.parameters())
    start = f"going on at step {t.step}" if t.step else "starting"
    processes = f", {t.engine.world_size} processes" if t.engine.world_size > 1 else ""
    run.say(
        f"{start}: {len(t.material.train)} pictures, {len(t.material.vocabulary)} tags, "
        f"{total / 1e6:.2f} million parameters ({trained / 1e6:.2f} trained), {t.engine.precision} "
        f"on {t.engine.device.type}{processes}, {t.recipe.train.epochs} epochs of {t.steps_an_epoch} steps"
    )
    run.update(
        status="training",
        error=None,
        steps=t.steps,
        epochs=t.recipe.train.epochs,
        batches=t.steps_an_epoch,
        batch_size=t.batch,
        accumulate=t.recipe.train.accumulate,
        processes=t.engine.world_size,
        pictures={name: len(part) for name, part in t.material.parts.items()},
        parameters=total,
        device=torch.cuda.get_device_name(t.engine.device) if t.engine.device.type == "cuda" else "cpu",
        precision=t.engine.precision,
        pid=os.getpid(),
        host=platform.node(),
        eta=None,
        **place(t),
    )


def place(trainer: "Trainer") -> dict[str, Any]:
    t = trainer
    batch = t.step - (t.epoch() - 1) * t.steps_an_epoch
    return {"step": t.step, "epoch": t.epoch(), "batch": batch, "elapsed": round(t.elapsed, 2)}


def remaining(trainer: "Trainer") -> float | None:
    """Seconds, from the pace so far."""
    done = trainer.progress()
    return round(trainer.elapsed / done * (1 - done), 1) if done else None


def now(trainer: "Trainer") -> dict[str, Any]:
    t = trainer
    return {
        **place(t),
        "eta": remaining(t),
        "samples_per_second": round(t.pace.value(), 1),
        "learning_rate": float(f"{t.engine.rate:.4g}"),
        "loss_scale": t.engine.loss_scale,
        "skipped": t.skipped.count,
    }


def line_every(trainer: "Trainer") -> int:
    """Steps between two lines, the same for any number of processes."""
    accumulate = trainer.recipe.train.accumulate
    optimiser_steps = max(trainer.steps_an_epoch // LINES_AN_EPOCH // accumulate, 1)
    return min(optimiser_steps, LINE_OPTIMISER_STEPS) * accumulate


def report(trainer: "Trainer") -> None:
    """state.json every two seconds; a line on the console and in metrics.jsonl about ten times an epoch."""
    t = trainer
    if t.step % line_every(t) >= t.width and t.step < t.steps:
        t.run.live(**now(t))
        return
    means, f1 = t.tally.means(t.engine.total), t.tally.f1(t.engine.total)
    thresholds = f1.pop("thresholds")
    state = now(t) | {"memory": memory(t.engine.device)}
    line = {name: value for name, value in state.items() if name != "samples_per_second"}
    cells = t.tally.cell_means(t.engine.total)
    t.run.record(
        "train",
        **line,
        **means,
        **f1,
        pictures_per_second=state["samples_per_second"],
        batches=t.steps_an_epoch,
        cells=cells,
        selection=selection(t),
    )
    t.run.say(
        f"epoch {t.epoch()}  step {t.step}/{t.steps}  loss {means['loss']:.5f}  rate {t.engine.rate:.2e}  "
        f"{state['samples_per_second']:.0f} pictures/s  about {(state['eta'] or 0) / 60:.1f} min left"
    )
    t.run.update(**state, **means)
    keep_samples(t, thresholds)
    t.tally.clear()


def selection(trainer: "Trainer") -> dict[str, Any] | None:
    last = trainer.last
    if not last or "refined" not in last.logits or trainer.engine.world_size > 1:
        return selection_of_all(trainer)
    return one_selection(trainer, last).numbers(lambda tensor: tensor)


def selection_of_all(trainer: "Trainer") -> dict[str, Any] | None:
    """Several processes' last batches together; every one of them comes here."""
    if "refined" not in trainer.network.stage_names:
        return None
    return one_selection(trainer, trainer.last).numbers(trainer.engine.total)


def one_selection(trainer: "Trainer", last: LastBatch | None) -> Selection:
    found = Selection(len(trainer.material.vocabulary), trainer.engine.device)
    if last:
        found.add(trainer.network.tagger.context(last.logits["initial"]), last.logits, last.targets, last.weights)
    return found


def keep_samples(trainer: "Trainer", thresholds: dict[str, Any]) -> None:
    t, last = trainer, trainer.last
    if not last or not t.run.writes:
        return
    some = slice(0, SHOWN)
    logits = {stage: values[some] for stage, values in last.logits.items()}
    made = sample(
        t.network,
        t.feeds["train"],
        last.rows[some],
        logits,
        last.targets[some],
        last.weights[some],
        t.material.vocabulary,
        name=f"train-{t.step:07d}",
    )
    pictures = {one["picture"]: one.pop("pixels") for one in made}
    value = {"kind": "train", "step": t.step, "epoch": t.epoch(), "thresholds": thresholds, "samples": made}
    t.run.keep_samples(value, pictures)
