"""How many pictures go through the model at once: what memory holds, no more than a moment's work.

The limit is found when the model is loaded, halved when memory runs out, and grown again when that has passed.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tagger.inference import Prediction, Predictor
from tagger.memory import free_memory

logger = logging.getLogger(__name__)

MOMENT = 0.5  # seconds of work in a batch: whoever uploads waits for the batches under way
FIRST = 4  # pictures in a batch before the speed is known
CPU_LIMIT = 64
CUDA_LIMIT = 128
CUDA_SHARE = 0.8  # of the free memory: fragments and other programs take the rest
GOOD_BATCHES = 16  # after so many without trouble a halved limit is doubled
_NO_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate memory", "bad_alloc", "bad allocation")


class Batcher:
    """Runs a predictor in batches that fit. `busy_seconds` is the time that the model was at work.

    Not for several threads at once.
    """

    def __init__(self, predictor: Predictor, most: int = 0) -> None:
        """`most` is the greatest limit, 0 for what memory holds."""
        self.predictor = predictor
        found = memory_limit(predictor)
        self.most = self.limit = predictor.batch_size = max(1, min(most or found, found))
        self.busy_seconds = 0.0
        self._seconds_a_picture: float | None = None
        self._good = 0

    def size(self) -> int:
        """How many pictures the next batch should have."""
        if self._seconds_a_picture is None:
            return min(self.limit, FIRST)
        return max(1, min(self.limit, int(MOMENT / self._seconds_a_picture)))

    def predict(self, arrays: Sequence[np.ndarray]) -> list[Prediction]:
        """As `predict_prepared`. MemoryError or the device's own error when one picture alone is too much."""
        began, predictions = time.perf_counter(), []
        try:
            while len(predictions) < len(arrays):
                predictions += self._pass(arrays[len(predictions) :][: self.limit])
        finally:
            spent = time.perf_counter() - began
            self.busy_seconds += spent
        if arrays:
            self._learn(spent / len(arrays))
        return predictions

    def _pass(self, arrays: Sequence[np.ndarray]) -> list[Prediction]:
        """One pass of the model, or nothing after halving the limit."""
        try:
            predictions = self.predictor.predict_prepared(arrays)
        except Exception as error:
            if not is_out_of_memory(error) or len(arrays) == 1:
                raise
            self._set_limit(len(arrays) // 2)
            self._good = 0
            logger.warning("Memory ran out with %d pictures at once: going on with %d", len(arrays), self.limit)
        else:
            self._grow()
            return predictions
        free_memory()  # outside the handler: the error's traceback holds what the pass had allocated
        return []

    def _grow(self) -> None:
        if self.limit < self.most:
            self._good += 1
            if self._good >= GOOD_BATCHES:
                self._good = 0
                self._set_limit(min(self.most, 2 * self.limit))

    def _set_limit(self, limit: int) -> None:
        self.limit = self.predictor.batch_size = limit

    def _learn(self, seconds_a_picture: float) -> None:
        before = self._seconds_a_picture
        self._seconds_a_picture = seconds_a_picture if before is None else 0.7 * before + 0.3 * seconds_a_picture


def memory_limit(predictor: Predictor) -> int:
    """Pictures that one pass can hold: on a CPU the engine's own small number, on CUDA by free memory."""
    engine = predictor.engine
    device = getattr(engine, "device", "cpu")
    if getattr(device, "type", device) != "cuda":
        return min(CPU_LIMIT, engine.batch_size)
    if getattr(engine, "model", None) is None:  # onnxruntime does not say what a pass takes
        return min(CUDA_LIMIT, engine.batch_size)
    try:
        return cuda_limit(engine, predictor.release.preprocess.size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return 1


def cuda_limit(engine: Any, size: int) -> int:
    """Measured with blank pictures: what four take more than two, twice over, against what is free.

    Without CUDA graphs, which hold their memory already and would seem to take none.
    """
    import torch

    def peak(count: int) -> int:
        torch.cuda.reset_peak_memory_stats(engine.device)
        engine.scores(np.zeros((count, 3, size, size), np.float32))
        return torch.cuda.max_memory_allocated(engine.device)

    quickest = getattr(engine, "quickest", None)
    if quickest is not None:
        engine.quickest = None
    try:
        two, four = peak(2), peak(4)
    finally:
        if quickest is not None:
            engine.quickest = quickest
    each = max(1, (four - two) // 2)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(engine.device)
    return max(1, min(CUDA_LIMIT, int(free * CUDA_SHARE / each)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether numpy, torch, onnxruntime or CUDA said that memory is short."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error).lower() for words in _NO_MEMORY)
