"""Micro-batches whose loss is no number: left out, counted, kept to be looked at; too many end the run."""

from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from training.engine import Engine
from training.feeding.material import Part
from training.network import TrainedTagger
from training.run import RunFolder


class Skipped:
    """Counts over the whole run and all processes."""

    def __init__(self, run: RunFolder, engine: Engine, network: TrainedTagger, limit: int) -> None:
        self.run, self.engine, self.limit = run, engine, limit
        self.count = 0
        # a batch of no numbers would stay in the running means and variances for good
        self.statistics = list(network.norm_statistics())
        self.kept: list[Tensor] = []
        self.remember()

    def remember(self) -> None:
        """Takes the running means and variances as they are now for good ones: at the start, and after a load."""
        self.kept = [tensor.clone() for tensor in self.statistics]

    def restore(self) -> None:
        """Puts the good ones back, once the batch that spoilt them has gone back through the network."""
        if self.statistics:
            torch._foreach_copy_(self.statistics, self.kept)

    def takes(
        self, loss: Tensor, step: int, rows: np.ndarray, part: Part, inputs: Tensor, targets: Tensor, weights: Tensor
    ) -> bool:
        """Whether this process's micro-batch is to be skipped. Raises FloatingPointError after too many."""
        bad = not bool(torch.isfinite(loss))
        if self.statistics and not bad:
            torch._foreach_copy_(self.kept, self.statistics)
        if bad:
            self.keep(
                float(loss.detach()), step, rows, part, {"inputs": inputs, "targets": targets, "weights": weights}
            )
        everywhere = torch.tensor(float(bad), device=self.engine.device)
        if found := int(self.engine.total(everywhere)):
            self.count += found
            self.run.say(f"step {step}: the loss is no number; skipped, {self.count} so far")
            if self.count > self.limit:
                raise FloatingPointError(
                    f"The loss was no number in {self.count} micro-batches, last at step {step}; the newest one lies "
                    f"in {self.run.folder / 'skipped'}. Lower train.learning_rate or mend the dataset, and start "
                    "again in a new folder."
                )
        return bad

    def keep(self, loss: float, step: int, rows: np.ndarray, part: Part, tensors: dict[str, Any]) -> None:
        """Which pictures it were, and for the newest all that went in. Each process keeps its own."""
        told = {"step": step, "process": self.engine.rank, "loss": str(loss), "rows": rows.tolist()}
        self.run.append("skipped.jsonl", told | {"md5": [part.rows[row]["md5"] for row in rows]}, everyone=True)
        folder = self.run.folder / "skipped"
        folder.mkdir(exist_ok=True)
        temporary = folder / f".process-{self.engine.rank}"
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
        temporary.replace(folder / f"process-{self.engine.rank}.safetensors")
