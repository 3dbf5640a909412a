from __future__ import annotations

import codecs
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import SimpleLazyObject

from gallery.accounts import members
from gallery.http import OPEN_TO_ALL, to_login

View = Callable[[HttpRequest], HttpResponse]

_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def members_only(get_response: View) -> View:
    """On a site for members only, send strangers to the login page, pictures included."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.startswith(settings.MEDIA_URL):
            request.user = SimpleLazyObject(lambda: members.alone(request))
        closed = settings.SITE_MODE == "members" and not request.user.is_authenticated
        if closed and not request.path.startswith(OPEN_TO_ALL):
            return to_login(request)
        return get_response(request)

    return middleware


def readable_address(get_response: View) -> View:
    """Refuse null characters, and encodings that lead to them or to halves of surrogate pairs.

    No row can hold either, and the database says so by an error.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        if "\0" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
            raise BadRequest("The address has a null character in it.")
        if request.encoding and codecs.lookup(request.encoding).name != "utf-8":
            raise BadRequest("The request is not in UTF-8.")
        if "\0" in request.COOKIES.get(settings.SESSION_COOKIE_NAME, ""):
            raise BadRequest("The session's cookie has a null character in it.")
        return get_response(request)

    return middleware


def content_security_policy(get_response: View) -> View:
    """Nothing is loaded from other hosts, and an uploaded file can't run as a page."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        return response

    return middleware


def forms_only(get_response: View) -> View:
    """Say in words that an address only takes forms, for who comes back to one: browsers show an empty page."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code != 405 or request.method != "GET" or response.content:
            return response
        page = render(request, "405.html", status=405)
        page.headers["Allow"] = response["Allow"]
        return page

    return middleware
