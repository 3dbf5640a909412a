"""Find or install the browser that the tests drive. Without one they fail; they never skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PACKAGES = ("chromium", "fonts-noto-color-emoji", "fonts-noto-cjk")
_OWN = (
    "from playwright.sync_api import sync_playwright as p; c = p().start(); print(c.chromium.executable_path); c.stop()"
)

MISSING = (
    "The browser tests found no Chromium and could not install one: install it "
    "(apt install chromium fonts-noto-color-emoji fonts-noto-cjk), or set MANABOORU_CHROMIUM to its path."
)


def _works(path: str | None) -> bool:
    """Ubuntu's package is a stub without snap: only one that runs counts."""
    return bool(path) and subprocess.run([path, "--version"], capture_output=True).returncode == 0


def find() -> str | None:
    """The path of a Chromium that runs: as set, on PATH, or Playwright's own."""
    for path in (os.environ.get("MANABOORU_CHROMIUM"), *map(shutil.which, _NAMES)):
        if path and os.access(path, os.X_OK) and _works(path):
            return path
    own = subprocess.run([sys.executable, "-c", _OWN], capture_output=True, text=True).stdout.strip()
    return own if own and os.access(own, os.X_OK) and _works(own) else None


def find_or_install() -> str | None:
    """As `find`, after installing one: from Debian's packages as root, else Playwright's download."""
    if path := find():
        return path
    print("Installing Chromium for the browser tests ...", flush=True)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        quiet = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
        subprocess.run([*quiet, "update"], env=environment, stdin=subprocess.DEVNULL)
        install = [*quiet, "install", "-y", "--no-install-recommends", *_PACKAGES]
        subprocess.run(install, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if path := find():
            return path
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], stdin=subprocess.DEVNULL)
    return find()
