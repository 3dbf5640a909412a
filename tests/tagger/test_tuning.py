"""What runs a model on a GPU is chosen by measuring; here with functions and a clock of the test's own."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tagger import tuning
from tagger.inference import Predictor
from tagger.tuning import PLAIN, SIZES, Quickest, Way
from tests.tagger import releases
from tests.tagger.card import Card
from tests.tagger.test_inference import pictures


class Machine:
    """Functions that count their calls and a clock that knows how long each takes a picture."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[object, Callable[[int], float]] = {self.plain: lambda size: 0.010 + 0.001 * size}
        self.built: list[tuple[str, int]] = []
        self.ran: list[tuple[str, int]] = []
        self.timed = 0

    def plain(self, images: Tensor) -> Tensor:
        self.ran.append((PLAIN, len(images)))
        return images * 2

    def double(self, images: Tensor) -> Tensor:
        return images * 2

    def way(self, name: str, seconds: Callable[[int], float], apart: float = 0, sizes: Sequence[int] = SIZES) -> Way:
        def run(images: Tensor) -> Tensor:
            self.ran.append((name, len(images)))
            return images * 2 + apart

        def build(size: int) -> Callable[[Tensor], Tensor]:
            self.built.append((name, size))
            return run

        self.seconds[run] = seconds
        return Way(name, build, sizes)

    def clock(self, run: Callable[[Tensor], Tensor], images: Tensor) -> float:
        self.timed += 1
        return self.seconds[run](len(images))

    def quickest(self, *ways: Way, tolerance: float | None = 1e-3, key: str = "a card") -> Quickest:
        return Quickest(
            self.plain,
            ways,
            example=lambda size: torch.ones(size, 3),
            answer=lambda found: found * 1,
            tolerance=tolerance,
            folder=self.folder,
            key=key,
            clock=self.clock,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_each_batch_goes_the_way_that_was_quickest_for_its_size(machine: Machine) -> None:
    graph = machine.way("graph", lambda size: 0.004 + 0.001 * size)
    compiled = machine.way("compiled", lambda size: 0.0006 * size, sizes=(8, 32))
    quickest = machine.quickest(graph, compiled)
    assert {size: choice.way for size, choice in quickest.choices.items()} == {
        **dict.fromkeys((1, 2, 4, 16), "graph"),
        **dict.fromkeys((8, 32), "compiled"),
    }
    assert quickest.title() == "compiled, graph"
    machine.ran.clear()
    for count in (1, 8, 40):
        images = torch.rand(count, 3)
        torch.testing.assert_close(quickest(images), images * 2)
    assert machine.ran == [("graph", 1), ("compiled", 8), (PLAIN, 40)]


def test_a_batch_is_filled_up_only_where_that_is_quicker(machine: Machine) -> None:
    quickest = machine.quickest(machine.way("graph", lambda size: 0.001 + 0.0008 * size))
    machine.ran.clear()
    images = torch.rand(7, 3)
    torch.testing.assert_close(quickest(images), images * 2)
    images = torch.rand(17, 3)  # of 32: nearly half would be computed for nothing
    torch.testing.assert_close(quickest(images), images * 2)
    assert machine.ran == [("graph", 8), (PLAIN, 17)]


def test_a_filled_batch_lies_in_memory_as_a_full_one() -> None:
    """Compiled functions are of one order in memory and would be compiled again for another."""
    images = torch.rand(3, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    whole = tuning.filled(images, 8)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(whole, images[[0, 1, 2, 2, 2, 2, 2, 2]])


def test_what_is_hardly_quicker_is_left(machine: Machine) -> None:
    quickest = machine.quickest(machine.way("graph", lambda size: 0.97 * (0.010 + 0.001 * size)))
    assert all(choice.way == PLAIN for choice in quickest.choices.values())
    assert quickest.choices[1].left == {"graph": "not quicker"}
    assert quickest.title() == ""


def test_exact_mode_takes_no_way_that_answers_otherwise(machine: Machine) -> None:
    def near() -> Way:
        return machine.way("compiled", lambda size: 1e-4, apart=0.002)

    exact = machine.quickest(near())
    assert all(choice.way == PLAIN for choice in exact.choices.values())
    assert "answers otherwise by 0.002" in exact.choices[4].left["compiled"]
    nan = machine.quickest(machine.way("compiled", lambda size: 1e-4, apart=float("nan")), key="another card")
    assert all(choice.way == PLAIN for choice in nan.choices.values())
    fast = machine.quickest(near(), tolerance=None, key="in half precision")
    assert all(choice.way == "compiled" for choice in fast.choices.values())


def test_a_way_that_can_t_be_built_costs_nothing(machine: Machine) -> None:
    """This machine's own compiler is asked for something impossible."""

    def build(size: int) -> Callable[[Tensor], Tensor]:
        return torch.compile(lambda images: images * 2, backend="no such compiler")

    quickest = machine.quickest(Way("compiled", build), machine.way("graph", lambda size: 1e-4))
    assert all(choice.way == "graph" for choice in quickest.choices.values())
    assert "no such compiler" in quickest.choices[1].left["compiled"]


def test_what_fails_later_is_left_and_the_batch_still_answered(machine: Machine) -> None:
    calls = []

    def build(size: int) -> Callable[[Tensor], Tensor]:
        def run(images: Tensor) -> Tensor:
            calls.append(len(images))
            if len(calls) > len(SIZES):
                raise RuntimeError("the recording is broken")
            return images * 2

        machine.seconds[run] = lambda size: 1e-4
        return run

    quickest = machine.quickest(Way("graph", build))
    images = torch.rand(3, 3)
    for _ in range(2):
        torch.testing.assert_close(quickest(images), images * 2)
    assert len(calls) == len(SIZES) + 1
    assert quickest.choices[4].way == PLAIN
    assert "the recording is broken" in quickest.choices[4].left["graph"]
    assert quickest.choices[8].way == "graph"


def test_memory_that_runs_out_is_the_batcher_s_to_handle(machine: Machine) -> None:
    full = []

    def build(size: int) -> Callable[[Tensor], Tensor]:
        def run(images: Tensor) -> Tensor:
            if full:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return images * 2

        machine.seconds[run] = lambda size: 1e-4
        return run

    quickest = machine.quickest(Way("graph", build))
    full.append(True)
    with pytest.raises(torch.OutOfMemoryError):
        quickest(torch.rand(2, 3))
    assert quickest.choices[2].way == "graph"


def test_the_outcome_is_kept_for_this_machine_alone(machine: Machine) -> None:
    machine.quickest(machine.way("graph", lambda size: 1e-4))
    measured, machine.built = machine.timed, []
    again = machine.quickest(machine.way("graph", lambda size: 1e-4))
    assert (machine.timed, machine.built) == (measured, [])  # nothing is timed, and nothing built before its use
    again(torch.rand(2, 3))
    again(torch.rand(2, 3))
    assert machine.built == [("graph", 2)]
    machine.quickest(machine.way("graph", lambda size: 1e-4), key="another card")
    assert machine.timed == 2 * measured
    assert set(tuning.kept(machine.folder)) == {"a card", "another card"}
    (machine.folder / "speed.json").write_text('{"a card": {"1": {"road": "graph"}}}')
    machine.quickest(machine.way("graph", lambda size: 1e-4))
    assert machine.timed == 3 * measured
    for lacking in ('{"plain": 0.1}', "{}"):
        (machine.folder / "speed.json").write_text(f'{{"a card": {{"1": {{"way": "graph", "seconds": {lacking}}}}}}}')
        assert tuning.kept(machine.folder) == {"a card": {}}


def test_graphs_are_recorded_at_the_load_and_never_stopped_by_other_threads(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card()
    card.use(monkeypatch)

    def recorded() -> Way:
        def build(size: int) -> Callable[[Tensor], Tensor]:
            run = tuning.graph(machine.plain, torch.ones(size, 3))
            machine.seconds[run] = lambda size: 1e-4
            return run

        return Way("graph", build, early=True)

    machine.quickest(recorded())
    assert card.modes == ["thread_local"] * len(SIZES)
    assert set(card.devices) == {torch.device("cpu")}  # that of the pictures, not the first card
    again = machine.quickest(recorded())
    assert card.modes == ["thread_local"] * 2 * len(SIZES)
    again(torch.ones(3, 3))
    assert len(card.modes) == 2 * len(SIZES)
    broken = machine.quickest(Way("graph", lambda size: 1 // 0, early=True))
    assert {choice.way for choice in broken.choices.values()} == {PLAIN}
    torch.testing.assert_close(broken(torch.ones(3, 3)), torch.full((3, 3), 2.0))


def test_a_size_that_ran_out_of_memory_is_measured_again_at_the_next_load(machine: Machine) -> None:
    full = [True]

    def build(size: int) -> Callable[[Tensor], Tensor]:
        if full and size == 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        machine.seconds[machine.double] = lambda size: 1e-4
        return machine.double

    first = machine.quickest(Way("graph", build))
    assert first.choices[32].way == PLAIN
    assert "out of memory" in first.choices[32].left["graph"]
    assert set(tuning.kept(machine.folder)["a card"]) == set(SIZES) - {32}
    full.clear()
    measured = machine.timed
    assert machine.quickest(Way("graph", build)).choices[32].way == "graph"
    assert machine.timed == measured + 2
    assert set(tuning.kept(machine.folder)["a card"]) == set(SIZES)


def test_a_folder_that_can_t_be_written_is_measured_each_time(machine: Machine) -> None:
    machine.folder = machine.folder / "gone"
    for _ in range(2):
        assert machine.quickest(machine.way("graph", lambda size: 1e-4)).choices[1].way == "graph"
    assert machine.timed == 2 * 2 * len(SIZES)


def test_an_engine_answers_the_same_by_another_way(tmp_path: Path) -> None:
    """As on a GPU, on the processor: the features by the tuner, all else as ever."""
    releases.write(tmp_path / "one")
    predictor = Predictor(tmp_path / "one", "cpu")
    engine, machine = predictor.engine, Machine(tmp_path)
    assert engine.quickest is None
    pixels = np.stack([predictor.prepare(image) for image in pictures(3)])
    expected = predictor.confidences(pixels)
    used = []

    def build(size: int) -> Callable[[Tensor], Tensor]:
        def run(images: Tensor) -> Tensor:
            used.append(len(images))
            return engine.model.features(images)

        machine.seconds[run] = lambda size: 1e-4
        return run

    side = predictor.release.preprocess.size
    machine.seconds[engine.model.features] = lambda size: 1.0
    with torch.inference_mode():
        engine.quickest = Quickest(
            engine.model.features,
            [Way("graph", build)],
            example=lambda size: torch.rand(size, 3, side, side),
            answer=engine.model.initial,
            tolerance=1e-3,
            folder=tmp_path / "one",
            key="a card",
            clock=machine.clock,
        )
    used.clear()
    np.testing.assert_allclose(predictor.confidences(pixels), expected, atol=1e-5)
    assert used == [4]
    assert Predictor(tmp_path / "one", "cpu").release.name == "one"  # the kept file does not disturb the release


def test_an_engine_asks_the_card_and_keeps_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Card().use(monkeypatch)
    monkeypatch.setattr(tuning, "COMPILED_SIZES", ())
    releases.write(tmp_path / "one")
    engine = Predictor(tmp_path / "one", "cpu").engine
    assert set(engine._quickest(exact=True).choices) == set(SIZES)
    assert list(tuning.kept(tmp_path / "one")) == [f"a card, torch {torch.__version__}, float32"]
