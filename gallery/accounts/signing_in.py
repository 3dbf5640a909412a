"""Sign a person in by name and password, and slow down whoever guesses."""

from __future__ import annotations

import hashlib
import ipaddress

from django.conf import settings
from django.contrib.auth import authenticate, login
from django.core.cache import cache
from django.http import HttpRequest

WRONG_TRIES = 5  # at one name
WRONG_TRIES_IN_ALL = 30  # at any names
WAIT_SECONDS = 300


class SignInError(Exception):
    """A sentence for the person who signs in."""


def sign_in(request: HttpRequest, username: str, password: str) -> None:
    """Put the person into the session; raises SignInError.

    Wrong tries are counted per name and address, so that a stranger elsewhere can't lock a member out; and per
    address for all names together, since each try costs a hash on purpose.
    """
    here = _network(_address(request))
    at_name, in_all = _key(f"{username.casefold()}\n{here}"), _key(here)
    tries = cache.get_many([at_name, in_all])
    if tries.get(at_name, 0) >= WRONG_TRIES:
        raise SignInError(f"Too many wrong tries for this name: wait {WAIT_SECONDS // 60} minutes and try again.")
    if tries.get(in_all, 0) >= WRONG_TRIES_IN_ALL:
        raise SignInError(f"Too many wrong tries from your address: wait {WAIT_SECONDS // 60} minutes and try again.")
    user = authenticate(request, username=username, password=password)
    if user is None:
        _count(at_name)
        cache.touch(at_name, timeout=WAIT_SECONDS)  # the wait begins again with each
        _count(in_all)  # that of an address does not: many people may share it
        raise SignInError("The name or the password is wrong: check both; capital letters count in the password.")
    cache.delete(at_name)
    login(request, user)


def _key(who: str) -> str:
    return f"wrong-tries:{hashlib.sha256(who.encode()).hexdigest()}"


def _network(address: str) -> str:
    """What one person may hold: an IPv4 address, or the 2^64 IPv6 addresses of a connection."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and not found.ipv4_mapped:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)


def proxy_is_unknown(request: HttpRequest) -> bool:
    """Whether a proxy passed this on that no setting tells of: then all people share its address, and their tries."""
    return not settings.PROXIES and "X-Forwarded-For" in request.headers


def _address(request: HttpRequest) -> str:
    """Where the person is. Each proxy adds the address it saw at the end; anybody can write what stands before."""
    seen = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",") if part.strip()]
    if settings.PROXIES and seen:
        return seen[-min(settings.PROXIES, len(seen))]
    return request.META.get("REMOTE_ADDR", "")


def _count(key: str) -> None:
    """One more wrong try."""
    cache.add(key, 0, timeout=WAIT_SECONDS)
    try:
        cache.incr(key)
    except ValueError:  # it expired in between
        cache.set(key, 1, timeout=WAIT_SECONDS)
