from pathlib import Path

import numpy as np
import pytest
import torch

from tagger import batching
from tagger.batching import Batcher
from tagger.inference import Predictor
from tests.tagger import releases


class SmallMachine:
    """A real engine on a machine whose memory holds `room` pictures at once."""

    def __init__(self, engine, room: int, error: Exception) -> None:
        self.engine, self.room, self.error = engine, room, error
        self.passes: list[int] = []
        self.activation = engine.activation

    def scores(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.passes.append(len(pixels))
        if len(pixels) > self.room:
            raise self.error
        return self.engine.scores(pixels)


class Card:
    """An engine that takes 3 bytes a picture by itself and none by a graph, and a GPU with 100 bytes free."""

    device, quickest, taken = "cuda", "graphs", 0

    def scores(self, pixels: np.ndarray) -> None:
        self.taken = 0 if self.quickest else 3 * len(pixels)


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    releases.write(tmp_path / "one")
    return Predictor(tmp_path / "one", "cpu", threads=1)


@pytest.fixture
def pixels() -> list[np.ndarray]:
    return list(np.random.default_rng(4).random((11, 3, 64, 64), np.float32))


def shrink(predictor: Predictor, room: int, error: Exception | None = None) -> SmallMachine:
    machine = SmallMachine(predictor.engine, room, error or MemoryError())
    predictor.engine = machine
    return machine


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")]
)
def test_a_batch_that_is_too_much_is_halved_and_loses_nothing(predictor, pixels, error):
    whole = predictor.predict_prepared(pixels)
    batcher = Batcher(predictor)
    machine = shrink(predictor, room=3, error=error)
    for found, expected in zip(batcher.predict(pixels), whole, strict=True):
        assert found.indices.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(found.confidences, expected.confidences, atol=1e-5)
    assert machine.passes == [11, 5, 2, 2, 2, 2, 2, 1]
    assert batcher.size() <= batcher.limit == 2


def test_the_limit_grows_again_when_memory_is_back(predictor, pixels):
    batcher = Batcher(predictor, most=8)
    machine = shrink(predictor, room=4)
    batcher.predict(pixels[:8])
    assert batcher.limit == 4
    machine.room = 99
    for _ in range(batching.GOOD_BATCHES):
        batcher.predict(pixels[:1])
    assert batcher.limit == batcher.most == 8
    machine.passes.clear()
    batcher.predict(pixels)
    assert machine.passes == [8, 3]


def test_one_picture_that_is_too_much_and_other_errors_are_raised(predictor, pixels):
    batcher = Batcher(predictor)
    shrink(predictor, room=0)
    with pytest.raises(MemoryError):
        batcher.predict(pixels)
    shrink(predictor, room=0, error=ValueError("something else"))
    batcher.limit = 4
    with pytest.raises(ValueError, match="something else"):
        batcher.predict(pixels)
    assert batcher.limit == 4


def test_batches_are_a_moments_work(predictor, pixels):
    batcher = Batcher(predictor, most=1000)
    assert batcher.most == min(batching.CPU_LIMIT, predictor.engine.batch_size)
    assert batcher.size() == batching.FIRST
    assert batcher.predict([]) == []
    batcher.predict(pixels)
    assert batcher.busy_seconds > 0
    for seconds, expected in ((10.0, 1), (batching.MOMENT / 5.5, 5), (1e-6, batcher.limit)):
        batcher._seconds_a_picture = seconds
        assert batcher.size() == expected


def test_memory_is_measured_without_what_graphs_hold_already(monkeypatch):
    card = Card()
    for name, found in {
        "reset_peak_memory_stats": lambda device: None,
        "max_memory_allocated": lambda device: card.taken,
        "empty_cache": lambda: None,
        "mem_get_info": lambda device: (100, 1000),
    }.items():
        monkeypatch.setattr(torch.cuda, name, found)
    assert batching.cuda_limit(card, 8) == 26
    assert card.quickest == "graphs"
