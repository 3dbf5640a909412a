"""Long-running children that never outlive the process that started them. Standard library only."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gallery.launch.dotenv import ROOT

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
# A child that lived this long was well: its next death is the first again.
_WELL_AFTER_SECONDS = 60
_LONGEST_PAUSE_SECONDS = 60


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask Linux to send this process a signal when its parent ends, even by kill -9.

    The signal comes when the *thread* that started it ends, so start children from the main thread.
    """
    if _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))


def dies_with_us(number: int = signal.SIGTERM) -> Callable[[], None]:
    """What a child runs before its program (`preexec_fn`), so that it gets this signal when we end."""
    launcher = os.getpid()

    def in_the_child() -> None:
        die_with_parent(number)
        if os.getppid() != launcher:  # it died before Linux was asked
            os._exit(1)

    return in_the_child


def spawn(argv: list[str], log: Path | None, stop_signal: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A child in a session of its own that gets `stop_signal` when this process dies; call it from the main thread.

    Without a log it writes where we do.
    """
    with log.open("ab") if log else nullcontext() as file:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            preexec_fn=dies_with_us(stop_signal),
            start_new_session=True,
        )


def last_line(log: Path | None) -> str:
    """The last words of a log, for a sentence about a child that died."""
    if log is None:
        return "see above"
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text("utf-8", "replace")[-4000:].splitlines()]
        return next((line for line in reversed(lines) if line), "no words")
    return "no words"


@dataclass
class Service:
    """One child: how to start it, and how it fares."""

    name: str
    argv: list[str]
    log: Path | None
    stop_signal: int = signal.SIGTERM
    environment: dict[str, str] | None = None
    extra: dict[str, str] = field(default_factory=dict)  # beside what this process has
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    start_again_at: float = 0.0

    def start(self) -> None:
        environment = {**os.environ, **self.extra} if self.environment is None else self.environment
        self.process = spawn(self.argv, self.log, self.stop_signal, environment)
        self.started_at = time.monotonic()

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self) -> None:
        """Ask it to stop."""
        if self.process and self.process.poll() is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(self.stop_signal)

    def kill(self) -> None:
        """End it and its own children; its session is its process group."""
        if self.process:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self, seconds: float) -> None:
        """Ask, wait, then end what is left."""
        self.signal()
        if self.process:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(max(0.1, seconds))
            self.kill()

    def supervise(self, say: Callable[[str], None]) -> None:
        """Start it again if it died, after a pause that doubles with each death; call it often."""
        if self.is_running():
            return
        now = time.monotonic()
        if not self.start_again_at:
            code = self.process.returncode if self.process else None
            self.deaths = 1 if now - self.started_at > _WELL_AFTER_SECONDS else self.deaths + 1
            pause = min(2 ** (self.deaths - 1), _LONGEST_PAUSE_SECONDS)
            self.start_again_at = now + pause
            say(f"The {self.name} ended (code {code}: {last_line(self.log)}); it starts again in {pause} s.")
            self.kill()
        elif now >= self.start_again_at:
            self.start_again_at = 0.0
            self.start()
