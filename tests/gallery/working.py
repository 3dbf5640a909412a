"""A site with a tagger for the tests: a tiny release with random weights, pictures, real worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection
from PIL import Image

from gallery import uploading
from gallery.models import Post, Release
from gallery.releases import releasing
from tests.gallery.test_pictures import file_of
from tests.tagger import releases


def install(folder: Path, seed: int = 0, activate: bool = True) -> Release:
    """A release of this folder's name, written there and installed."""
    if not folder.exists():
        releases.write(folder, seed)
    return releasing.install(folder, activate=activate)


def upload(number: int) -> Post:
    """A post of a picture of its own, waiting for the tagger."""
    colour = (number * 53 % 256, number * 101 % 256, number * 197 % 256)
    image = Image.new("RGB", (48 + number, 32), colour)
    image.paste((255 - colour[0], colour[1], 9), (4, 4, 20 + number % 20, 24))
    return uploading.store(file_of(image), name=f"{number}.png").post


def environment(data: Path) -> dict[str, str]:
    """For a process of its own on this test's database and files."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path="/" + connection.settings_dict["NAME"])
    return {**os.environ, "DATABASE_URL": url.geturl(), "MANABOORU_DATA": str(data), "OMP_NUM_THREADS": "1"}


def worker(*words: str) -> subprocess.Popen[str]:
    """A manage.py command in such a process."""
    return subprocess.Popen(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), *words],
        env=environment(Path(settings.MEDIA_ROOT).parent),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
