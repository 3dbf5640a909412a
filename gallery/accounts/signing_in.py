"""Sign a person in by name and password, and slow down whoever guesses."""

from __future__ import annotations

import hashlib

from django.conf import settings
from django.contrib.auth import authenticate, login
from django.core.cache import cache
from django.http import HttpRequest

WRONG_TRIES = 5
WAIT_SECONDS = 300


class SignInError(Exception):
    """A sentence for the person who signs in."""


def sign_in(request: HttpRequest, username: str, password: str) -> None:
    """Put the person into the session; raises SignInError.

    Wrong tries are counted per name and address, so that a stranger elsewhere can't lock a member out.
    """
    key = _key(request, username)
    if cache.get(key, 0) >= WRONG_TRIES:
        raise SignInError(f"Too many wrong tries for this name: wait {WAIT_SECONDS // 60} minutes and try again.")
    user = authenticate(request, username=username, password=password)
    if user is None:
        _count(key)
        raise SignInError("The name or the password is wrong: check both; capital letters count in the password.")
    cache.delete(key)
    login(request, user)


def _key(request: HttpRequest, username: str) -> str:
    pair = f"{username.casefold()}\n{_address(request)}"
    return f"wrong-tries:{hashlib.sha256(pair.encode()).hexdigest()}"


def _address(request: HttpRequest) -> str:
    """Where the person is. Each proxy adds the address it saw at the end; anybody can write what stands before."""
    seen = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",") if part.strip()]
    if settings.PROXIES and seen:
        return seen[-min(settings.PROXIES, len(seen))]
    return request.META.get("REMOTE_ADDR", "")


def _count(key: str) -> None:
    """One more wrong try; the wait begins again with each."""
    cache.add(key, 0, timeout=WAIT_SECONDS)
    try:
        cache.incr(key)
    except ValueError:  # it expired in between
        cache.set(key, 1, timeout=WAIT_SECONDS)
    cache.touch(key, timeout=WAIT_SECONDS)
