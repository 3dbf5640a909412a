"""Whole pages over HTTP from the web server as `up` starts it: `python -m tests.benchmarks.pages --posts N`.

On a made collection: the first page, one tag, three tags, page 500, a search that finds nothing, a post's page,
autocomplete; for visitors, and for a member with a profile of their own, a blacklist and saved searches. Wall
milliseconds, queries a page (counted in this process, by the same views) and bytes. The last line is JSON.
"""

from __future__ import annotations

import argparse
import atexit
import http.client
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote_plus

import numpy as np

from tests import stack
from tests.benchmarks import kept, stage
from tests.benchmarks.collection import Collection

WARM, TIMED = 10, 60


def addresses(collection: Collection) -> dict[str, Callable[[], str]]:
    """What makes an address of each kind of page, another one each time."""
    chance, names, general = np.random.default_rng(11), collection.world.names, collection.world.general

    def tag(low: int, high: int) -> str:
        return names[general[chance.integers(low, high)]]

    def search(*terms: str) -> str:
        return f"/?q={quote_plus(' '.join(terms))}"

    return {
        "first page": lambda: "/",
        "one tag": lambda: search(tag(0, 3_000)),
        "three tags": lambda: search(tag(0, 60), tag(60, 3_000), "-" + tag(0, 60)),
        "page 500": lambda: "/?page=500",
        "nothing": lambda: search(tag(0, 60), tag(60, 3_000), tag(60, 3_000), f"id:<{chance.integers(2, 50)}"),
        "post": lambda: f"/posts/{chance.integers(1, collection.posts)}/{search(tag(0, 60))[1:]}",
        "autocomplete": lambda: (
            f"/suggest/?q={quote_plus(tag(0, 60) + ' ' + tag(0, 20_000)[: chance.integers(3, 11)])}"
        ),
    }


def member_session(collection: Collection) -> str:
    """A session of a member who uses all that is read with an account."""
    from django.conf import settings
    from django.test import Client

    from gallery import blacklisting, profiles, saving
    from tests.gallery.making import make_user

    some = [collection.world.names[number] for number in collection.world.general[2_000:2_030]]
    user = make_user()
    mine = profiles.save_own(user, "mine", 0.5, {"general": 0.4}, dict.fromkeys(some[:10], 0.6))
    profiles.choose(SimpleNamespace(user=user), mine)
    blacklisting.store(user, "\n".join(some[10:20]))
    for name in some[20:]:
        saving.save(user, name, "", profiles.resolve(mine))
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def start_server() -> int:
    """The web server in a process of its own; its port."""
    from gallery.launch.launcher import web_server

    port = stack.free_port()
    process = subprocess.Popen(web_server("127.0.0.1", port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(process.wait, 20)
    atexit.register(process.terminate)
    assert stack.eventually(lambda: _answers(port), 60), "the web server does not answer"
    return port


def _answers(port: int) -> bool:
    try:
        return _get(http.client.HTTPConnection("127.0.0.1", port, timeout=60), "/health/")[0] > 0
    except OSError:
        return False


def _get(connection: http.client.HTTPConnection, address: str, session: str = "") -> tuple[float, int]:
    """Wall milliseconds and bytes of one page."""
    began = time.perf_counter()
    connection.request("GET", address, headers={"Cookie": f"sessionid={session}"} if session else {})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, f"{address} answers {answer.status}"
    return (time.perf_counter() - began) * 1000, len(body)


def queries(make: Callable[[], str], session: str, pages: int = 10) -> int:
    """The most queries that a page of this kind took, shown once more: what a process asks twice a minute, or once
    for a blacklist, is left out.
    """
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    most, client = 0, Client()
    if session:
        client.cookies["sessionid"] = session
    client.get(make())
    for _ in range(pages):
        address, took = make(), []
        for _ in range(3):
            with CaptureQueriesContext(connection) as captured:
                client.get(address)
            took.append(len(captured))
        most = max(most, min(took[1:]))
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kept.add_options(parser, 50_000)
    asked = parser.parse_args()
    folder, collection = kept.start(asked.posts, asked.keep)
    Path(folder / "data" / "static").mkdir(parents=True, exist_ok=True)
    connection = http.client.HTTPConnection("127.0.0.1", start_server(), timeout=60)
    rows, last, member = [], {}, member_session(collection)
    kinds = [(name, make, "") for name, make in addresses(collection).items()]
    for name, make, session in kinds + [(f"member {name}", make, member) for name, make, _ in kinds]:
        for _ in range(WARM):
            _get(connection, make(), session)
        walls, sizes = zip(*(_get(connection, make(), session) for _ in range(TIMED)), strict=True)
        found = stage.percentiles(walls)
        rows.append([name, *found, queries(make, session), int(np.mean(sizes))])
        key = name.replace(" ", "_")
        last |= {
            f"{key}_p50_ms": round(found[0], 2),
            f"{key}_p95_ms": round(found[1], 2),
            f"{key}_queries": rows[-1][4],
        }
    stage.table(
        f"whole pages of {asked.posts:,} posts, ms", ("page", "wall p50", "p95", "max", "queries", "bytes"), rows
    )
    print(json.dumps(last))


if __name__ == "__main__":
    main()
