import threading
from datetime import timedelta

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.db import connection
from django.utils import timezone

from gallery.accounts import inviting
from gallery.accounts.inviting import InvitationError
from gallery.models import Invitation
from tests.gallery.making import make_user

PASSWORD = "correct-horse-battery"


@pytest.mark.django_db
def test_an_invitation_makes_one_account():
    admin = make_user(is_superuser=True)
    invitation, token = inviting.invite("member", created_by=admin)
    assert token not in (invitation.token_hash, str(invitation))
    user = inviting.accept(token, " ann ", PASSWORD)
    assert (user.username, user.is_staff, user.is_superuser) == ("ann", False, False)
    assert authenticate(username="ann", password=PASSWORD) == user
    with pytest.raises(InvitationError, match="used already"):
        inviting.accept(token, "bob", PASSWORD)
    invitation.refresh_from_db()
    assert invitation.used_by == user


@pytest.mark.django_db
def test_the_first_staff_account_is_the_admin():
    first = inviting.first_admin_token()
    token = inviting.first_admin_token()
    with pytest.raises(InvitationError, match="not an invitation"):
        inviting.accept(first, "early", PASSWORD)
    assert inviting.accept(token, "admin", PASSWORD).is_superuser
    assert inviting.first_admin_token() is None
    second = inviting.accept(inviting.invite("staff")[1], "helper", PASSWORD)
    assert (second.is_staff, second.is_superuser) == (True, False)


@pytest.mark.django_db
def test_a_site_whose_admins_are_closed_gets_a_new_one(client):
    make_user(is_superuser=True, is_active=False)
    token = inviting.first_admin_token()
    assert "first admin" in client.get(f"/join/{token}/").content.decode()
    assert inviting.accept(token, "admin", PASSWORD).is_superuser


@pytest.mark.django_db
def test_a_link_is_worth_what_its_maker_may_still_do():
    maker = make_user(is_superuser=True, is_staff=True)
    staff, member = (inviting.invite(role, maker)[1] for role in ("staff", "member"))
    get_user_model().objects.filter(pk=maker.pk).update(is_superuser=False)
    with pytest.raises(InvitationError, match="is void"):
        inviting.accept(staff, "ann", PASSWORD)
    assert inviting.find(member).open
    get_user_model().objects.filter(pk=maker.pk).update(is_active=False)
    with pytest.raises(InvitationError, match="is void"):
        inviting.accept(member, "ann", PASSWORD)


@pytest.mark.django_db
def test_bad_links_and_accounts_are_refused_and_the_link_stays_good():
    make_user("taken")
    token = inviting.invite("member")[1]
    for username, password, message in [
        ("Taken", PASSWORD, "taken"),
        ("", PASSWORD, "blank"),
        ("a b!", PASSWORD, "valid username"),
        ("ann", "12345", "too short"),
    ]:
        with pytest.raises(InvitationError, match=message):
            inviting.accept(token, username, password)
    assert inviting.find(token).open
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(InvitationError, match="too old"):
        inviting.accept(token, "ann", PASSWORD)
    with pytest.raises(InvitationError, match="not an invitation"):
        inviting.accept("nonsense", "ann", PASSWORD)


@pytest.mark.django_db(transaction=True)
def test_one_link_used_twice_at_once_makes_one_account():
    token, start, refused = inviting.first_admin_token(), threading.Barrier(3), []

    def accept(name: str) -> None:
        start.wait()
        try:
            inviting.accept(token, name, PASSWORD)
        except InvitationError as error:
            refused.append(error)
        connection.close()

    threads = [threading.Thread(target=accept, args=(name,)) for name in ("a1", "b2", "c3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 2
    assert get_user_model().objects.filter(is_superuser=True).count() == 1
