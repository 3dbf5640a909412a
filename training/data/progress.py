"""Lines on the console while a long pass goes, and the time and memory that it took."""

import resource
import sys
import time
from pathlib import Path

EVERY_SECONDS = 5.0


class Progress:
    """`at` says how far a pass is, every few seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.started = self.said = time.monotonic()

    def at(self, done: int) -> None:
        now = time.monotonic()
        if now - self.said < EVERY_SECONDS:
            return
        self.said = now
        speed = done / max(now - self.started, 1e-9)
        whole = f" of {self.total:,}" if self.total else ""
        left = f", about {(self.total - done) / max(speed, 1e-9) / 60:.1f} min left" if self.total else ""
        say(f"{self.what}: {done:,}{whole}, {speed:,.0f} a second{left}")


def peak_memory() -> int:
    """The most memory this process has used since it started, bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's figure begins at what the process that started this one used
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
