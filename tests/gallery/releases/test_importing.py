"""Published taggers from a hub on this machine, by the program that the worker runs."""

import json
import shutil
import threading

import pytest
from django.urls import reverse

from gallery import locking, tagging, tasks
from gallery.celery import app
from gallery.models import Release, ReleaseImport
from gallery.releases import importing
from tests.gallery.views.people import signed_in
from tests.stack import eventually
from tests.tagger.importing import hub as hubs
from tests.tagger.importing.test_onnx_model import joytag

State = ReleaseImport.State


@pytest.fixture(autouse=True)
def data(settings, tmp_path, monkeypatch):
    settings.RELEASES_DIR = tmp_path / "releases"
    settings.RELEASES_DIR.mkdir()
    monkeypatch.setattr(importing, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(tagging, "_stopping", threading.Event())
    return tmp_path


@pytest.fixture
def hub(data, monkeypatch):
    (data / "made").mkdir()
    joytag(data / "made")
    files = {file.name: file.read_bytes() for file in (data / "made").iterdir()}
    with hubs.running(hubs.Hub("fancyfeast/joytag", files, {"model.onnx"})) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as an export leaves it in its worker, and the image has it
        yield running


def begin(key: str = "joytag") -> ReleaseImport:
    return importing.start(key, None)


@pytest.mark.django_db
def test_a_download_becomes_an_installed_release(hub, data):
    row = begin()
    tasks.get_release(row.pk)
    row.refresh_from_db()
    assert (row.state, row.error) == (State.DONE, "")
    assert row.done == row.total == sum(len(content) for content in hub.files.values())
    assert (row.release.name, row.release.active, row.release.title) == ("joytag", False, "JoyTag")
    assert row.release.config["source"] == f"fancyfeast/joytag at commit {hub.commit}"
    assert [path.name for path in (data / "releases").iterdir()] == ["joytag"]
    tasks.get_release(row.pk)  # a message that comes twice
    assert Release.objects.count() == 1
    with pytest.raises(importing.ImportRefused, match="installed already"):
        begin()


@pytest.mark.django_db
def test_without_network_the_reason_and_the_remedy_are_said_and_it_goes_on_later(hub, data, monkeypatch):
    row = begin()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    importing.run(row.pk)
    row.refresh_from_db()
    assert row.state == State.FAILED
    assert "The hub can't be reached" in row.error and "on the network, then start again" in row.error
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    assert begin() == row  # the same row goes on
    importing.run(row.pk)
    row.refresh_from_db()
    assert (row.state, row.error) == (State.DONE, "")


@pytest.mark.django_db(transaction=True)
def test_cancelling_stops_within_moments_and_going_on_keeps_what_came(hub, data):
    hub.files["model.onnx"] = whole = hub.files["model.onnx"] + bytes(25_000_000)
    hub.hold["model.onnx"] = 15_000_000
    row = begin()
    working = threading.Thread(target=in_a_thread, args=[row.pk])
    working.start()
    staff = signed_in(is_staff=True)
    assert eventually(lambda: fresh(row).done > 10_000_000, 60)
    assert fresh(row).state == State.DOWNLOADING and fresh(row).total == len(whole) + len(hub.files["top_tags.txt"])
    page = staff.get(reverse("release_import", args=[row.pk]), headers={"HX-Request": "true"}).content.decode()
    assert "MB of" in page and "hx-trigger" in page and "Cancel" in page
    with pytest.raises(importing.ImportRefused, match="being downloaded already"):
        begin()
    with pytest.raises(importing.ImportRefused, match="cancel it first"):
        importing.remove(row)
    staff.post(reverse("cancel_import", args=[row.pk]))
    working.join(10)
    assert not working.is_alive()
    assert fresh(row).state == State.CANCELLED
    page = staff.get(reverse("releases")).content.decode()
    assert "Go on where it stopped" in page
    hub.release()
    hub.requests.clear()
    staff.post(reverse("resume_import", args=[row.pk]))
    assert fresh(row).state == State.WAITING
    importing.run(row.pk)
    ranges = [wanted for method, path, wanted in hub.requests if method == "GET" and path.endswith("model.onnx")]
    assert len(ranges) == 1 and int(ranges[0].removeprefix("bytes=").rstrip("-")) >= 10 * 2**20
    # The bytes behind the model make it no ONNX file: the import itself refuses it, in its own words.
    assert fresh(row).state == State.FAILED and "cannot be opened" in fresh(row).error


def in_a_thread(pk: int) -> None:
    from django.db import connection

    importing.run(pk)
    connection.close()


def fresh(row: ReleaseImport) -> ReleaseImport:
    return ReleaseImport.objects.get(pk=row.pk)


@pytest.mark.django_db
def test_a_worker_that_shuts_down_leaves_it_to_the_next(hub):
    row = begin()
    tagging.stop()
    importing.run(row.pk)
    assert fresh(row).state == State.DOWNLOADING
    tagging._stopping.clear()
    importing.run(row.pk)
    assert fresh(row).state == State.DONE


@pytest.mark.django_db(transaction=True)
def test_the_sweep_asks_again_only_for_what_nobody_is_at(monkeypatch):
    monkeypatch.setattr(importing, "_UNSENT_SECONDS", 0)
    row = begin()
    with app.connection_for_read() as connection:
        messages = connection.SimpleQueue("long")
        messages.clear()
        assert importing.sweep() == 1
        assert messages.get(timeout=5).payload[0] == [row.pk]
        messages.close()
    importing.cancel(row)
    assert importing.sweep() == 0


@pytest.mark.django_db
def test_two_workers_never_get_the_same(hub, monkeypatch):
    row = begin()
    began = []
    monkeypatch.setattr(locking, "held", nobody)
    importing.run(row.pk)
    assert fresh(row).state == State.WAITING and not began


class nobody:
    """The lock as it looks while another session holds it."""

    def __init__(self, *words):
        pass

    def __enter__(self):
        return False

    def __exit__(self, *words):
        pass


@pytest.mark.django_db
def test_a_disk_that_is_too_small_is_told_before_it_is_full(hub, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    row = begin()
    importing.run(row.pk)
    assert fresh(row).state == State.FAILED and "make room on the server's disk" in fresh(row).error


@pytest.mark.django_db
def test_deleting_what_came(hub, data, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    row = begin()
    importing.run(row.pk)
    assert row.folder.is_dir()
    signed_in(is_staff=True).post(reverse("remove_import", args=[row.pk]))
    assert not ReleaseImport.objects.exists() and not row.folder.exists()


@pytest.mark.django_db
def test_every_tagger_known_by_name_is_offered_and_others_are_refused():
    staff = signed_in(is_staff=True)
    page = staff.get(reverse("releases")).content.decode()
    for title in ("Camie Tagger v1", "initial stage only", "Camie Tagger v2", "WD SwinV2", "PixAI", "JoyTag"):
        assert title in page
    answer = staff.post(reverse("get_release"), {"tagger": "../../etc"}, follow=True)
    assert "choose one of the list" in answer.content.decode()
    assert signed_in().post(reverse("get_release"), {"tagger": "joytag"}).status_code == 403
    assert not ReleaseImport.objects.exists()
    staff.post(reverse("get_release"), {"tagger": "camie-v1-initial"})
    row = ReleaseImport.objects.get()
    assert (row.kind, row.stages, row.name) == ("camie-v1", "initial", "camie-v1-initial")
    words = tagging.import_command(row.kind, row.repository, row.stages, row.name, importing.title(row), row.folder)
    assert words[1:5] == ["-m", "tagger", "import", "camie-v1"] and "initial" in words
    assert json.dumps(words)
