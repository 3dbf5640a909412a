"""Which workers live, and what each holds in memory: each says so every few seconds into the cache.

A word that is not said again is forgotten within seconds, so that a dead worker is missed whatever others do.
Memory is measured in the process itself: its proportional set size, in which pages that several workers share
count by share.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.core.cache import cache

MOST = 64  # places in the cache, one a worker
EVERY_SECONDS = 5
FORGOTTEN_SECONDS = 4 * EVERY_SECONDS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """The model that a worker has loaded."""

    release_id: int
    stage: str
    mode: str
    engine: str  # as the engine calls itself, such as "torch fp32"


@dataclass(frozen=True)
class Worker:
    """What a worker said of itself; memory in bytes. `held` is None while no model is loaded."""

    name: str
    pid: int
    queues: list[str]
    memory: int
    device_memory: int
    held: Held | None
    at: float
    claims: list[float] = field(default_factory=list)  # when it claimed the posts that it is at


_ending = threading.Event()
_telling = threading.Lock()
_name = ""
_queues: list[str] = []
_place: int | None = None
_look: Callable[[], Held | None] | None = None
_claims: Callable[[], list[float]] = list


def begin(
    name: str, queues: list[str], look: Callable[[], Held | None], claims: Callable[[], list[float]] = list
) -> None:
    """Speak for this process from now on; `look` tells what model it holds, `claims` which posts it is at."""
    global _name, _queues, _look, _claims
    _name, _queues, _look, _claims = name, queues, look, claims
    _ending.clear()
    threading.Thread(target=_go_on, name="telling", daemon=True).start()


def end() -> None:
    """This worker is gone."""
    global _place
    _ending.set()
    with _telling:
        if _place is not None:
            cache.delete(_key(_place))
            _place = None


def tell() -> None:
    """Say now what is held, as something has just changed. Nothing where `begin` was not called."""
    if _name and not _ending.is_set():
        with _telling:
            _tell()


def alive(queue: str = "tagging") -> list[Worker]:
    """The workers of a queue that live, by name; none when the cache is down."""
    try:
        said = cache.get_many(_key(place) for place in range(MOST))
    except Exception as error:
        logger.warning("The workers can't be asked for: %s", error)
        return []
    found = [_read(one) for one in said.values() if queue in one["queues"]]
    return sorted(found, key=lambda worker: (worker.name, worker.pid))


def memory() -> int:
    """Bytes of this process."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
    except (OSError, StopIteration):  # no Linux, or an old one: the most that it ever had
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_memory() -> int:
    """Bytes that torch holds on this process's GPUs."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.memory_reserved(number) for number in range(torch.cuda.device_count()))


def _go_on() -> None:
    while not _ending.is_set():
        tell()
        _ending.wait(EVERY_SECONDS)


def _tell() -> None:
    """Write into our place, or take a free one: the first time, and when we were silent so long that it went."""
    global _place
    said = asdict(
        Worker(
            _name, os.getpid(), _queues, memory(), device_memory(), _look() if _look else None, time.time(), _claims()
        )
    )
    try:
        if _place is not None and _is_ours(cache.get(_key(_place))):
            cache.set(_key(_place), said, FORGOTTEN_SECONDS)
        else:
            _place = next((n for n in range(MOST) if cache.add(_key(n), said, FORGOTTEN_SECONDS)), None)
    except Exception as error:  # a cache that is down must not end the worker
        logger.warning("The worker could not say that it lives: %s", error)


def _is_ours(said: dict[str, Any] | None) -> bool:
    return said is not None and (said["name"], said["pid"]) == (_name, os.getpid())


def _read(said: dict[str, Any]) -> Worker:
    return Worker(**{**said, "held": Held(**said["held"]) if said["held"] else None})


def _key(place: int) -> str:
    return f"worker:{place}"
