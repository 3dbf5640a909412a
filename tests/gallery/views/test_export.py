import io
import tarfile

import pytest
from django.urls import reverse

from gallery.models import Export
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff():
    return signed_in(is_staff=True)


@pytest.fixture
def written(settings, tmp_path):
    """An export whose folder holds a file longer than a block of tar and one in a folder."""
    settings.EXPORTS_DIR = tmp_path
    folder = tmp_path / "export-1"
    (folder / "data").mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    (folder / "data" / "train.parquet").write_bytes(b"parquet" * 1000)
    return Export.objects.create(state=Export.State.DONE, folder=str(folder), counts={"posts": 2, "yes": 5, "no": 7})


def test_a_done_export_shows_its_counts_and_downloads_as_tar(staff, written):
    page = staff.get(reverse("exports")).content.decode()
    assert ">5</strong> yes" in page and ">7</strong> no" in page
    answer = staff.get(reverse("download_export", args=[written.pk]))
    body = answer.getvalue()
    assert len(body) == int(answer["Content-Length"])
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert sorted(tar.getnames()) == ["export-1/data/train.parquet", "export-1/dataset.json"]
        assert tar.extractfile("export-1/data/train.parquet").read() == b"parquet" * 1000


def test_the_list_asks_again_while_an_export_runs(staff, written):
    assert "every 1s" not in staff.get(reverse("exports")).content.decode()
    running = Export.objects.create(total=10, done=4)
    part = staff.get(reverse("exports"), headers={"HX-Request": "true"}).content.decode()
    assert "4 of 10 posts" in part and "every 1s" in part and "<html" not in part
    assert staff.get(reverse("download_export", args=[running.pk])).status_code == 404
    staff.post(reverse("delete_export", args=[running.pk]))
    assert Export.objects.filter(pk=running.pk).exists()


def test_old_exports_are_on_later_pages(staff):
    first = Export.objects.create(state=Export.State.FAILED)
    Export.objects.bulk_create(Export(state=Export.State.FAILED) for _ in range(20))
    assert f"Export {first.pk}<" not in staff.get(reverse("exports")).content.decode()
    later = staff.get(reverse("exports"), {"page": 2}).content.decode()
    assert f"Export {first.pk}<" in later and "2 of 2" in later


def test_a_button_starts_an_export(staff):
    assert staff.post(reverse("exports")).url == reverse("exports")
    assert Export.objects.get().started_by == staff.user


def test_deleting_an_export_frees_the_disk(staff, written, tmp_path):
    staff.post(reverse("delete_export", args=[written.pk]))
    assert not Export.objects.exists() and not (tmp_path / "export-1").exists()


def test_a_folder_that_somebody_chose_or_another_export_names_stays(staff, written, tmp_path, settings):
    again = Export.objects.create(state=Export.State.DONE, folder=written.folder, counts=written.counts)
    staff.post(reverse("delete_export", args=[written.pk]))
    assert (tmp_path / "export-1" / "dataset.json").exists()
    settings.EXPORTS_DIR = tmp_path / "exports"
    staff.post(reverse("delete_export", args=[again.pk]))
    assert not Export.objects.exists() and (tmp_path / "export-1" / "dataset.json").exists()


def test_a_failed_export_says_why(staff):
    Export.objects.create(state=Export.State.FAILED, error="The disk is full: make room.")
    assert "The disk is full: make room." in staff.get(reverse("exports")).content.decode()


def test_strangers_and_members_get_no_export(client, written):
    url = reverse("download_export", args=[written.pk])
    assert client.get(url).status_code == 302
    assert signed_in().get(url).status_code == 403
