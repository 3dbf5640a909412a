"""Put pinned, hashed packages into a virtual environment on whatever Python a machine has.

Debian splits pip and ensurepip off its Python, so several ways lead to an installer. uv is tried
first because it is several times faster, then pip. Standard library only.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gallery.launch.dotenv import ROOT
from gallery.launch.processes import dies_with_us

REQUIREMENTS = ROOT / "requirements"
_GIB = 1024**3
_NEEDED_GIB = {"cuda": 7, "cpu": 3}
# What the CPU build of torch does without.
_ONLY_FOR_CUDA = re.compile(r"^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
_NO_NETWORK = re.compile(
    r"name resolution|resolve host|dns error|NewConnectionError|Max retries|[Cc]onnection (refused|reset|timed out)"
    r"|Network is unreachable|error sending request|client error \(Connect\)|operation timed out|No route to host"
)
_PLAIN_LINE_SECONDS = 15
_SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class SetupError(Exception):
    """A sentence for the person who starts Manabooru, with the remedy."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Torch:
    """Which build of torch is installed, and from where when not from the usual index."""

    build: str = "cuda"
    index: str = ""

    @classmethod
    def chosen(cls) -> Torch:
        """As MANABOORU_TORCH and MANABOORU_TORCH_INDEX say."""
        build = os.environ.get("MANABOORU_TORCH") or "cuda"
        index = os.environ.get("MANABOORU_TORCH_INDEX") or ""
        if build not in _NEEDED_GIB:
            raise SetupError(f"MANABOORU_TORCH is {build!r}: give cuda or cpu.")
        if build == "cpu" and not index:
            raise SetupError(
                "MANABOORU_TORCH=cpu needs MANABOORU_TORCH_INDEX too: the address of torch's package index "
                "for the CPU build, as its install page gives it, or a folder with the wheels."
            )
        return cls(build, index if build == "cpu" else "")


@dataclass
class Outcome:
    """How a command ended, and what it said."""

    code: int
    output: str

    @property
    def no_network(self) -> bool:
        return bool(_NO_NETWORK.search(self.output))


def check_space(folder: Path, torch: Torch) -> None:
    """Raise SetupError before an installation that would fill the disk."""
    needed, free = _NEEDED_GIB[torch.build], shutil.disk_usage(folder).free / _GIB
    if free < needed:
        hint = ", or choose the CPU build of torch (MANABOORU_TORCH in .env.example)" if torch.build == "cuda" else ""
        raise SetupError(
            f"The installation needs about {needed} GB free in {folder} and there are {free:.1f} GB: "
            f"make room, or set XDG_CACHE_HOME to a folder on a larger disk{hint}."
        )


class _Meter:
    """Time and disk space while a command runs: a line that moves on a terminal, some plain lines elsewhere."""

    def __init__(self, title: str, folder: Path) -> None:
        self.title, self.folder = title, folder
        self.began, self.free = time.monotonic(), shutil.disk_usage(folder).free
        self.moving = sys.stderr.isatty()
        self.next_line = self.began + _PLAIN_LINE_SECONDS
        if not self.moving:
            say(f"{title} ...")

    def _so_far(self) -> str:
        written = max(0, self.free - shutil.disk_usage(self.folder).free) / _GIB
        return f"{time.monotonic() - self.began:.0f} s" + (f", {written:.1f} GB written" if written > 0.05 else "")

    def tick(self, last: str) -> None:
        if self.moving:
            width = shutil.get_terminal_size().columns - 1
            text = f"{self.title} ... {self._so_far()}   {last.strip()}"
            print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() > self.next_line:
            self.next_line += _PLAIN_LINE_SECONDS
            say(f"  {self._so_far()}")

    def end(self, code: int) -> None:
        result = "done" if code == 0 else "failed"
        say(f"\r\033[K{self.title}: {result}, {self._so_far()}" if self.moving else f"  {result}, {self._so_far()}")


def run(title: str, argv: list[str], folder: Path, **environment: str) -> Outcome:
    """Run a command quietly with a meter; what it says is kept for the case that it fails."""
    meter, lines = _Meter(title, folder), [""]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
        preexec_fn=dies_with_us(),
    )
    assert process.stdout
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
                break
            meter.tick(lines[-1])
    except BaseException:
        process.kill()
        raise
    reader.join(5)
    meter.end(process.returncode)
    return Outcome(process.returncode, "".join(lines))


def make_environment(folder: Path) -> None:
    """An empty virtual environment, without pip."""
    if importlib.util.find_spec("venv"):
        import venv

        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
        return
    # A virtual environment is no more than this.
    (folder / "bin").mkdir(parents=True)
    (folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    home = Path(sys.executable).parent
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n", encoding="utf-8")


def _works(argv: list[str]) -> bool:
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def _debian_pip(folder: Path) -> Path | None:
    """pip's own wheel as Debian packages it: the one on this machine, else downloaded, which needs no root."""
    wheels = sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    if not wheels and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        work = folder / "debian"
        for name in ("lists/partial", "cache/archives/partial"):
            (work / name).mkdir(parents=True, exist_ok=True)
        # An ordinary user can't refresh the machine's own package lists, so they come into a folder of ours.
        own = ["-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}/cache", "-o", "Debug::NoLocking=1"]
        get = ["apt-get", "download", "python3-pip-whl"]
        for command in (get, ["apt-get", *own, "update"], ["apt-get", *own, *get[1:]]):
            run("Getting pip from Debian's packages", command, work)
            if any(_works(["dpkg-deb", "-x", str(package), str(work)]) for package in work.glob("*.deb")):
                break
        wheels = sorted((work / "usr/share/python-wheels").glob("pip-*.whl"))
    return wheels[-1] if wheels else None


def find_pip(folder: Path) -> list[str] | None:
    """The words that run a pip which installs into this environment, or None."""
    python = str(folder / "bin/python")
    outside = [sys.executable, "-m", "pip", "--python", python]
    if _works([*outside, "--version"]):
        return outside
    inside = [python, "-m", "pip"]
    has_it = importlib.util.find_spec("ensurepip") and _works([python, "-m", "ensurepip"])
    if has_it and _works([*inside, "--version"]):
        return inside
    if shutil.which("uv"):
        return None
    if wheel := _debian_pip(folder):
        return [python, str(wheel / "pip")]
    raise SetupError(
        "This Python can't install packages (no ensurepip, pip or uv was found): "
        "install them with 'apt install python3-venv' as root, then start again."
    )


def find_uv(folder: Path, pip: list[str] | None) -> list[str] | None:
    """The words that run uv, installed by pip at its pinned version, else the machine's own, else None."""
    own = folder / "bin/uv"
    if pip and not own.exists():
        words = ["install", "--quiet", "--require-hashes", "--retries", "2", "-r", str(REQUIREMENTS / "uv.txt")]
        outcome = run("Getting the installer", [*pip, *words], folder)
        if outcome.code and outcome.no_network:
            raise SetupError(_no_network())
    if own.exists():
        return [str(own)]
    found = shutil.which("uv")
    return [found] if found else None


def _no_network() -> str:
    return (
        "The package index can't be reached: connect this machine to the network "
        "(or set HTTPS_PROXY, or PIP_INDEX_URL for a mirror), then start again."
    )


def _without_cuda(requirements: Path, target: Path) -> tuple[Path, list[str]]:
    """A copy without torch and what only CUDA needs, and torch's own pins without hashes."""
    blocks = re.split(r"^(?=[a-z0-9])", requirements.read_text("utf-8"), flags=re.M)
    target.write_text("".join(block for block in blocks if not _ONLY_FOR_CUDA.match(block)), encoding="utf-8")
    return target, [block.split()[0] for block in blocks if block.startswith(("torch==", "torchvision=="))]


def _steps(folder: Path, name: str, torch: Torch) -> list[list[str]]:
    """What to install, in words that mean the same to uv and pip. The files are complete: nothing is resolved."""
    requirements = REQUIREMENTS / f"{name}.txt"
    if torch.build == "cuda":
        return [["--no-deps", "--require-hashes", "-r", str(requirements)]]
    requirements, pinned = _without_cuda(requirements, folder / f"{name}-cpu.txt")
    source = ["--index-url", torch.index] if "://" in torch.index else ["--no-index", "--find-links", torch.index]
    torch_step = [] if name == "dev" else [["--no-deps", *source, *pinned]]
    return [["--no-deps", "--require-hashes", "-r", str(requirements)], *torch_step]


def install(folder: Path, name: str, torch: Torch) -> None:
    """Install one set of requirements into the environment; raises SetupError with the remedy."""
    python = str(folder / "bin/python")
    pip = find_pip(folder)
    uv = find_uv(folder, pip)
    ways = [[*uv, "pip", "install", "--python", python]] if uv else []
    ways += [[*pip, "install", "--retries", "2"]] if pip else []
    steps = _steps(folder, name, torch)
    what = "what Manabooru needs" if name == "base" else "what its tests need"
    size = f", about {_NEEDED_GIB[torch.build]} GB on disk" if name == "base" else ""
    outcome = Outcome(1, "")
    for number, way in enumerate(ways):
        title = f"Installing {what}{size}" + (" (once more, with pip)" if number else "")
        for step in steps:
            outcome = run(title, [*way, *step], folder, **_for_uv())
            if outcome.code:
                break
        else:
            return
    raise SetupError(_reason(outcome, folder))


def _for_uv() -> dict[str, str]:
    """uv reads none of pip's settings, so the ones that a closed network needs are handed on."""
    handed = {"UV_PYTHON_DOWNLOADS": "never"}
    if _SYSTEM_CERTIFICATES.is_file():  # uv brings its own, which know no company's proxy
        handed |= {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    for mine, theirs in (("UV_DEFAULT_INDEX", "PIP_INDEX_URL"), ("SSL_CERT_FILE", "PIP_CERT")):
        if os.environ.get(theirs) and not os.environ.get(mine):
            handed[mine] = os.environ[theirs]
    return handed


def _reason(outcome: Outcome, folder: Path) -> str:
    if "No space left" in outcome.output or shutil.disk_usage(folder).free < 0.2 * _GIB:
        return f"The disk of {folder} is full: make room, or set XDG_CACHE_HOME to a folder on a larger disk."
    if outcome.no_network:
        return _no_network()
    log = folder.parent / "install.log"
    with suppress(OSError):
        log.write_text(outcome.output, encoding="utf-8")
    words = [line.strip() for line in outcome.output.splitlines() if line.strip()]
    return f"The packages could not be installed ({words[-1] if words else 'no reason given'}): all of it is in {log}."
