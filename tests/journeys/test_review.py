"""Questions answered by keys, one after the other, on a desktop and on a phone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import NewPage
from tests.journeys.people import seed_pictures, sign_in
from tests.journeys.test_loop import upload
from tests.stack import Site

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SHOTS = os.environ.get("SCREENSHOTS")  # a folder, to look at the page oneself


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def asked(page: Page) -> str:
    """What is asked now: the tag and its post."""
    title = page.locator(".review-picture").get_attribute("title") or ""
    return f"{page.locator('.review-tag').inner_text()} {title}"


def press(page: Page, key: str, before: str) -> str:
    """Presses a key and waits for another question; which it is."""
    page.keyboard.press(key)
    page.wait_for_function(
        """before => {
            const title = document.querySelector(".review-picture")?.title ?? "";
            return `${document.querySelector(".review-tag")?.innerText} ${title}` !== before;
        }""",
        arg=before,
    )
    return asked(page)


def test_keys_answer_skip_go_back_and_undo(site: Site, new_page: NewPage) -> None:
    page = new_page()
    sign_in(page, site)
    upload(page, site, seed_pictures(("OpenMoji", "DiceBear", "comicgen")))
    page.get_by_role("link", name="Review").first.click()
    first = asked(page)
    shoot(page, "review-light")
    second = press(page, "y", first)
    expect(page.get_by_role("status").filter(has_text="1 answered")).to_be_visible()
    third = press(page, "n", second)
    assert press(page, "ArrowRight", third) != third
    expect(page.get_by_role("status").filter(has_text="2 answered")).to_be_visible()
    assert press(page, "ArrowLeft", asked(page)) == third
    assert press(page, "u", third) == second
    expect(page.get_by_role("status").filter(has_text="1 answered")).to_be_visible()


def test_on_a_phone_the_answers_are_under_a_thumb(site: Site, new_page: NewPage) -> None:
    page = new_page(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True, is_mobile=True)
    sign_in(page, site)
    page.goto(f"{site.address}/review/")
    shoot(page, "review-phone-dark")
    yes = page.get_by_role("button", name="Yes").bounding_box()
    assert yes and yes["height"] >= 44 and yes["y"] + yes["height"] <= 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="No").tap()
    expect(page.get_by_role("status").filter(has_text="1 answered")).to_be_visible()
