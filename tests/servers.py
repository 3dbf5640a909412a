"""Real Postgres and Redis for the whole suite.

A plugin (`-p tests.servers`), because pytest-django reads the settings before any conftest.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def _start_servers() -> None:
    """Set DATABASE_URL and REDIS_URL to servers of this run, unless the caller brought both."""
    data = Path(tempfile.mkdtemp(prefix="manabooru-test-"))
    os.environ["MANABOORU_DATA"] = str(data / "data")
    (data / "data" / "static").mkdir(parents=True)
    os.environ["MANABOORU_ENV_FILE"] = str(data / "no.env")
    atexit.register(shutil.rmtree, data, ignore_errors=True)
    if os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"):
        return
    from gallery.launch import embedded

    try:
        servers = embedded.start(data / "servers", fast=True)
    except embedded.EmbeddedError as error:
        sys.exit(str(error))
    atexit.register(servers.stop)
    os.environ.update(servers.environment())


_start_servers()
