"""The training loop: steps, checkpoints, validation, and going on after a kill as if nothing had been.

A step is one micro-batch, counted over all processes. Its rows, variations and dropout depend on the seed and its
number alone, so a run that was killed and resumed takes the same steps as one that was not, and two processes that
share the micro-batches of an optimiser step take the steps that one process would.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from training import schedule, telling
from training.config import Recipe
from training.engine import Engine, own_device
from training.feeding import opinions
from training.feeding.feed import Feed
from training.feeding.material import FEWEST_TO_CHOOSE_BY, Material
from training.feeding.pictures import Ahead
from training.feeding.sampling import Order, repeat_factors
from training.losses import UnifiedFocalLoss, stages
from training.network import Average, TrainedTagger, stored_state
from training.run import RunFolder, first_line
from training.scoring.tally import Tally
from training.skipping import Skipped
from training.validation import Judge


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
        self.batch = min(recipe.train.batch_size, len(material.train))
        rare = recipe.data.rare_threshold
        factors = repeat_factors(material.train.targets, rare) if rare else None
        self.order = Order(recipe.train.seed, len(material.train), factors)
        # whole optimiser steps, so that none begins in one epoch and ends in the next
        optimiser_steps = max(self.order.length // self.batch // recipe.train.accumulate, 1)
        self.steps_an_epoch = optimiser_steps * recipe.train.accumulate
        self.steps = self.steps_an_epoch * recipe.train.epochs
        if recipe.train.pictures:
            self.steps = min(self.steps, max(recipe.train.pictures // self.batch, 1))
        device = own_device()
        self.feeds = {name: Feed(part, material, recipe, network, device) for name, part in material.parts.items()}
        self.keep_early(network.to(device))  # while the weights are whole: ZeRO's stage 3 parts them
        self.engine = Engine(network, network.parameter_groups(recipe), recipe, self.steps_an_epoch)
        self.width = self.engine.sharing.width
        self.network: TrainedTagger = self.engine.network
        codes = torch.from_numpy(material.vocabulary.category_codes)
        self.loss = UnifiedFocalLoss.from_recipe(recipe.loss, codes).to(device)
        self.average = Average(self.network.tagger, recipe.train.ema) if recipe.train.ema else None
        self.tally = Tally(material.vocabulary, self.network.stage_names, device)
        self.skipped = Skipped(run, self.engine, self.network, recipe.train.skip_limit)
        self.step = 0
        self.elapsed = 0.0  # seconds in steps and validation, over all starts of this run
        self.budget = minutes * 60 if minutes else None
        self.best: dict[str, Any] | None = None
        self.pace = telling.Pace()
        self.last: telling.LastBatch | None = None

    # the run as a whole

    def train(self) -> None:
        """From the last checkpoint, or the beginning, to the end; the best weights are then in the run folder."""
        self.keep_opinions()
        self.load()
        self.expect()
        telling.begin(self)
        saved = time.monotonic()
        while self.step < self.steps and self.progress() < 1:
            started = time.monotonic()
            self.one_step()
            self.step += self.width
            spent = time.monotonic() - started
            self.elapsed += spent
            self.pace.add(self.batch * self.width, spent)
            unsaved = self.agree(time.monotonic() - saved)
            telling.report(self)
            if self.step % self.steps_an_epoch == 0:
                self.end_epoch()
                unsaved = self.agree(time.monotonic() - saved)
            if self.at_boundary() and unsaved >= self.recipe.train.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
        if self.step % self.steps_an_epoch:
            self.end_epoch()
        if not self.judges():
            with self.judged_weights():
                self.keep_weights({"epoch": self.epoch()})
        self.save()
        self.run.update(status="trained", step=self.step, elapsed=round(self.elapsed, 1), eta=0.0)

    def agree(self, unsaved: float) -> float:
        """The first process's times in all: they save, set the rate and end together, or would wait for each other."""
        self.elapsed, unsaved = self.engine.first_says(self.elapsed, unsaved)
        return unsaved

    def progress(self) -> float:
        """Share of the run that is done, by steps or by the time budget, whichever is further."""
        by_steps = self.step / self.steps
        return max(by_steps, self.elapsed / self.budget) if self.budget else by_steps

    def epoch(self) -> int:
        """The epoch just ended or under way, from 1."""
        return -(-self.step // self.steps_an_epoch) or 1

    def at_boundary(self) -> bool:
        """Whether an optimiser step has just been taken."""
        return self.step % self.recipe.train.accumulate == 0

    def judges(self) -> bool:
        """Whether there is a validation split to choose the best weights by."""
        return "validation" in self.material.parts

    # one step

    def rows(self, step: int) -> np.ndarray:
        """This process's rows of a step. A small dataset fills its one optimiser step by coming round again."""
        epoch, place = divmod(step, self.steps_an_epoch)
        whole = self.order.epoch(epoch)
        batch = whole[np.arange(place * self.batch, (place + 1) * self.batch) % len(whole)]
        return batch[self.engine.rank :: self.engine.world_size] if self.engine.sharing.parts > 1 else batch

    def number(self, step: int) -> int:
        """This process's micro-batch of the steps that are taken at once from `step` on."""
        return step if self.engine.sharing.parts > 1 else step + self.engine.rank

    def expect(self) -> None:
        """Has pictures that are not kept decoded begun ahead: this process's, from the very next step on."""
        if not self.feeds["train"].early:
            depth = self.recipe.data.ahead or Ahead.depth_for(self.recipe.data.workers, self.batch)
            coming = (self.rows(self.number(step)) for step in range(self.step, self.steps, self.width))
            self.material.train.expect(coming, depth)

    def one_step(self) -> None:
        shared = self.engine.sharing.parts > 1
        number = self.number(self.step)
        part = self.engine.rank if shared else 0
        seed = self.recipe.train.seed
        torch.manual_seed(seed * 1_000_003 + number + (part << 40))  # dropout
        self.network.train()
        self.engine.set_rate(schedule.share(self.progress_of_step(), self.recipe.train, self.steps))
        rows, feed = self.rows(number), self.feeds["train"]
        inputs = feed.training(rows, seed, number, part).to(self.engine.dtype)
        targets, weights = (
            torch.from_numpy(values).to(self.engine.device)
            for values in self.material.train.targets.batch(rows, self.recipe.loss.soft_weight)
        )
        logits = self.engine(inputs, feed.early)
        losses = self.loss(*logits, targets, weights, self.shared_weight(weights) if shared else None)
        if self.skipped.takes(losses[0], number, rows, self.material.train, inputs, targets, weights):
            self.engine.step_without(losses[0])
            self.skipped.restore()
        else:
            self.engine.step(losses[0])
            self.tally.add_losses(losses)
            self.tally.add_cells(self.loss.seen)
            self.tally.add_scores(stages(*logits), targets, weights)
            self.last = telling.LastBatch(rows, stages(*(part.detach() for part in logits)), targets, weights)
        if self.average and (self.step + self.width) % self.recipe.train.accumulate == 0:
            self.average.update(self.step // self.recipe.train.accumulate)

    def progress_of_step(self) -> float:
        """Progress at the first micro-batch of this optimiser step: its rate does not depend on who takes them."""
        if self.budget:
            return self.progress()
        return self.step // self.recipe.train.accumulate * self.recipe.train.accumulate / self.steps

    def shared_weight(self, weights: Tensor) -> Tensor:
        """The sum of the whole micro-batch's weights over the processes that share it, for the mean of their losses."""
        return self.engine.total(weights.sum()) / self.engine.world_size

    # validation and weights

    def end_epoch(self) -> None:
        last = self.step >= self.steps or self.progress() >= 1
        if not self.judges() or not (last or self.epoch() % self.recipe.train.evaluate_every == 0):
            return
        started = time.monotonic()
        averaged = self.average.statistics() if self.average else []
        self.engine.copy_first([*self.network.norm_statistics(), *averaged])
        with self.judged_weights():
            judge = Judge(self.recipe, self.material, self.engine, self.feeds["validation"], self.loss)
            found = judge(self.network)
            place = {"step": self.step, "epoch": self.epoch()}
            self.run.keep_samples({**place, **found.samples}, found.pictures)
            self.elapsed += time.monotonic() - started
            self.run.record("validation", **place, **found.numbers)
            self.run.say(f"epoch {self.epoch()} validation: {found.sentence}")
            better = self.best is None or found.numbers["micro_f1"] > self.best["micro_f1"]
            if better or self.material.held_out() < FEWEST_TO_CHOOSE_BY:  # then chance would choose: the last one stays
                kept = {name: value for name, value in found.numbers.items() if name.endswith("_f1")}
                self.keep_weights({"epoch": self.epoch(), "step": self.step, **kept})

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
        with self.engine.whole_weights():
            kept = stored_state(self.network.tagger) if self.engine.rank == 0 else {}
        if self.engine.rank == 0:
            temporary = self.run.best.with_name(".best.safetensors")
            with self.run.may_fail("the best weights"):
                save_file(kept, temporary)
                temporary.replace(self.run.best)
                self.best = best
            temporary.unlink(missing_ok=True)
        else:
            self.best = best
        self.run.update(best=self.best)

    # checkpoints

    def save(self) -> None:
        state = {
            "step": self.step,
            "elapsed": self.elapsed,
            "best": self.best,
            "tally": self.tally.state(self.engine.total),
            "skipped": self.skipped.count,
            "average": self.average.values if self.average else None,
        }
        name = f"step-{self.step:07d}"
        if self.engine.world_size > 1:  # what fails in one process ends them all: the others would wait for it
            self.engine.save(self.run.checkpoints, name, state)
            return
        with self.run.may_fail(f"checkpoint {name}"):
            try:
                self.engine.save(self.run.checkpoints, name, state)
            except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
                shutil.rmtree(self.run.checkpoints / name, ignore_errors=True)
                raise OSError(first_line(error)) from error

    def load(self) -> None:
        state = self.engine.load(self.run.checkpoints)
        if not state:
            return
        self.step, self.elapsed, self.best = state["step"], state["elapsed"], state["best"]
        self.skipped.count = state["skipped"]
        self.skipped.remember()
        if self.engine.rank == 0:  # it is the sum over all processes
            self.tally.load(state["tally"])
        if self.average and state["average"]:
            self.average.load(state["average"])

    def keep_early(self, network: TrainedTagger) -> None:
        """The first process makes them, the others find them."""
        versions = self.recipe.train.cache_activations
        if not versions:
            return
        network.eval()
        self.feeds["train"].keep_early(self.run, versions)
        if self.judges():
            self.feeds["validation"].keep_early(self.run, 1)

    def keep_opinions(self) -> None:
        """Before a checkpoint is loaded: the opinions are those of the release that the run starts from."""
        if (spread := self.recipe.loss.soft_spread) and self.run.state.get("release"):
            self.engine.wait()  # all processes make them, or all find them
            self.material.train.targets = opinions.keep(self.network, self.feeds["train"], self.run, spread)
