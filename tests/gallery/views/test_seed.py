import hashlib
import json

import pytest
from django.core.cache import cache
from django.urls import reverse

from gallery import seeding
from gallery.models import Post
from tests.gallery.views.people import picture, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(settings, tmp_path, monkeypatch):
    """Staff of a site whose seed gallery is two plain pictures."""
    cache.clear()
    settings.MEDIA_ROOT = tmp_path / "media"
    pictures = []
    for colour in ("red", "blue"):
        file = picture(colour).read()
        (tmp_path / f"{colour}.png").write_bytes(file)
        md5 = hashlib.md5(file, usedforsecurity=False).hexdigest()
        about = {"file": f"{colour}.png", "md5": md5, "tags": {"general": [colour]}, "source": "", "credit": "CC0"}
        pictures.append(about)
    (tmp_path / "seed.json").write_text(json.dumps({"pictures": pictures}))
    monkeypatch.setattr(seeding, "FOLDER", tmp_path)
    return signed_in(is_staff=True)


def test_a_button_has_a_worker_put_the_demo_pictures_in(staff):
    assert "Install them" in staff.get(reverse("staff")).content.decode()
    assert staff.post(reverse("install_seed")).url == reverse("staff")
    part = staff.get(reverse("seed_progress")).content.decode()
    assert "0 of 2 put in" in part and "every 1s" in part and "<html" not in part


def test_what_broke_off_goes_on_and_what_failed_is_tried_again(staff):
    seeding.install_seed()
    Post.objects.order_by("pk").last().delete()
    part = staff.get(reverse("seed_progress")).content.decode()
    assert "1 of 2 freely" in part and "Install the rest" in part
    cache.set(seeding._STATE, {"error": "No worker could be reached."}, 60)
    part = staff.get(reverse("seed_progress")).content.decode()
    assert "No worker could be reached." in part and "Try again" in part


def test_the_worker_puts_each_in_and_the_button_goes(staff):
    seeding.install_seed(seeding.remember)
    hashes = list(Post.objects.order_by("pk").values_list("md5", flat=True))
    assert len(hashes) == 2
    assert "every 1s" not in staff.get(reverse("seed_progress")).content.decode()
