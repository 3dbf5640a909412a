"""What must be known before any setting is read: the `.env` file and the data folder."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def read() -> None:
    """Put the KEY=VALUE lines of `.env` into the environment; what is already set there wins."""
    path = Path(os.environ.get("MANABOORU_ENV_FILE") or ROOT / ".env")
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            os.environ.setdefault(key.strip(), value.strip().strip("\"'"))


def data_folder() -> Path:
    """Everything that the site writes lies here: database, pictures, releases, exports."""
    return Path(os.environ.get("MANABOORU_DATA") or ROOT / "data").expanduser().resolve()
