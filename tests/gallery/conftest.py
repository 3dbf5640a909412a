from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache

from gallery import tagging
from gallery.search import counts, estimating, forecast, names


@pytest.fixture(autouse=True)
def quick_passwords(settings) -> None:
    """A real password hash takes a second of CPU on purpose; most tests only need somebody signed in."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def patient_searches(monkeypatch) -> None:
    """Other programs may keep the cores busy: counts, suggestions and advice wait for what they ask, but where a test
    gives them some milliseconds.
    """

    def patiently(run: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
        return lambda asked, timeout: run(asked, timeout if timeout < 20 else 20_000)

    monkeypatch.setattr(counts, "run_together", patiently(counts.run_together))
    monkeypatch.setattr(counts, "_PATIENCE_FOR_ALL", 20.0)
    monkeypatch.setattr(names, "_ADVICE_MS", 20_000)
    for module in (estimating, forecast):
        monkeypatch.setattr(module, "run", patiently(module.run))


@pytest.fixture
def tagging_site(settings, tmp_path, monkeypatch):
    """Folders of its own and no tagger in memory; the data folder."""
    settings.DATA_DIR = tmp_path
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.RELEASES_DIR = tmp_path / "releases"
    settings.TAGGER_THREADS = 1
    settings.TAGGER_IDLE_SECONDS = 0
    monkeypatch.setattr(tagging, "_loaded", None)
    cache.clear()
    return tmp_path
