"""The real site as a child of the tests: `manage.py up` on a data folder of its own."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gallery.launch.dotenv import ROOT
from gallery.launch.processes import dies_with_us

START_SECONDS = 180


def eventually(what: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether this comes true in time; it is asked ten times a second."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not what():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.1)
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(data: Path, **settings: str) -> dict[str, str]:
    """The tests' environment without their servers: what a person's shell would give."""
    own = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}
    own.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
    return {**own, "MANABOORU_DATA": str(data), "MANABOORU_ENV_FILE": str(data.parent / "no.env"), **settings}


@dataclass
class Site:
    """A running site: where it answers, the link for its first admin, and its data folder."""

    process: subprocess.Popen[str]
    data: Path
    settings: dict[str, str]
    lines: queue.Queue[str]
    said: list[str] = field(default_factory=list)
    address: str = ""
    admin_link: str = ""

    def wait_for(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """The next line said that matches; fails with all that was said."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self.lines.get(timeout=min(left, 1))
            except queue.Empty:
                if self.process.poll() is not None and self.lines.empty():
                    break
                continue
            self.said.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"the site never said {pattern!r}; it said:\n{''.join(self.said)}")

    def manage(self, *words: str) -> str:
        """Run a manage.py command against this site; what it printed."""
        command = [sys.executable, str(ROOT / "manage.py"), *words]
        result = subprocess.run(command, env=self.settings, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def launch(data: Path, *words: str, port: int = 0, **settings: str) -> Site:
    """Begin `manage.py up` without waiting for it."""
    command = [sys.executable, str(ROOT / "manage.py"), "up", "--port", str(port or free_port()), *words]
    own = environment(data, **settings)
    process = subprocess.Popen(
        command,
        env=own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=dies_with_us(signal.SIGTERM),
    )
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True).start()
    return Site(process, data, own, lines)


def start(data: Path, *words: str, port: int = 0, **settings: str) -> Site:
    """A site that answers."""
    site = launch(data, *words, port=port, **settings)
    try:
        site.address = site.wait_for(r"Manabooru runs at (http\S+)/  ")[1]
        site.wait_for(r"Logs are in")
    except BaseException:
        site.stop()
        raise
    links = [found[1] for line in site.said if (found := re.search(r"first admin, open\s+(http\S+)", line))]
    site.admin_link = links[0] if links else ""
    return site
