import pytest
from django.core.cache import cache

from gallery import tagging


@pytest.fixture(autouse=True)
def quick_passwords(settings) -> None:
    """A real password hash takes a second of CPU on purpose; most tests only need somebody signed in."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


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
