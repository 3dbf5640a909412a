"""How many processes tag, and what each gets to itself: a GPU, or its part of the processor's cores.

`python -m gallery.launch.tagging` runs them, and starts again what dies; `manage.py up` does so itself.
Standard library only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gallery.launch import dotenv
from gallery.launch.processes import Service

QUEUE = "tagging"
STOP_SECONDS = 50  # a container is given a minute
_CGROUP = Path("/sys/fs/cgroup")  # where a container's limits stand
_MEMORY_EACH = 3 << 30  # bytes that a worker may want with a model of full size


def shares(environment: Mapping[str, str]) -> list[dict[str, str]]:
    """For each process that tags, what its environment has beside everybody's."""
    wanted = int(environment.get("TAGGER_PROCESSES") or 0)
    device = (environment.get("TAGGER_DEVICE") or "auto").lower()
    if device != "cpu" and (gpus := visible_gpus(environment)):
        return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(wanted or len(gpus))]
    number = wanted or default_number(cores(), free_memory())
    threads = environment.get("TAGGER_THREADS") or "0"
    if number > 1 and threads == "0":
        threads = str(max(1, cores() // number))
    return [{"TAGGER_THREADS": threads}] * number


def default_number(cores: int, memory: int) -> int:
    """On a processor one process a core, as far as memory goes: each has a model, whose pages they share in part."""
    return max(1, min(cores, memory // _MEMORY_EACH))


def cores() -> int:
    """Those that this process may use, which in a container may be fewer than the machine has."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return max(1, min(usable, round(int(quota) / int(period))))
    return usable


def free_memory() -> int:
    """Bytes that programs can still have, here or in the container; a generous guess where nobody says."""
    free = 8 << 30
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError):
        return min(free, int((_CGROUP / "memory.max").read_text(encoding="ascii")))
    return free


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """NVIDIA's cards by number, or those that CUDA_VISIBLE_DEVICES leaves; asked without loading torch."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name and name != "-1"]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        said = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = said.stdout.splitlines() if said.returncode == 0 else []
    return [str(number) for number, _ in enumerate(line for line in lines if line.startswith("GPU "))]


def worker(queue: str, threads: int, name: str = "") -> list[str]:
    """A Celery worker of one queue; the first of the tagging ones has the queue's own name."""
    quiet = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    words = ["worker", "-Q", queue, "-n", f"{name or queue}@%h", "--pool", "threads", "--concurrency", str(threads)]
    return celery(*words, *quiet)


def celery(*words: str) -> list[str]:
    return [sys.executable, "-m", "celery", "--quiet", "-A", "gallery", *words]


def services(logs: Path | None = None) -> list[Service]:
    """The tagging workers of this machine, not yet started; without a folder for logs they write where we do."""
    found = []
    for number, share in enumerate(shares(os.environ), 1):
        name = QUEUE if number == 1 else f"{QUEUE}-{number}"
        argv, title = worker(QUEUE, 1, name), "tagging worker" if number == 1 else f"tagging worker {number}"
        found.append(Service(title, argv, logs / f"{name}.log" if logs else None, extra=share))
    return found


def main() -> None:
    """Run the tagging workers until a signal ends them."""
    dotenv.read()
    running = services()
    for service in running:
        service.start()
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, frame: stopping.append(got))
    while not stopping:
        for service in running:
            service.supervise(lambda text: print(text, flush=True))
        time.sleep(0.5)
    for service in running:
        service.signal()
    deadline = time.monotonic() + STOP_SECONDS
    for service in running:
        service.stop(deadline - time.monotonic())


if __name__ == "__main__":
    main()
