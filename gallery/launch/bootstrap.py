"""The virtual environment that every command runs in, made when it is missing. Standard library only.

It lies outside the checkout, in the user's cache folder, under a name that changes with the pinned
requirements, the Python and the choice of torch. A stamp inside says that it is whole: without the
stamp, as after an interrupted start, it is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from gallery.launch import dotenv, installing
from gallery.launch.installing import REQUIREMENTS, SetupError

# An interpreter that has these at the pinned versions needs no environment of ours, as in a container.
_MARKS = {
    "base": ("django", "psycopg", "celery", "granian", "torch", "datasets"),
    "dev": ("pytest", "playwright", "ruff"),
}
_DEV_WORDS = ("test", "lint")
_UNUSED_DAYS = 30


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser().resolve() / "manabooru"


def environment_folder(torch: installing.Torch) -> Path:
    """Where the environment for these requirements, this Python and this torch lies."""
    parts = [(REQUIREMENTS / "base.txt").read_text("utf-8"), platform.python_version(), platform.machine()]
    parts += [sys.base_prefix, torch.build, torch.index]
    return cache_folder() / f"venv-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:16]}"


def stamps(folder: Path, dev: bool) -> dict[str, Path]:
    """The stamp of each set of requirements that must be there, by the set's name."""
    found = {"base": folder / "manabooru-base"}
    if dev:
        digest = hashlib.sha256((REQUIREMENTS / "dev.txt").read_bytes()).hexdigest()[:16]
        found["dev"] = folder / f"manabooru-dev-{digest}"
    return found


def pins(name: str) -> dict[str, set[str]]:
    """The versions that a requirements file allows, by package."""
    versions: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", (REQUIREMENTS / f"{name}.txt").read_text(), re.M):
        versions.setdefault(package, set()).add(version)
    return versions


def has_everything(dev: bool) -> bool:
    """Whether the interpreter that runs this has the pinned packages itself."""
    for name in ("base", "dev") if dev else ("base",):
        pinned = pins(name)
        for package in _MARKS[name]:
            try:
                if metadata.version(package).split("+")[0] not in pinned[package]:
                    return False
            except metadata.PackageNotFoundError:
                return False
    return True


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two starts never install at once: the second waits."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SetupError(
            f"The cache folder {folder} can't be written ({error.strerror}): "
            "make it writable, or set XDG_CACHE_HOME to another folder."
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            installing.say("Another start is installing; waiting for it.")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def mark_used() -> None:
    """Say that something still runs in this interpreter's environment, so that no update takes it for unused."""
    with suppress(OSError):
        os.utime(stamps(Path(sys.prefix), dev=False)["base"])


def _remove_unused(current: Path) -> None:
    """Environments of older versions that nothing has run in for weeks."""
    for folder in current.parent.glob("venv-*"):
        stamp = folder / "manabooru-base"
        old = not stamp.exists() or time.time() - stamp.stat().st_mtime > _UNUSED_DAYS * 86400
        if folder != current and old:
            shutil.rmtree(folder, ignore_errors=True)


def ensure(folder: Path, torch: installing.Torch, dev: bool) -> None:
    """Make the environment whole; raises SetupError."""
    wanted = stamps(folder, dev)
    if all(stamp.exists() for stamp in wanted.values()) and (folder / "bin/python").exists():
        with suppress(OSError):
            os.utime(wanted["base"])
        return
    with _only_one(folder.parent):
        if not (wanted["base"].exists() and (folder / "bin/python").exists()):
            installing.check_space(folder.parent, torch)
            shutil.rmtree(folder, ignore_errors=True)
            installing.make_environment(folder)
        for name, stamp in wanted.items():
            if not stamp.exists():
                installing.install(folder, name, torch)
                stamp.touch()
        _remove_unused(folder)


def install() -> None:
    """Make the environment for these settings, as an image does; exits with a sentence when it can't."""
    try:
        torch = installing.Torch.chosen()
        ensure(environment_folder(torch), torch, dev=False)
    except SetupError as error:
        sys.exit(str(error))


def keep_bytecode(folder: Path) -> None:
    """Where Python is told to write no bytecode beside the sources, keep it in the environment instead.

    With none at all each of the site's processes compiles every package again, some 15 seconds of CPU a start.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(folder / "bytecode"))


def enter(argv: list[str], torch: installing.Torch, dev: bool) -> None:
    """Return inside an interpreter that has everything: this one, or by starting again in ours."""
    folder = environment_folder(torch)
    inside = Path(sys.prefix).resolve() == folder
    if not inside and has_everything(dev):
        return
    ensure(folder, torch, dev)
    keep_bytecode(folder)
    if not inside:
        os.environ.pop("PYTHONHOME", None)
        python = str(folder / "bin/python")
        os.execv(python, [python, *argv])


def main(argv: list[str]) -> None:
    """Run one command of manage.py inside the environment."""
    word = argv[1] if len(argv) > 1 else "help"
    dev = word in _DEV_WORDS
    given = dict(os.environ)
    dotenv.read()
    try:
        torch = installing.Torch.chosen()
        if dev:  # tests must never meet the site that .env describes
            os.environ.clear()
            os.environ.update(given, MANABOORU_TORCH=torch.build, MANABOORU_TORCH_INDEX=torch.index)
        enter(argv, torch, dev)
    except SetupError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the next start takes the installation up again.")
    from gallery.launch import entry  # it imports installed packages

    entry.run(word, argv)
