"""`manage.py up`: everything that a site needs, as children of one process; Ctrl-C ends them all.

Three kinds of Celery workers: exports, downloads and other long work (`long`) keep neither an upload waiting
for its tags (`tagging`) nor what is looked after every half minute (`default`), and only `tagging` holds models.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import FrameType

from gallery.launch import bootstrap, dotenv, embedded, tagging
from gallery.launch.processes import Service, dies_with_us, last_line
from gallery.launch.tagging import celery, worker

ANSWER_SECONDS = 120
STOP_SECONDS = 12
LOG_BYTES = 10 * 1024 * 1024
MARK_SECONDS = 6 * 3600


class LaunchError(Exception):
    """A sentence for the person who starts the site, with the remedy."""


class _Stop(BaseException):
    """Raised by the signal handler, wherever the launcher is."""


def say(text: str) -> None:
    with suppress(BrokenPipeError, ValueError):  # the terminal may be gone; the site goes on
        print(text, flush=True)


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="manage.py up", description="Start the whole site; Ctrl-C stops it.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; 0.0.0.0 for the whole network")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--demo", action="store_true", help="put the seed gallery into an empty site")
    return parser.parse_args(words)


def check_port(host: str, port: int) -> None:
    """Raise LaunchError if the web server could not listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except PermissionError:
        raise LaunchError(f"Port {port} needs root: choose one above 1023, such as --port 8000.") from None
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == 98:
            message = f"Port {port} on {host} is taken by another program: stop that, or add --port {port + 1}."
        else:
            message = f"This machine can't listen at {host} port {port} ({error}): choose another --host or --port."
        raise LaunchError(message) from None


def web_server(host: str, port: int) -> list[str]:
    workers = min(4, max(1, (os.cpu_count() or 1) // 2))
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws", "--host", host, "--port", str(port)]
    command += ["--workers", str(workers), "--blocking-threads", "6", "--backlog", "1024"]
    return [*command, "--respawn-failed-workers", "--workers-kill-timeout", "5", "gallery.wsgi:application"]


class Launcher:
    """One running site: servers, web, workers, beat."""

    def __init__(self, host: str, port: int, demo: bool) -> None:
        self.host, self.port, self.demo = host, port, demo
        self.data = dotenv.data_folder()
        self.logs = self.data / "logs"
        self.servers: embedded.Servers | None = None
        self.services: list[Service] = []
        self.hurry = self.stopping = False

    @property
    def address(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"

    def run(self) -> None:
        """Start everything, watch it, and end it all however this ends."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._start()
            self._watch()
        except _Stop:
            say("Stopping ...")
        finally:
            self.stopping = True
            self.stop()
        say("Stopped; the next start finds everything as it is.")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            self.hurry = True
        else:
            self.stopping = True
            raise _Stop

    def _start(self) -> None:
        began = time.monotonic()
        self._start_servers()
        link = self._prepare()
        self._make_services()
        self.services[0].start()
        self._await_page()  # alone on the processor, so that people can look while the workers start
        for service in self.services[1:]:
            service.start()
        if self.servers:
            self.servers.announce(self.address)
        say(f"\nManabooru runs at {self.address}/  (started in {time.monotonic() - began:.1f} s)")
        if link:
            say(f"Nobody looks after it yet. To become its first admin, open  {link}")
        say(f"Logs are in {self.logs}. Ctrl-C stops everything.")

    def _start_servers(self) -> None:
        address = embedded.announced(self.data).get("address")
        if address and is_running(self.data):
            raise LaunchError(
                f"Manabooru already runs at {address}/ on the data folder {self.data}: "
                "stop it first (Ctrl-C where it runs), or set MANABOORU_DATA to another folder."
            )
        check_port(self.host, self.port)
        say(f"Starting the database; the data folder is {self.data}.")
        self.servers = start_missing_servers(self.data)
        os.environ.update(self.servers.environment(), MANABOORU_LAUNCHED="1")
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))

    def _prepare(self) -> str:
        """Bring tables and starter into place in a process of its own; returns the first admin's link or ''."""
        assert self.servers
        path = self.servers.sockets / "first-admin"
        command = [sys.executable, str(dotenv.ROOT / "manage.py"), "prepare", "--address", self.address]
        command += ["--link-file", str(path), *(["--demo"] if self.demo else [])]
        prepare = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=dotenv.ROOT, preexec_fn=dies_with_us())
        if prepare.returncode:
            raise LaunchError("The site could not be prepared: the reason is in the lines above.")
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    def _make_services(self) -> None:
        """What runs beside the servers, the web server first."""
        assert self.servers
        beat = celery("beat", "--schedule", str(self.servers.sockets / "beat"), "--loglevel", "WARNING")
        own = (
            ("default worker", worker("default", 2)),
            ("long worker", worker("long", 4)),
            ("beat", beat),
        )
        self.services = [
            Service("web server", web_server(self.host, self.port), self.logs / "web.log"),
            *tagging.services(self.logs),
            *(Service(name, argv, self.logs / f"{name.split()[0]}.log") for name, argv in own),
        ]

    def _await_page(self) -> None:
        web, deadline = self.services[0], time.monotonic() + ANSWER_SECONDS
        while not answers(f"{self.address}/health/"):
            if not web.is_running() or time.monotonic() > deadline:
                raise LaunchError(f"The web server did not answer ({last_line(web.log)}): see {web.log}.")
            time.sleep(0.1)

    def _watch(self) -> None:
        """Start again what dies, the embedded servers too: they keep their sockets."""
        embedded_services = self.servers.services if self.servers else []
        marked = -math.inf
        while True:
            if time.monotonic() - marked > MARK_SECONDS:
                marked = time.monotonic()
                bootstrap.mark_used()
            for service in (*embedded_services, *self.services):
                service.supervise(say)
            time.sleep(0.5)

    def stop(self) -> None:
        """End all: first what uses the servers, a second Ctrl-C without waiting, then the servers."""
        for service in self.services:
            service.signal()
        deadline = time.monotonic() + STOP_SECONDS
        while any(service.is_running() for service in self.services) and time.monotonic() < deadline and not self.hurry:
            time.sleep(0.05)
        for service in self.services:
            service.kill()
        if self.servers:
            self.servers.stop()


def answers(url: str) -> bool:
    """Whether a web server says anything but that it is broken."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def is_running(data: Path) -> bool:
    """Whether a living process holds the data folder."""
    if not data.is_dir():
        return False
    descriptor = embedded.try_lock(data)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def start_missing_servers(data: Path) -> embedded.Servers:
    """The embedded servers that the environment names no address for."""
    postgres, redis = (not os.environ.get(name) for name in ("DATABASE_URL", "REDIS_URL"))
    return embedded.start(data, postgres=postgres, redis=redis)


def up(words: list[str]) -> None:
    """Run the site until Ctrl-C; exits with a sentence when it can't."""
    options = arguments(words)
    try:
        Launcher(options.host, options.port, options.demo).run()
    except (embedded.EmbeddedError, LaunchError) as error:
        sys.exit(str(error))
