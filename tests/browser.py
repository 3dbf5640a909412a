"""Fixtures for journeys: `site`, the real stack on a fresh data folder, and `page`, a strict browser page.

A plugin (`-p tests.browser`), so that every test folder can use them. On a page any console error,
failed request, refused content or request to another host fails the test; a test that provokes one
puts a part of its text into `expected_errors`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests import chromium
from tests.stack import Site, start

_FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_HERE = ("127.0.0.1", "localhost", "")
NewPage = Callable[..., Page]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The whole site as `manage.py up` starts it: web server, workers, beat, servers of its own."""
    running = start(tmp_path_factory.mktemp("site") / "data")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    if not path:
        pytest.fail(chromium.MISSING)
    # Playwright's loop lives in this thread; Django would refuse the database beside it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield running
        running.close()


@pytest.fixture
def expected_errors() -> list[str]:
    """Parts of the errors that this test provokes."""
    return []


def _watch(context: BrowserContext, errors: list[str]) -> None:
    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in _HERE:
            errors.append(f"request to another host: {request.url}")

    def on_failed(request: Request) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):  # a page that is left ends its own requests
            errors.append(f"failed request: {request.url} {request.failure}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(f"console: {message.text}")

    context.on("request", on_request)
    context.on("requestfailed", on_failed)
    context.on("console", on_console)
    context.on("weberror", lambda error: errors.append(f"script: {error.error}"))


@pytest.fixture
def new_page(browser: Browser, expected_errors: list[str]) -> Iterator[NewPage]:
    """Makes pages of separate people: each has cookies of its own; words go to Playwright's new_context."""
    errors: list[str] = []
    contexts: list[BrowserContext] = []

    def make(**words: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-US", **words})
        context.set_default_timeout(15_000)
        contexts.append(context)
        _watch(context, errors)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()
    unexpected = [error for error in errors if not any(part in error for part in expected_errors)]
    assert not unexpected, "the pages complained:\n" + "\n".join(unexpected)


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """One page of one visitor."""
    return new_page()
