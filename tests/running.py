"""`manage.py test`: the browser first, then pytest over everything."""

from __future__ import annotations

import os

from gallery.launch.dotenv import ROOT
from tests import chromium


def run(words: list[str]) -> int:
    """Run the suite, or what the words name; pytest's exit code, or 1 when there is no browser."""
    import pytest

    path = chromium.find_or_install()
    if not path:
        print(chromium.MISSING, flush=True)
        return 1
    os.environ["MANABOORU_CHROMIUM"] = path
    os.chdir(ROOT)
    return int(pytest.main(words))
