"""Batches for the network: from decoded pictures, varied anew each time, or from what frozen stages made."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.config import Recipe
from training.feeding.augment import Varied
from training.feeding.material import Material, Part
from training.network import Normalise, TrainedTagger, folded
from training.run import RunFolder

CHUNK = 128


def generator(*numbers: int) -> torch.Generator:
    """Draws that depend on nothing but these numbers."""
    state = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)


class Feed:
    """Inputs of one part for one network. `early` says whether they are activations behind the frozen stages."""

    def __init__(self, part: Part, material: Material, recipe: Recipe, network: TrainedTagger, device: torch.device):
        self.part, self.recipe, self.network = part, recipe, network
        self.normalise = Normalise(material.preprocess.mean, material.preprocess.std, device)
        self.varied = Varied(recipe.augment, material.preprocess.pad_color, device)
        self.judged_at_once = min(CHUNK, 4 * recipe.train.batch_size)  # no gradients, so more than are learned at once
        self.kept: np.ndarray | None = None

    @property
    def early(self) -> bool:
        return self.kept is not None

    def plain(self, rows: np.ndarray) -> Tensor:
        """Inputs as they are when a release is used."""
        if self.kept is not None:
            return self.from_kept(np.zeros(len(rows), dtype=np.int64), rows)
        return self.normalise(self.normalise.unit(torch.from_numpy(self.part.pixels(rows))))

    def training(self, rows: np.ndarray, *numbers: int) -> Tensor:
        """Inputs varied by draws that depend on `numbers` alone."""
        if self.kept is not None:
            versions = np.random.default_rng(numbers).integers(len(self.kept), size=len(rows))
            return self.from_kept(versions, rows)
        unit = self.normalise.unit(torch.from_numpy(self.part.pixels(rows)))
        flippable = torch.from_numpy(self.part.flippable[rows])
        return self.normalise(self.varied(unit, flippable, generator(*numbers)))

    def from_kept(self, versions: np.ndarray, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.kept[versions, rows]).to(self.normalise.device).permute(0, 3, 1, 2).float()

    def keep_early(self, run: RunFolder, versions: int) -> None:
        """Runs the frozen stages once over every picture, and over `versions - 1` variations of it.

        Half precision, channels last, in a mapped file [versions, rows, h, w, channels].
        """
        file = run.cache / f"early-{self.part.name}.float16"
        bad = file.with_suffix(".json")  # rows whose picture could not be read
        unreadable = self.part.pictures.unreadable.mask
        first = self.network.early(self.plain(np.arange(1)))
        shape = (versions, len(self.part), *first.shape[2:], first.shape[1])

        def whole() -> bool:
            return file.exists() and file.stat().st_size == 2 * np.prod(shape)

        if run.writes and not whole():
            temporary = Path(f"{file}.{os.getpid()}")
            kept = np.memmap(temporary, dtype=np.float16, mode="w+", shape=shape)
            quick = folded(self.network.frozen)
            for version in range(versions):
                run.say(f"frozen stages over {self.part.name}: version {version + 1} of {versions}")
                self.fill(quick, kept[version], version)
            kept.flush()
            bad.write_text(json.dumps(np.flatnonzero(unreadable).tolist()))
            temporary.rename(file)
        while not whole():  # another process makes it, for longer perhaps than a collective would wait
            time.sleep(0.1)
        if bad.exists():
            unreadable[json.loads(bad.read_text())] = True
        self.kept = np.memmap(file, dtype=np.float16, mode="r", shape=shape)

    @torch.inference_mode()
    def fill(self, frozen: nn.Module, kept: np.ndarray, version: int) -> None:
        for rows in chunks(len(self.part)):
            number = (self.recipe.train.seed, 2**31 + version, int(rows[0]))
            inputs = self.training(rows, *number) if version else self.plain(rows)
            made = frozen(self.network.as_frozen(inputs.to(self.normalise.device)))
            kept[rows] = made.permute(0, 2, 3, 1).to(torch.float16).cpu().numpy()


def chunks(count: int, size: int = CHUNK) -> Iterator[np.ndarray]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))
