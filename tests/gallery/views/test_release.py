import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from gallery.index import indexing
from gallery.models import Profile, Release, TagIndex
from tests.gallery.making import make_post, make_release, make_tag, predict
from tests.gallery.views.people import signed_in
from tests.tagger import releases

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(settings, tmp_path):
    settings.RELEASES_DIR = tmp_path / "installed"
    return signed_in(is_staff=True)


@pytest.fixture
def folder(tmp_path):
    return releases.write(tmp_path / "tiny").folder


def test_installing_by_path_shows_the_release_and_activates_nothing(staff, folder):
    make_post()
    answer = staff.post(reverse("install_release"), {"folder": str(folder)}, follow=True)
    release = Release.objects.get()
    page = answer.content.decode()
    assert not release.active
    assert "tiny (random)" in page and "1 post isn&#x27;t tagged by it yet" in page


def test_metrics_that_are_no_numbers_are_left_out(staff):
    found = make_release()
    groups = {"overall": {"micro_f1": "0.9", "macro_f1": 0.25, "precision": [], "recall": True}}
    found.metrics = {"splits": {"test": {"pictures": {}, "refined": {"balanced": groups}}}}
    found.save()
    answer = staff.get(reverse("release", args=[found.pk]))
    assert answer.status_code == 200 and "25%" in answer.content.decode()


@pytest.mark.parametrize("path", ["", "/nowhere/at/all", "~nobody-of-this-name/release", "/" + "long" * 100])
def test_a_folder_that_is_no_release_gets_a_sentence(staff, path):
    answer = staff.post(reverse("install_release"), {"folder": path})
    assert answer.status_code == 200 and 'class="error"' in answer.content.decode()
    assert not Release.objects.exists()


def test_activating_makes_its_profiles_the_sites(staff, folder):
    staff.post(reverse("install_release"), {"folder": str(folder)})
    release = Release.objects.get()
    assert staff.post(reverse("activate_release", args=[release.pk])).url == reverse("tag_again")
    release.refresh_from_db()
    assert release.active
    assert "in use" in staff.get(reverse("profiles")).content.decode()
    keys = [profile.key for profile in Profile.objects.filter(release=release)]
    assert keys[:5] == ["overall", "weighted", "category-specific", "high-precision", "high-recall"]
    assert "active since" in staff.get(reverse("release", args=[release.pk])).content.decode()


def test_a_release_whose_folder_is_gone_says_so(staff, folder):
    staff.post(reverse("install_release"), {"folder": str(folder)})
    release = Release.objects.get()
    (release.path / "config.json").unlink()
    answer = staff.post(reverse("activate_release", args=[release.pk]), follow=True)
    release.refresh_from_db()
    assert not release.active and "message-error" in answer.content.decode()


def test_a_release_that_is_not_there_is_not_found(staff):
    assert staff.get(reverse("release", args=[7])).status_code == 404
    assert staff.post(reverse("activate_release", args=[7])).status_code == 404


def files_of(folder):
    return [SimpleUploadedFile(file.name, file.read_bytes()) for file in sorted(folder.iterdir())]


def leftovers():
    return [path.name for path in settings.RELEASES_DIR.iterdir() if path.name.startswith(".")]


def test_a_folders_files_install_it(staff, folder):
    answer = staff.post(reverse("upload_release"), {"files": files_of(folder)})
    release = Release.objects.get()
    assert answer.url == reverse("release", args=[release.pk])
    assert release.path.parent == settings.RELEASES_DIR and (release.path / "model.safetensors").is_file()
    assert not release.active and not leftovers()
    page = staff.get(answer.url).content.decode()
    assert "new:" in page and "In memory" in page


def test_bad_files_install_nothing(staff, folder):
    url, htmx = reverse("upload_release"), {"HX-Request": "true"}
    part = [file for file in files_of(folder) if file.name != "vocabulary.json"]
    for files, said in [
        ([], "No file came"),
        (part, "has no vocabulary.json"),
        ([*files_of(folder), SimpleUploadedFile("model.pt", b"x")], "is a pickle"),
        ([SimpleUploadedFile("run.sh", b"x")], "is no part of a release"),
    ]:
        answer = staff.post(url, {"files": files}, headers=htmx)
        assert answer.status_code == 422 and said in answer.content.decode()
    assert staff.post(url).status_code == 400
    assert not Release.objects.exists() and not leftovers()


def test_names_with_folders_stay_inside(staff, folder, tmp_path):
    evil = SimpleUploadedFile("x.json", b"{}")
    evil._name = "../../evil.json"
    staff.post(reverse("upload_release"), {"files": [*files_of(folder), evil]})
    assert not list(tmp_path.glob("evil.json"))


def test_uploading_and_removing_are_for_staff(staff, client, folder):
    staff.post(reverse("install_release"), {"folder": str(folder)})
    for url in (reverse("upload_release"), reverse("remove_release", args=[Release.objects.get().pk])):
        assert staff.get(url).status_code == 405
        assert signed_in().post(url).status_code == 403
        assert client.post(url).url.startswith("/login/")
    assert Release.objects.exists()


def test_removing_takes_predictions_files_and_index_rows(staff, folder, django_capture_on_commit_callbacks):
    staff.post(reverse("install_release"), {"folder": str(folder)})
    release, active = Release.objects.get(), make_release("active")
    cat, dog = make_tag("a_cat"), make_tag("a_dog")
    only_old, both = make_post(), make_post()
    predict(only_old, release, {cat: 0.9})
    predict(both, release, {cat: 0.9})
    predict(both, active, {dog: 0.9})
    indexing.rebuild([only_old.pk, both.pk])
    page = " ".join(staff.get(reverse("release", args=[release.pk])).content.decode().split())
    assert "its 8 profiles, and what it predicted for 2 posts; 1 of them was tagged by no other release" in page
    with django_capture_on_commit_callbacks(execute=True):
        answer = staff.post(reverse("remove_release", args=[release.pk]), follow=True)
    assert "is removed" in answer.content.decode() and "1 post had" in answer.content.decode()
    assert not Release.objects.filter(pk=release.pk).exists() and not release.path.exists()
    assert TagIndex.objects.get(post=only_old).tag_ids == []
    assert TagIndex.objects.get(post=both).tag_ids == [dog.pk]


def test_the_active_release_is_not_removed(staff, folder):
    staff.post(reverse("install_release"), {"folder": str(folder)})
    release = Release.objects.get()
    staff.post(reverse("activate_release", args=[release.pk]))
    answer = staff.post(reverse("remove_release", args=[release.pk]), follow=True)
    assert "activate another release first" in answer.content.decode()
    assert Release.objects.exists() and release.path.exists()
    assert staff.post(reverse("remove_release", args=[999])).status_code == 404


def test_a_card_shows_the_pictures_of_its_release_and_no_other_file(staff, folder):
    (folder / "plot-tags.png").write_bytes(b"\x89PNG")
    (folder / "card.md").write_text("# Tiny\n\n![F1 of each tag](plot-tags.png)\n\n![x](config.json)\n")
    staff.post(reverse("install_release"), {"folder": str(folder)})
    release = Release.objects.get()
    page = staff.get(reverse("release", args=[release.pk])).content.decode()
    plot = reverse("release_plot", args=[release.pk, "plot-tags.png"])
    assert f'<img src="{plot}" alt="F1 of each tag"' in page and page.count("<figure>") == 1
    answer = staff.get(plot)
    assert answer["Content-Type"] == "image/png" and b"".join(answer.streaming_content) == b"\x89PNG"
    for name in ("config.json", "plot-none.png"):
        assert staff.get(reverse("release_plot", args=[release.pk, name])).status_code == 404
