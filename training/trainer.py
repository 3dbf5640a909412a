"""The training loop: steps, checkpoints, validation, and going on after a kill as if nothing had been.

A step's rows, variations and dropout depend on the seed and the step's number alone, so a run that was killed and
resumed takes the same steps as one that was not.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from training import evaluation, schedule
from training.config import Recipe
from training.engine import Engine
from training.feed import Feed, order
from training.losses import UnifiedFocalLoss
from training.material import Material
from training.network import Average, TrainedTagger, stored_state
from training.run import RunFolder

LINES_AN_EPOCH = 10
SUMS = ("loss", "loss_initial", "loss_refined")


class Trainer:
    def __init__(
        self,
        recipe: Recipe,
        material: Material,
        network: TrainedTagger,
        run: RunFolder,
        minutes: float | None = None,
    ) -> None:
        self.recipe, self.material, self.run = recipe, material, run
        self.engine = Engine(network, network.parameter_groups(recipe), recipe)
        self.network: TrainedTagger = self.engine.network
        self.loss = UnifiedFocalLoss.from_recipe(recipe.loss)
        self.average = Average(self.network.tagger, recipe.train.ema) if recipe.train.ema else None
        self.feeds = {
            name: Feed(part, material, recipe, self.network, self.engine.device)
            for name, part in material.parts.items()
        }
        batch = recipe.train.batch_size * self.engine.world_size
        self.batch = min(batch, len(material.train))
        self.steps_an_epoch = max(len(material.train) // self.batch, 1)
        self.steps = self.steps_an_epoch * recipe.train.epochs
        self.step = 0
        self.elapsed = 0.0  # seconds in steps and validation, over all starts of this run
        self.budget = minutes * 60 if minutes else None
        self.best: dict[str, Any] | None = None
        self.window = dict.fromkeys(SUMS, 0.0) | {"count": 0}

    # the run as a whole

    def train(self) -> None:
        """From the last checkpoint, or the beginning, to the end; the best weights are then in the run folder."""
        self.load()
        self.keep_early()
        self.begin()
        saved = time.monotonic()
        while self.step < self.steps and self.progress() < 1:
            started = time.monotonic()
            self.one_step(self.step)
            self.step += 1
            self.elapsed += time.monotonic() - started
            self.report()
            if self.step % self.steps_an_epoch == 0:
                self.end_epoch()
            if self.at_boundary() and time.monotonic() - saved >= self.recipe.train.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
        if self.step % self.steps_an_epoch:
            self.end_epoch()
        if not self.judges():
            with self.judged_weights():
                self.keep_weights({"epoch": self.epoch()})
        self.save()
        self.run.update(status="trained", step=self.step, elapsed=round(self.elapsed, 1))

    def begin(self) -> None:
        recipe, state = self.recipe, self.run
        state.forget_after(self.step)
        trained = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.network.tagger.parameters())
        start = f"going on at step {self.step}" if self.step else "starting"
        state.say(
            f"{start}: {len(self.material.train)} pictures, {len(self.material.vocabulary)} tags, "
            f"{total / 1e6:.2f} million parameters ({trained / 1e6:.2f} trained), {self.engine.precision} "
            f"on {self.engine.device.type}, {recipe.train.epochs} epochs of {self.steps_an_epoch} steps"
        )
        counts = {name: len(part) for name, part in self.material.parts.items()}
        state.update(status="training", steps=self.steps, epochs=recipe.train.epochs, pictures=counts, parameters=total)

    def progress(self) -> float:
        """Share of the run that is done, by steps or by the time budget, whichever is further."""
        by_steps = self.step / self.steps
        return max(by_steps, self.elapsed / self.budget) if self.budget else by_steps

    def epoch(self) -> int:
        """The epoch just ended or under way, from 1."""
        return -(-self.step // self.steps_an_epoch) or 1

    def at_boundary(self) -> bool:
        return self.step % self.recipe.train.accumulate == 0

    def judges(self) -> bool:
        """Whether there is a validation split to choose the best weights by."""
        return "validation" in self.material.parts

    # one step

    def rows(self, step: int) -> np.ndarray:
        """This process's rows of a step."""
        epoch, place = divmod(step, self.steps_an_epoch)
        whole = order(self.recipe.train.seed, epoch, len(self.material.train))
        batch = whole[place * self.batch : (place + 1) * self.batch]
        return batch[self.engine.rank :: self.engine.world_size]

    def one_step(self, step: int) -> None:
        seed = self.recipe.train.seed
        torch.manual_seed(seed * 1_000_003 + step)  # dropout
        self.network.train()
        self.engine.set_rate(schedule.share(self.progress(), self.recipe.train, self.steps))
        rows, feed = self.rows(step), self.feeds["train"]
        targets, weights = self.material.train.targets.batch(rows, self.recipe.loss.soft_weight)
        device = self.engine.device
        inputs = feed.training(rows, seed, step, self.engine.rank).to(self.engine.dtype)
        initial, refined = self.engine(inputs, feed.early)
        losses = self.loss(initial, refined, torch.from_numpy(targets).to(device), torch.from_numpy(weights).to(device))
        self.engine.step(losses[0])
        if self.average:
            self.average.update(step)
        values = [float(value.detach()) for value in losses]
        if not np.isfinite(values[0]) and self.engine.precision != "fp16":
            raise FloatingPointError(
                f"The loss is not a number at step {step}; lower train.learning_rate and start again in a new folder."
            )
        for name, value in zip(SUMS, values, strict=True):
            self.window[name] += value
        self.window["count"] += 1

    def report(self) -> None:
        """A line on the console and in metrics.jsonl, about ten times an epoch."""
        every = max(self.steps_an_epoch // LINES_AN_EPOCH, 1)
        if self.step % every and self.step != self.steps:
            return
        count = max(self.window["count"], 1)
        means = {name: round(self.window[name] / count, 6) for name in SUMS}
        speed = self.step * self.batch / max(self.elapsed, 1e-9)
        left = self.remaining()
        rate = self.engine.optimizer.param_groups[-1]["lr"]
        self.run.record(
            "train",
            step=self.step,
            epoch=self.epoch(),
            **means,
            learning_rate=float(f"{rate:.4g}"),
            pictures_per_second=round(speed, 1),
            elapsed=round(self.elapsed, 2),
        )
        self.run.say(
            f"epoch {self.epoch()}  step {self.step}/{self.steps}  loss {means['loss']:.5f}  rate {rate:.2e}  "
            f"{speed:.0f} pictures/s  about {left / 60:.1f} min left"
        )
        self.run.update(step=self.step, epoch=self.epoch(), elapsed=round(self.elapsed, 1))
        self.window = dict.fromkeys(SUMS, 0.0) | {"count": 0}

    def remaining(self) -> float:
        """Seconds, from the pace so far."""
        done = self.progress()
        return self.elapsed / done * (1 - done) if done else 0.0

    # validation and weights

    def end_epoch(self) -> None:
        last = self.step >= self.steps or self.progress() >= 1
        if not self.judges() or not (last or self.epoch() % self.recipe.train.evaluate_every == 0):
            return
        started = time.monotonic()
        with self.judged_weights():
            found = evaluation.validate(self.network, self.feeds["validation"], self.material)
            self.run.write_json(f"samples/epoch-{self.epoch():03d}.json", found.samples)
            self.elapsed += time.monotonic() - started
            self.run.record("validation", step=self.step, epoch=self.epoch(), **found.numbers)
            self.run.say(f"epoch {self.epoch()} validation: {found.sentence}")
            if self.best is None or found.numbers["micro_f1"] > self.best["micro_f1"]:
                self.keep_weights({"epoch": self.epoch(), **found.numbers})

    @contextmanager
    def judged_weights(self) -> Iterator[None]:
        """Within it the network holds the averaged weights, where a run averages."""
        if self.average:
            self.average.swap()
        try:
            yield
        finally:
            if self.average:
                self.average.swap()

    def keep_weights(self, best: dict[str, Any]) -> None:
        """Writes the weights now in the network (the average's, within `judged_weights`) as the best so far."""
        self.best = best
        self.run.update(best=best)
        if self.engine.rank == 0:
            temporary = self.run.best.with_name(".best.safetensors")
            save_file(stored_state(self.network.tagger), temporary)
            temporary.replace(self.run.best)

    # checkpoints

    def save(self) -> None:
        state = {
            "step": self.step,
            "elapsed": self.elapsed,
            "best": self.best,
            "window": self.window,
            "average": self.average.values if self.average else None,
        }
        self.engine.save(self.run.checkpoints, f"step-{self.step:07d}", state)

    def load(self) -> None:
        state = self.engine.load(self.run.checkpoints)
        if not state:
            return
        self.step, self.elapsed, self.best = state["step"], state["elapsed"], state["best"]
        self.window = state["window"]
        if self.average and state["average"]:
            self.average.load(state["average"])

    def keep_early(self) -> None:
        versions = self.recipe.train.cache_activations
        if versions:
            self.network.eval()
            self.feeds["train"].keep_early(self.run, versions)
            if self.judges():
                self.feeds["validation"].keep_early(self.run, 1)
