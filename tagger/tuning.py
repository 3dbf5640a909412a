"""The quickest way to run a model on a GPU: as it is, as a CUDA graph, or compiled; measured, never assumed.

At the first load on a device each way is built and timed for several batch sizes. What can't be built, answers
otherwise than the plain way in exact mode, or is not clearly quicker is left. What was found is kept beside the
release's weights, so that later loads build only what was chosen: graphs at once, before other threads decode on the
same device, and what takes minutes to compile when it is first used:

    speed.json   {"NVIDIA H200, torch 2.14.1, float16": {"8": {
                      "way": "graph", "seconds": {"plain": 0.02, "graph": 0.01}, "left": {"compiled": "why"}}, ...}}
"""

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

FILE = "speed.json"
PLAIN = "plain"
SIZES = (1, 2, 4, 8, 16, 32)  # pictures at once; others are filled up to the next of these where that is quicker
COMPILED_SIZES = (8, 32)  # each costs a minute of compiling; small batches wait for launches, which graphs cure
GAIN = 0.95  # of the plain way's seconds; what takes longer than this is not worth its memory
TOLERANCE = 1e-3  # of exact mode's logits
WARM_UP, TIMED = 2, 5

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Way:
    """`build` makes a function for batches of this size; it may raise anything. `early`: at the load already."""

    name: str
    build: Callable[[int], Run]
    sizes: Sequence[int] = SIZES
    early: bool = False


@dataclass
class Choice:
    """What was found for one batch size: the way, best seconds by way, and why others were left."""

    way: str = PLAIN
    seconds: dict[str, float] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


class Quickest:
    """Runs `plain` by the quickest of `ways` for a batch's size. Not for several threads at once.

    `example` makes pictures to measure with, `answer` takes what `plain` returns to what must agree within
    `tolerance`, None for any difference. `folder` and `key` say where the outcome is kept and for which machine.
    """

    def __init__(
        self,
        plain: Run,
        ways: Sequence[Way],
        *,
        example: Callable[[int], Tensor],
        answer: Run,
        tolerance: float | None,
        folder: Path,
        key: str,
        clock: Callable[[Run, Tensor], float],
    ) -> None:
        self.plain, self.ways = plain, {way.name: way for way in ways}
        self.example, self.answer, self.tolerance, self.clock = example, answer, tolerance, clock
        self.built: dict[int, Run] = {}
        self._short: set[int] = set()  # batch sizes for which memory ran out: other programs may need less tomorrow
        found = kept(folder).get(key, {})
        self.choices = {size: found.get(size) or self._choose(size) for size in SIZES}
        certain = {size: choice for size, choice in self.choices.items() if size not in self._short}
        if set(certain) - set(found):
            keep(folder, key, certain)
        self._build_early()

    def __call__(self, images: Tensor) -> Tensor:
        """[B, ...] -> [B, ...] as `plain`"""
        count = len(images)
        size = next((size for size in SIZES if size >= count), None)
        if size is None or not self._is_worth(size, count):
            return self.plain(images)
        if size > count:
            images = filled(images, size)
        try:
            return self._built(size)(images)[:count]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._leave(size, error)
            return self.plain(images[:count])

    def title(self) -> str:
        """The ways in use, for people: graph, compiled"""
        return ", ".join(sorted({choice.way for choice in self.choices.values()} - {PLAIN}))

    def _is_worth(self, size: int, count: int) -> bool:
        """Whether `count` pictures filled up to `size` are quicker than the plain way without filling."""
        choice = self.choices[size]
        if choice.way == PLAIN:
            return False
        return choice.seconds[choice.way] <= choice.seconds[PLAIN] * count / size

    def _build_early(self) -> None:
        for size, choice in list(self.choices.items()):
            way = self.ways.get(choice.way)
            if way is None or not way.early:
                continue
            try:
                self._built(size)
            except Exception as error:
                self._leave(size, error)

    def _built(self, size: int) -> Run:
        if size not in self.built:
            self.built[size] = self.ways[self.choices[size].way].build(size)
        return self.built[size]

    def _leave(self, size: int, error: Exception) -> None:
        choice = self.choices[size]
        logger.warning("%d pictures at once can't be run %s any more: %s", size, choice.way, error)
        self.built.pop(size, None)
        self.choices[size] = Choice(PLAIN, choice.seconds, {**choice.left, choice.way: reason(error)})

    def _choose(self, size: int) -> Choice:
        """Builds and times every way for this size; keeps the function of the chosen one alone."""
        choice = Choice()
        try:
            images = self.example(size)
            expected = self.answer(self.plain(images))
            choice.seconds[PLAIN] = self.clock(self.plain, images)
        except torch.OutOfMemoryError as error:
            self._short.add(size)
            return Choice(left=dict.fromkeys(self.ways, reason(error)))
        best = choice.seconds[PLAIN] * GAIN
        for way in self.ways.values():
            if size not in way.sizes:
                continue
            try:
                run = way.build(size)
                apart = float((self.answer(run(images)) - expected).abs().max())
                choice.seconds[way.name] = self.clock(run, images)
            except Exception as error:  # compilers fail in many ways, and none may cost the tagger
                choice.left[way.name] = reason(error)
                if isinstance(error, torch.OutOfMemoryError):
                    self._short.add(size)
                continue
            if self.tolerance is not None and not apart <= self.tolerance:
                choice.left[way.name] = f"answers otherwise by {apart:.2g}"
            elif choice.seconds[way.name] > best:
                choice.left[way.name] = "not quicker"
            else:
                best, choice.way, self.built[size] = choice.seconds[way.name], way.name, run
        return choice


def filled(images: Tensor, size: int) -> Tensor:
    """[B, ...] -> [size, ...]: the last picture again and again, in the order in memory that ways were built for."""
    last = torch.channels_last if images.ndim == 4 else torch.contiguous_format
    return torch.cat([images, images[-1:].expand(size - len(images), *images.shape[1:])]).contiguous(memory_format=last)


def reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:200]


def kept(folder: Path) -> dict[str, dict[int, Choice]]:
    """What was found on each machine; nothing where the file is missing or not as it should be."""
    try:
        found = json.loads((folder / FILE).read_text("utf-8"))
        choices = {key: {int(size): Choice(**one) for size, one in sizes.items()} for key, sizes in found.items()}
        return {
            key: {size: one for size, one in sizes.items() if {PLAIN, one.way} <= one.seconds.keys()}
            for key, sizes in choices.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def keep(folder: Path, key: str, choices: dict[int, Choice]) -> None:
    """Writes it beside other machines'; a folder that can't be written is measured again at the next load."""
    everything: dict[str, Any] = {
        machine: {str(size): vars(choice) for size, choice in found.items()}
        for machine, found in {**kept(folder), key: choices}.items()
    }
    temporary = folder / f".{FILE}.{os.getpid()}"
    try:
        temporary.write_text(json.dumps(everything, indent=1) + "\n", "utf-8")
        temporary.replace(folder / FILE)
    except OSError as error:
        logger.info("How quick %s is can't be kept: %s", folder.name, error)


def on_cuda(
    plain: Run,
    answer: Run,
    *,
    device: torch.device,
    dtype: torch.dtype,
    side: int,
    folder: Path,
    exact: bool,
) -> Quickest:
    """For a model's `plain` way on a GPU, in this precision; `answer` gives the logits."""

    def example(size: int) -> Tensor:
        generator = torch.Generator().manual_seed(size)
        images = torch.rand(size, 3, side, side, generator=generator).to(device, dtype)
        return images.contiguous(memory_format=torch.channels_last)

    return Quickest(
        plain,
        [
            Way("graph", lambda size: graph(plain, example(size)), early=True),
            Way("compiled", compiled(plain), COMPILED_SIZES),
        ],
        example=example,
        answer=answer,
        tolerance=TOLERANCE if exact else None,
        folder=folder,
        key=f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {str(dtype).removeprefix('torch.')}",
        clock=cuda_seconds,
    )


def graph(plain: Run, images: Tensor) -> Run:
    """All kernels of one batch started at once, from fixed memory."""
    stream = torch.cuda.Stream(images.device)
    stream.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(stream):  # libraries choose their kernels before the recording
        for _ in range(WARM_UP):
            plain(images)
    torch.cuda.current_stream(images.device).wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    # Other threads may allocate meanwhile. Without a stream of its device it would record nothing on a second card.
    with torch.cuda.graph(recorded, stream=stream, capture_error_mode="thread_local"):
        found = plain(images)

    def run(given: Tensor) -> Tensor:
        images.copy_(given)
        recorded.replay()
        return found.clone()

    return run


def compiled(plain: Run) -> Callable[[int], Run]:
    """torch's compiler, once for each size. It needs a C++ compiler and Triton; without them building raises."""
    return lambda size: torch.compile(plain, dynamic=False)


def cuda_seconds(run: Run, images: Tensor) -> float:
    """Best of several, the device's work waited for."""
    for _ in range(WARM_UP):
        run(images)
    best = float("inf")
    for _ in range(TIMED):
        torch.cuda.synchronize(images.device)
        began = time.perf_counter()
        run(images)
        torch.cuda.synchronize(images.device)
        best = min(best, time.perf_counter() - began)
    return best
