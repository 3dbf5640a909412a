import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from gallery.accounts import inviting
from gallery.models import Invitation
from tests.gallery.making import make_user
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin():
    return signed_in(is_staff=True, is_superuser=True)


def test_an_invitation_link_is_shown_once_and_works(admin, client):
    page = admin.post(reverse("invite"), {"role": "member", "days": 3}).content.decode()
    link = re.search(r'value="http://testserver(/join/[^"]+)"', page)[1]
    assert link not in admin.get(reverse("people")).content.decode()
    assert client.post(link, {"username": "ana", "password": "correct-horse"}).status_code == 302


def test_who_comes_back_to_where_a_form_went_gets_words(admin):
    answer = admin.get(reverse("invite"))
    assert answer.status_code == 405 and answer["Allow"] == "POST"
    assert "This address has nothing to show" in answer.content.decode()


def test_a_profile_can_be_chosen_where_a_link_is_shown(admin):
    page = admin.post(reverse("invite"), {"role": "member", "days": 3}).content.decode()
    assert re.findall(r'name="next" value="([^"]+)"', page) == [reverse("people")]
    page = admin.get(reverse("people"), {"name": "a"}).content.decode()
    assert re.findall(r'name="next" value="([^"]+)"', page) == [reverse("people") + "?name=a"]


@pytest.mark.parametrize("wrong", [{"role": "king", "days": 3}, {"role": "member", "days": 0}, {}])
def test_a_bad_invitation_gets_a_sentence(admin, wrong):
    assert 'role="alert"' in admin.post(reverse("invite"), wrong).content.decode()
    assert not Invitation.objects.exists()


def test_only_an_admin_invites_staff():
    staff = signed_in(is_staff=True)
    assert "Only an admin" in staff.post(reverse("invite"), {"role": "staff", "days": 3}).content.decode()
    assert not Invitation.objects.exists()


def test_a_revoked_link_no_longer_opens(admin, client):
    invitation, token = inviting.invite("member")
    admin.post(reverse("revoke_invitation", args=[invitation.pk]))
    assert client.get(reverse("join", args=[token])).status_code == 410


@pytest.mark.parametrize(
    ("act", "field", "value"),
    [("staff", "is_staff", True), ("close", "is_active", False)],
)
def test_an_admin_changes_people(admin, act, field, value):
    person = make_user()
    admin.post(reverse("change_person", args=[person.pk]), {"act": act})
    person.refresh_from_db()
    assert getattr(person, field) is value


def test_people_come_in_pages_and_are_found_by_name(admin):
    User.objects.bulk_create(User(username=f"person{number:02}") for number in range(51))
    first = admin.get(reverse("people")).content.decode()
    assert "person00" in first and "person50" not in first and "1 of 2" in first
    found = admin.get(reverse("people"), {"name": "SON50"}).content.decode()
    assert "person50" in found and "person00" not in found
    assert "Nobody here" in admin.get(reverse("people"), {"name": "zebra"}).content.decode()


def test_closing_an_account_signs_it_out(admin):
    member = signed_in()
    admin.post(reverse("change_person", args=[member.user.pk]), {"act": "close"})
    assert member.get(reverse("account")).status_code == 302
    admin.post(reverse("change_person", args=[member.user.pk]), {"act": "open"})
    member.user.refresh_from_db()
    assert member.user.is_active


@pytest.mark.parametrize("act", ["close", "member"])
def test_who_is_sent_away_leaves_no_invitation(admin, act):
    staff, other = make_user(is_staff=True), make_user(is_staff=True)
    theirs, kept = (inviting.invite("member", maker)[1] for maker in (staff, other))
    admin.post(reverse("change_person", args=[staff.pk]), {"act": act})
    assert Client().get(reverse("join", args=[theirs])).status_code == 410
    assert Client().get(reverse("join", args=[kept])).status_code == 200
    admin.post(reverse("change_person", args=[staff.pk]), {"act": {"close": "open", "member": "staff"}[act]})
    assert Client().get(reverse("join", args=[theirs])).status_code == 410


def test_nobody_changes_themselves_or_does_what_is_not_offered(admin):
    admin.post(reverse("change_person", args=[admin.user.pk]), {"act": "close"})
    admin.user.refresh_from_db()
    assert admin.user.is_active
    person = make_user()
    answer = admin.post(reverse("change_person", args=[person.pk]), {"act": "dance"}, follow=True)
    assert "Nothing changed" in answer.content.decode()


def test_staff_close_members_but_not_staff():
    staff, member, colleague = signed_in(is_staff=True), make_user(), make_user(is_staff=True)
    for person in (member, colleague):
        staff.post(reverse("change_person", args=[person.pk]), {"act": "close"})
        person.refresh_from_db()
    assert (member.is_active, colleague.is_active) == (False, True)


def test_an_admin_gives_a_new_password_to_who_forgot_theirs(admin, client):
    person = make_user("ana")
    link = re.search(r'href="(/admin/[^"]+)">New password', admin.get(reverse("people")).content.decode())[1]
    words = {"password1": "correct-horse-2", "password2": "correct-horse-2", "usable_password": "true"}
    assert admin.post(link, words).status_code == 302
    assert client.login(username=person.username, password="correct-horse-2")
    assert "New password" not in signed_in("staff", is_staff=True).get(reverse("people")).content.decode()
