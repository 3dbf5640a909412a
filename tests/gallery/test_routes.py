"""Every route, by what it asks of its visitor: strangers and members are turned away where they must be."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, reverse
from django.urls.converters import get_converters

from gallery.urls import urlpatterns

NOT_THERE = {"int": 4711, "str": "nothing", "path": "original/00/00/none.png"}
NAMES = sorted(pattern.name for pattern in urlpatterns if isinstance(pattern, URLPattern))
PATTERNS = {pattern.name: pattern for pattern in urlpatterns if isinstance(pattern, URLPattern)}

FOR_ALL = {"browse", "suggest", "post", "tags", "tag", "media", "choose_profile", "profiles", "login", "join", "health"}
FOR_ALL |= {"related", "search_help", "similar_posts", "logout", "prediction", "preview_profile"}
OPEN_ON_A_CLOSED_SITE = {"login", "join", "health"}


def url(name: str) -> str:
    kinds = {type(converter): kind for kind, converter in get_converters().items()}
    converters = PATTERNS[name].pattern.converters
    return reverse(name, kwargs={key: NOT_THERE[kinds[type(kind)]] for key, kind in converters.items()})


def is_for_staff(name: str) -> bool:
    return url(name).startswith("/staff/")


def is_sent_to_login(client: Client, name: str, method: str) -> bool:
    response = getattr(client, method)(url(name))
    return response.status_code == 302 and response["Location"].startswith("/login/")


def answers(client: Client, name: str) -> set[int]:
    return {getattr(client, method)(url(name)).status_code for method in ("get", "post")}


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in NAMES if name not in FOR_ALL])
def test_strangers_are_sent_to_the_login_page(client: Client, name: str) -> None:
    # A method that a route doesn't take is refused (405) before or after the visitor is asked for.
    assert any(is_sent_to_login(client, name, method) for method in ("get", "post"))
    assert answers(client, name) <= {302, 405}


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in NAMES if is_for_staff(name)])
def test_members_are_turned_away_from_the_staffs_pages(client: Client, name: str) -> None:
    client.force_login(User.objects.create_user("member"))
    found = answers(client, name)
    assert 403 in found
    assert found <= {403, 405}


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in NAMES if name not in OPEN_ON_A_CLOSED_SITE])
def test_a_site_for_members_shows_strangers_nothing(client: Client, name: str, settings) -> None:
    settings.SITE_MODE = "members"
    assert all(is_sent_to_login(client, name, method) for method in ("get", "post"))


@pytest.mark.django_db
@pytest.mark.parametrize("name", NAMES)
def test_no_route_breaks_on_what_is_not_there(client: Client, name: str) -> None:
    client.raise_request_exception = False
    assert 500 not in answers(client, name)
    client.force_login(User.objects.create_superuser("admin"))
    assert 500 not in answers(client, name)
