import pytest
from django.urls import reverse

from gallery import profiles
from gallery.index import indexing
from gallery.models import Preference, Profile
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db
FORM = {"name": "Mine", "overall": "40", "category_general": "26.5", "category_artist": ""}


@pytest.fixture
def member():
    return signed_in()


def make_own(member, **fields):
    return Profile.objects.create(owner=member.user, key="mine", name="Mine", **fields)


def test_visitors_see_the_site_profiles_and_are_told_to_sign_in(client):
    make_site_profiles(make_release(), overall=0.3, category_specific=0.4)
    page = client.get(reverse("profiles")).content.decode()
    assert "30%" in page and "Sign in</a> to make" in page
    assert client.get(reverse("new_profile")).url.startswith("/login/")


def test_a_new_profile_begins_from_another(member):
    start = make_site_profiles(make_release(), overall=0.3)["overall"]
    page = member.get(reverse("new_profile"), {"from": start.pk}).content.decode()
    assert 'value="Copy of overall"' in page and 'value="30.0"' in page


def test_saving_and_using_a_profile(member):
    make_tag("long_hair")
    form = {**FORM, "tag": ["Long hair", ""], "tag_percent": ["90", ""], "use": "1"}
    assert member.post(reverse("new_profile"), form).url == reverse("profiles")
    saved = Profile.objects.get(owner=member.user)
    assert (saved.overall, saved.by_category, saved.by_tag) == (0.4, {"general": 0.265}, {"long_hair": 0.9})
    assert Preference.objects.get(user=member.user).profile == saved


def test_changing_a_profile_keeps_its_row(member):
    own = make_own(member)
    member.post(reverse("edit_profile", args=[own.pk]), {**FORM, "name": "Renamed"})
    own.refresh_from_db()
    assert (own.name, own.overall) == ("Renamed", 0.4)


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"overall": "101"}, {"overall": "nan"}, {"category_general": "x"}, {"tag": "nothing_here"}],
)
def test_bad_numbers_and_tags_get_a_sentence_and_save_nothing(member, wrong):
    answer = member.post(reverse("new_profile"), {**FORM, "tag_percent": "50", **wrong})
    assert 'role="alert"' in answer.content.decode()
    assert not Profile.objects.filter(owner=member.user).exists()


def test_nobody_changes_or_deletes_another_ones_profile(member):
    own = make_own(member)
    stranger = signed_in(is_staff=True)
    for name in ("edit_profile", "delete_profile"):
        assert stranger.post(reverse(name, args=[own.pk]), FORM).status_code == 404
    assert Profile.objects.filter(pk=own.pk).exists()


def test_deleting_a_profile_takes_a_post(member):
    own = make_own(member)
    assert member.get(reverse("delete_profile", args=[own.pk])).status_code == 405
    member.post(reverse("delete_profile", args=[own.pk]))
    assert not Profile.objects.filter(pk=own.pk).exists()


def test_the_preview_counts_what_comes_on_and_goes_off(member):
    release, tag, other = make_release(), make_tag("hat"), make_tag("smile")
    start = make_site_profiles(release, overall=0.5)["overall"]
    post = make_post()
    predict(post, release, {tag: 0.45, other: 0.55})
    indexing.rebuild([post.pk])
    page = member.post(reverse("preview_profile"), {"from": start.pk, "overall": "40"}).content.decode()
    assert "+1</strong> come on" in page and "−0</strong> go off" in page
    assert not Profile.objects.filter(owner=member.user).exists()


def test_the_preview_of_half_typed_numbers_waits(member):
    assert "Nothing to count yet" in member.post(reverse("preview_profile"), {"overall": "4x"}).content.decode()
    assert member.get(reverse("preview_profile")).status_code == 405


def test_deleting_the_profile_in_use_falls_back_to_the_default(member, rf):
    make_site_profiles(make_release(), category_specific=0.4)
    own = make_own(member)
    Preference.objects.create(user=member.user, profile=own)
    member.post(reverse("delete_profile", args=[own.pk]))
    request = rf.get("/")
    request.user, request.session = member.user, {}
    assert profiles.chosen(request).key == "category-specific"
