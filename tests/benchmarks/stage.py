"""What every benchmark stands on: servers of its own, CPU of a Postgres backend, and tables to print."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def start_django(keep: Path | None = None, before: Callable[[str], None] = lambda url: None) -> Path:
    """Start embedded servers with durability on, migrate, and return their folder: a temporary one, or that to `keep`.

    `before` is called with the database's address before the site connects to it.
    """
    from gallery.launch import embedded

    folder = keep or Path(tempfile.mkdtemp(prefix="manabooru-bench-"))
    if not keep:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    servers = embedded.start(folder / "servers")
    atexit.register(servers.stop)
    _forget_cached(servers.redis_url)
    before(servers.database_url)
    os.environ |= {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "MANABOORU_DATA": str(folder / "data"),
        "MANABOORU_ENV_FILE": str(folder / "no.env"),
        "DJANGO_SETTINGS_MODULE": "gallery.settings",
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    return folder


def _forget_cached(redis_url: str) -> None:
    """What an earlier run on a kept folder left in Redis."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()


def join_django() -> None:
    """Set Django up in a child of the process that called `start_django`."""
    import django

    django.setup()


def backend_pid() -> int:
    """The process of the database's that serves this thread."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return int(cursor.fetchone()[0])


class Meter:
    """CPU milliseconds of this process and of one Postgres backend, and wall time, of a piece of work.

    `queued_ms` is how long both were ready to run and no core was free.
    """

    def __init__(self, backend_pid: int | None = None) -> None:
        self._server = Path(f"/proc/{backend_pid}/schedstat") if backend_pid else None
        self._client = Path("/proc/self/schedstat")
        self.cpu_ms = self.wall_ms = self.queued_ms = 0.0

    def server_cpu(self) -> float:
        """Milliseconds that the backend has been on a CPU so far."""
        return _scheduled(self._server)[0]

    def _cpu(self) -> float:
        return time.process_time() * 1000 + self.server_cpu()

    def _queued(self) -> float:
        return _scheduled(self._client)[1] + _scheduled(self._server)[1]

    @contextmanager
    def measure(self) -> Iterator[None]:
        queued, cpu, wall = self._queued(), self._cpu(), time.perf_counter()
        try:
            yield
        finally:
            self.wall_ms = (time.perf_counter() - wall) * 1000
            self.cpu_ms, self.queued_ms = self._cpu() - cpu, self._queued() - queued


def _scheduled(file: Path | None) -> tuple[float, float]:
    """Milliseconds on a core, and milliseconds ready and without one."""
    ran, waited = file.read_text().split()[:2] if file else (0, 0)
    return int(ran) / 1e6, int(waited) / 1e6


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and max."""
    return float(np.percentile(values, 50)), float(np.percentile(values, 95)), float(np.max(values))


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as aligned columns, numbers to three figures."""
    cells = [[f"{cell:,.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head))]
    print(f"\n{title}", flush=True)
    for row in [list(head), *cells]:
        print(
            "  "
            + "  ".join(
                cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )
