"""A blacklist as somebody lives with it: written, met in a list, lifted by key, and on a phone without a script."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.people import seed_pictures, sign_in
from tests.stack import Site

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def reader(site: Site, page: Page) -> Page:
    """A signed-in page of a site that has a post at least."""
    sign_in(page, site)
    page.goto(f"{site.address}/upload/")
    page.locator("#files").set_input_files(str(seed_pictures(("OpenMoji",))[0]))
    expect(page.locator("#upload-rows > li").first.locator("a[data-post]")).to_be_visible()
    yield page
    write(page, site, "")


def write(page: Page, site: Site, text: str) -> None:
    page.goto(f"{site.address}/account/blacklist/")
    page.get_by_label("A search a line").fill(text)
    page.get_by_role("button", name="Save").click()


def test_what_a_line_names_is_hidden_until_asked_for(
    site: Site, reader: Page, new_page: Callable[..., Page], expected_errors: list[str]
) -> None:
    expected_errors.append("status of 422")  # of the line that can't be read
    page, tiles = reader, reader.locator("#posts .thumbnail")
    page.goto(f"{site.address}/")
    count = tiles.count()
    newest = page.locator("main a[href^='/posts/']").first.get_attribute("href") or ""
    write(page, site, "(id:1")
    expect(page.get_by_role("alert")).to_contain_text("Line 1")
    expect(page.get_by_role("alert")).to_contain_text("never closed")
    number = newest.split("/")[2]
    write(page, site, f"id:{number}")
    expect(page.get_by_text("Your blacklist is saved.")).to_be_visible()

    page.goto(f"{site.address}/")
    expect(tiles).to_have_count(count - 1)
    bar = page.get_by_role("form", name="Blacklist")
    expect(bar).to_contain_text("1 hidden by your blacklist")
    page.keyboard.press("b")
    expect(tiles).to_have_count(count)
    page.keyboard.press("b")
    expect(tiles).to_have_count(count - 1)
    page.goto(f"{site.address}{newest}")
    expect(page.locator("main img").first).to_be_visible()

    state = page.context.storage_state()
    phone = new_page(
        viewport={"width": 390, "height": 844}, has_touch=True, java_script_enabled=False, storage_state=state
    )
    phone.goto(f"{site.address}/")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.get_by_role("button", name=f"id:{number}").tap()
    expect(phone.locator("#posts .thumbnail")).to_have_count(count)
    phone.goto(f"{site.address}/?q=id:{number}")
    expect(phone.locator("#posts .thumbnail")).to_have_count(1)
