import pytest
from django.urls import reverse


@pytest.mark.django_db
def test_a_sound_site_says_so(client):
    answer = client.get(reverse("health"))
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "database": "ok", "redis": "ok", "disk": "ok"}


@pytest.mark.django_db
def test_what_fails_is_named(client, settings, tmp_path):
    settings.DATA_DIR = tmp_path / "gone"
    answer = client.get(reverse("health"))
    assert answer.status_code == 503
    assert answer.json()["disk"] == "FileNotFoundError" and answer.json()["database"] == "ok"


@pytest.mark.django_db
def test_health_only_reads(client):
    assert client.post(reverse("health")).status_code == 405
