"""Who may see the monitor: this machine's browsers, or whoever has the token that the address carries.

A page of another site must not read it either: a name that only pretends to be ours (DNS rebinding) is refused by the
Host header, and other sites' requests by what the browser says of where they come from.
"""

import hmac
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie


@dataclass(frozen=True)
class Access:
    host: str  # the address the monitor listens on
    token: str = ""  # empty: none is asked for
    names: frozenset[str] = field(default_factory=frozenset)
    cookie: str = "monitor"  # browsers share cookies between ports, so each monitor's has a name of its own

    @classmethod
    def of(cls, host: str, token: str = "", names: Sequence[str] = (), port: int = 0) -> "Access":
        """`names` are further host names by which people reach this machine."""
        own = {"localhost", host, *names}
        if not is_loopback(host):
            own |= {socket.gethostname(), socket.getfqdn()}
        return cls(host, token, frozenset(name.lower().rstrip(".") for name in own), f"monitor-{port}")

    def knows(self, header: str | None) -> bool:
        """Whether a Host header names us. An address cannot be rebound, so all of them may pass."""
        name = host_of(header or "")
        return name in self.names or is_address(name)

    def has_token(self, cookies: str | None) -> bool:
        if not self.token:
            return True
        try:
            cookie = SimpleCookie(cookies or "").get(self.cookie)
        except CookieError:
            return False
        return bool(cookie) and self.is_token(cookie.value)

    def is_token(self, text: str) -> bool:
        return bool(self.token) and hmac.compare_digest(text.encode(), self.token.encode())


def comes_from_elsewhere(site: str | None, destination: str | None) -> bool:
    """By Sec-Fetch-Site and Sec-Fetch-Dest: a link on another site may open the page, nothing else may be had."""
    return site in ("cross-site", "same-site") and destination != "document"


def host_of(header: str) -> str:
    """A Host header without its port, in lower case."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].split("]", 1)[0]
    return text.split(":", 1)[0].rstrip(".") if text.count(":") < 2 else text


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
