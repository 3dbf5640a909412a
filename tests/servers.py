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
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def _only_hands_out() -> bool:
    """Whether this process has others run the tests."""
    return "MANABOORU_TEST_PROCESSES" in os.environ and "PYTEST_XDIST_WORKER" not in os.environ


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In several processes a file stays in one, and all that use the running site in one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "tests/journeys" if file.startswith("tests/journeys/") else file

    return ByFile(config, log)


def _start_servers() -> None:
    """Set DATABASE_URL and REDIS_URL to servers of this run, unless the caller brought both."""
    data = Path(tempfile.mkdtemp(prefix="manabooru-test-"))
    os.environ["MANABOORU_DATA"] = str(data / "data")
    (data / "data" / "static").mkdir(parents=True)
    os.environ["MANABOORU_ENV_FILE"] = str(data / "no.env")
    atexit.register(shutil.rmtree, data, ignore_errors=True)
    if _only_hands_out() or (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")):
        return
    from gallery.launch import embedded

    try:
        servers = embedded.start(data / "servers", fast=True)
    except embedded.EmbeddedError as error:
        sys.exit(str(error))
    atexit.register(servers.stop)
    os.environ.update(servers.environment())


_start_servers()
