"""What the tagger asks of a GPU, answered on the processor: no kernel is recorded, a replay leaves the last answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch


class Stream:
    def __init__(self, device: object = None) -> None:
        self.device = device

    def wait_stream(self, other: "Stream") -> None:
        """Nothing runs beside the caller."""


class Graph:
    def replay(self) -> None:
        """What was computed while recording stays."""


class Card:
    """`modes` are the error modes that were recorded with, `devices` the devices whose streams were."""

    def __init__(self) -> None:
        self.modes: list[str] = []
        self.devices: list[object] = []

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, found in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "current_stream": Stream,
            "stream": self.stream,
            "graph": self.graph,
            "synchronize": lambda device=None: None,
            "get_device_name": lambda device=None: "a card",
        }.items():
            monkeypatch.setattr(torch.cuda, name, found)

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        yield

    @contextmanager
    def graph(self, graph: Graph, **options: Any) -> Iterator[None]:
        self.modes.append(options.get("capture_error_mode", "global"))
        self.devices.append(options["stream"].device if "stream" in options else None)
        yield
