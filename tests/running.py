"""`manage.py test`: the browser first, then pytest over everything."""

from __future__ import annotations

import os

from gallery.launch.dotenv import ROOT
from tests import chromium

_MOST = 4  # each takes two gigabytes, the browser's site as much again


def run(words: list[str]) -> int:
    """Run the suite, or what the words name; pytest's exit code, or 1 when there is no browser."""
    import pytest

    path = chromium.find_or_install()
    if not path:
        print(chromium.MISSING, flush=True)
        return 1
    os.environ["MANABOORU_CHROMIUM"] = path
    os.chdir(ROOT)
    return int(pytest.main(words or _in_processes()))


def _in_processes() -> list[str]:
    """The whole suite in a process for each core, each with servers of its own; what is named runs in one."""
    processes = min(_MOST, len(os.sched_getaffinity(0)))
    if processes < 2:
        return []
    os.environ["MANABOORU_TEST_PROCESSES"] = str(processes)  # tests/servers.py looks for it
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else each would use all cores, and wait for the others' turns
    return ["-n", str(processes)]
