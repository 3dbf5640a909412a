import re

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.urls import reverse

from gallery.accounts import inviting, signing_in
from tests.gallery.making import make_user
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse"


@pytest.fixture(autouse=True)
def no_earlier_tries():
    cache.clear()


def sign_in(client, name, password=PASSWORD, **more):
    return client.post(reverse("login"), {"username": name, "password": password, **more})


def test_signing_in_goes_back_to_the_page_one_came_from(client):
    make_user("ana")
    assert sign_in(client, "ana", next="/upload/").url == "/upload/"
    assert client.get(reverse("account")).status_code == 200


def test_who_signs_in_from_an_open_page_is_not_told_that_it_is_for_members(client, settings):
    def told(target):
        return "is for members" in client.get(reverse("login"), {"next": target}).content.decode()

    assert [told(target) for target in ("/", "/?q=cat", "/posts/5/", "/tags/", "/nowhere/")] == [False] * 5
    assert told("/upload/") and told("/staff/people/?name=a") and told("/searches/")
    settings.SITE_MODE = "members"
    assert told("/posts/5/") and not told("/login/")


def test_signing_in_never_leads_to_another_site(client):
    make_user("ana")
    assert sign_in(client, "ana", next="https://example.org/").url == "/"


def test_a_wrong_password_gets_a_sentence(client):
    make_user("ana")
    answer = sign_in(client, "ana", "wrong")
    assert "wrong" in answer.content.decode()
    assert client.get(reverse("account")).status_code == 302


def test_after_a_mistake_one_goes_on_where_something_is_missing(client):
    def focused(page):
        (field,) = [line for line in page.content.decode().split("<") if "autofocus" in line]
        return re.search('name="([a-z]+)"', field)[1]

    make_user("ana")
    assert focused(client.get(reverse("login"))) == "username"
    assert focused(sign_in(client, "ana", "wrong")) == "password"
    assert focused(sign_in(client, "ana", "")) == "password"
    assert focused(sign_in(client, "", "wrong")) == "username"


def test_guessing_is_slowed_down_per_name_and_address(client):
    make_user("ana")
    for _ in range(signing_in.WRONG_TRIES):
        sign_in(client, "ana", "wrong")
    assert "Too many wrong tries" in sign_in(client, "Ana").content.decode()
    elsewhere = client.post(reverse("login"), {"username": "ana", "password": PASSWORD}, REMOTE_ADDR="192.0.2.7")
    assert elsewhere.status_code == 302


def test_behind_the_proxy_each_address_has_its_own_tries(client, settings):
    settings.PROXIES = 1
    make_user("ana")
    wrong, right = ({"username": "ana", "password": password} for password in ("wrong", PASSWORD))
    for number in range(signing_in.WRONG_TRIES):  # what a stranger writes himself stands before what the proxy saw
        client.post(reverse("login"), wrong, headers={"X-Forwarded-For": f"10.0.0.{number}, 192.0.2.7"})
    late = client.post(reverse("login"), right, headers={"X-Forwarded-For": "192.0.2.7"})
    assert "Too many wrong tries" in late.content.decode()
    assert client.post(reverse("login"), right, headers={"X-Forwarded-For": "192.0.2.8"}).status_code == 302


def test_behind_two_proxies_the_person_stands_before_the_last(client, settings):
    settings.PROXIES = 2
    make_user("ana")
    wrong, right = ({"username": "ana", "password": password} for password in ("wrong", PASSWORD))
    for number in range(signing_in.WRONG_TRIES):
        client.post(reverse("login"), wrong, headers={"X-Forwarded-For": f"10.0.0.{number}, 192.0.2.7, 172.18.0.2"})
    late = client.post(reverse("login"), right, headers={"X-Forwarded-For": "192.0.2.7, 172.18.0.2"})
    assert "Too many wrong tries" in late.content.decode()
    elsewhere = client.post(reverse("login"), right, headers={"X-Forwarded-For": "192.0.2.8, 172.18.0.2"})
    assert elsewhere.status_code == 302


def test_the_addresses_of_one_ipv6_connection_share_their_tries(client):
    make_user("ana")
    wrong, right = ({"username": "ana", "password": password} for password in ("wrong", PASSWORD))
    for number in range(signing_in.WRONG_TRIES):
        client.post(reverse("login"), wrong, REMOTE_ADDR=f"2001:db8:0:1:{number}::1")
    late = client.post(reverse("login"), right, REMOTE_ADDR="2001:db8:0:1:ffff::2")
    assert "Too many wrong tries" in late.content.decode()
    assert client.post(reverse("login"), right, REMOTE_ADDR="2001:db8:0:2::1").status_code == 302


def test_an_ipv4_address_is_the_same_written_as_ipv6(client):
    make_user("ana")
    for _ in range(signing_in.WRONG_TRIES):
        client.post(reverse("login"), {"username": "ana", "password": "wrong"}, REMOTE_ADDR="::ffff:192.0.2.7")
    right = {"username": "ana", "password": PASSWORD}
    assert "Too many" in client.post(reverse("login"), right, REMOTE_ADDR="192.0.2.7").content.decode()
    assert client.post(reverse("login"), right, REMOTE_ADDR="::ffff:192.0.2.8").status_code == 302


def test_trying_many_names_ends_before_passwords_are_hashed(client, monkeypatch):
    make_user("ana")
    for number in range(signing_in.WRONG_TRIES_IN_ALL):
        assert "is wrong" in sign_in(client, f"name{number}", "wrong").content.decode()
    hashed = []
    monkeypatch.setattr(User, "check_password", lambda user, password: hashed.append(password))
    assert "from your address" in sign_in(client, "ana").content.decode() and not hashed


def test_a_closed_account_cant_sign_in(client):
    make_user("ana", is_active=False)
    assert sign_in(client, "ana").status_code == 200


def test_signing_out_takes_a_post():
    client = signed_in()
    assert client.get(reverse("logout")).status_code == 405
    assert client.get(reverse("account")).status_code == 200
    client.post(reverse("logout"))
    assert client.get(reverse("account")).status_code == 302


def test_the_first_admin_joins_by_the_first_link(client):
    url = reverse("join", args=[inviting.first_admin_token()])
    assert "first admin" in client.get(url).content.decode()
    assert client.post(url, {"username": "mira", "password": PASSWORD}).url == reverse("browse")
    assert client.get(reverse("account")).status_code == 200
    assert User.objects.get().is_superuser


def test_a_used_link_says_so(client):
    make_user("mira", is_superuser=True)
    url = reverse("join", args=[inviting.invite("member")[1]])
    client.post(url, {"username": "ana", "password": PASSWORD})
    client.post(reverse("logout"))
    answer = client.get(url)
    assert answer.status_code == 410 and "used already" in answer.content.decode()
    assert client.get(reverse("join", args=["nonsense"])).status_code == 410


@pytest.mark.parametrize(("name", "password"), [("ana", PASSWORD), ("new", "12345678"), ("a b", PASSWORD), ("", "")])
def test_a_bad_name_or_password_keeps_the_link_good(client, name, password):
    make_user("Ana")
    url = reverse("join", args=[inviting.invite("member")[1]])
    assert 'role="alert"' in client.post(url, {"username": name, "password": password}).content.decode()
    assert client.post(url, {"username": "someone", "password": PASSWORD}).status_code == 302


def test_changing_the_password_keeps_this_session(client):
    user = make_user("ana")
    sign_in(client, "ana")
    form = {"old_password": PASSWORD, "new_password1": "battery-staple", "new_password2": "battery-staple"}
    assert 'role="alert"' in client.post(reverse("account"), {**form, "old_password": "wrong"}).content.decode()
    assert client.post(reverse("account"), form).url == reverse("account")
    assert client.get(reverse("account")).status_code == 200
    user.refresh_from_db()
    assert user.check_password("battery-staple")
