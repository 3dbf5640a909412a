import pytest
from django.urls import reverse

from gallery.models import Profile, Release
from tests.gallery.making import make_post
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
