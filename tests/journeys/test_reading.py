"""Browsing as people do it: by keys, on a phone, in the dark, by dropping and pasting files."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.people import seed_pictures, sign_in
from tests.stack import Site

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Files as a drop or a paste brings them; the event is the browser's own.
_BRING = """([kind, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "image/webp" }));
  const event = kind === "drop"
    ? new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""
_PAGES = (
    "/",
    "/?q=" + 30 * "no_such_tag_",
    "/searches/",
    "/searches/help/",
    "/related/",
    "/upload/",
    "/tags/",
    "/profiles/",
    "/profiles/new/",
    "/try/",
    "/account/",
    "/account/blacklist/",
)
_STAFF_PAGES = ("/staff/", "/staff/releases/", "/staff/tag-again/", "/staff/exports/", "/staff/people/")


def bring(page: Page, kind: str, picture: Path) -> None:
    page.evaluate(_BRING, [kind, picture.name, base64.b64encode(picture.read_bytes()).decode()])


@pytest.fixture
def with_posts(site: Site, page: Page) -> Page:
    """A signed-in page of a site that has posts: one dropped, one pasted."""
    sign_in(page, site)
    page.goto(f"{site.address}/upload/")
    rows = page.locator("#upload-rows > li")
    for number, (kind, picture) in enumerate(
        zip(("drop", "paste"), seed_pictures(("OpenMoji", "DiceBear")), strict=True)
    ):
        bring(page, kind, picture)
        expect(rows).to_have_count(number + 1)
        expect(rows.nth(number).locator("a[data-post]")).to_be_visible()
        expect(rows.nth(number).locator(".upload-tag-list li").first).to_be_visible(timeout=60_000)
    return page


def test_keys_lead_through_posts_and_search_completes(site: Site, with_posts: Page) -> None:
    page = with_posts
    page.goto(f"{site.address}/")
    newest = site.address + (page.locator("main a[href^='/posts/']").first.get_attribute("href") or "")
    page.goto(newest)
    page.keyboard.press("j")
    page.wait_for_url(lambda url: url != newest)
    page.keyboard.press("k")
    page.wait_for_url(newest)
    page.keyboard.press("/")
    box = page.get_by_role("combobox").first
    expect(box).to_be_focused()
    box.press_sequentially("pers")
    expect(page.get_by_role("option").first).to_contain_text("person")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(box).to_have_value("person ")
    box.fill("-\U0001f3a8 per -cat")  # two units of a string in the browser, one character at the server
    box.evaluate("input => input.setSelectionRange(7, 7)")
    page.keyboard.type("s")
    expect(page.get_by_role("option").first).to_contain_text("person")
    page.keyboard.press("Tab")
    expect(box).to_have_value("-\U0001f3a8 person -cat")
    _leave_the_suggested_word(page)
    box.fill("person")
    page.keyboard.press("Enter")
    page.get_by_text("Save", exact=True).first.click()
    expect(page.get_by_label("Save this search as")).to_be_focused()
    page.goto(newest)
    page.keyboard.press("t")
    expect(page.locator("[data-tag] .tag").first).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def _leave_the_suggested_word(page: Page) -> None:
    """Suggestions for one word close when the cursor goes to another, and an input method keeps its Escape."""
    box = page.get_by_role("combobox").first
    box.fill("-no_such_tag ")
    box.press_sequentially("pers")
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press("Home")
    expect(page.get_by_role("option")).to_have_count(0)
    page.keyboard.press("ArrowDown")
    expect(box).to_have_value("-no_such_tag pers")
    escape = "new KeyboardEvent('keydown', { key: 'Escape', bubbles: true, isComposing: true })"
    box.evaluate(f"input => input.dispatchEvent({escape})")
    expect(box).to_be_focused()


def test_back_from_all_tags_shows_the_whole_post(site: Site, with_posts: Page) -> None:
    page = with_posts
    page.goto(f"{site.address}/")
    page.locator("main a[href^='/posts/']").first.click()
    page.get_by_role("link", name="All", exact=True).click()
    page.wait_for_url("**show=all*")
    page.go_back()
    expect(page.get_by_role("link", name="On", exact=True)).to_have_attribute("aria-current", "true")
    expect(page.locator("[data-stage] img")).to_be_visible()


def test_a_complaint_goes_when_the_site_answers_again(site: Site, with_posts: Page, expected_errors: list[str]) -> None:
    page = with_posts
    expected_errors += ["ERR_INTERNET_DISCONNECTED", "htmx:"]
    page.goto(f"{site.address}/")
    page.locator("main a[href^='/posts/']").first.click()
    page.context.set_offline(True)
    page.get_by_role("button", name="Yes to").first.click()
    expect(page.locator("#messages")).to_contain_text("can't be reached")
    page.context.set_offline(False)
    page.get_by_role("button", name="Yes to").first.click()
    expect(page.locator("#messages")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone(
    site: Site, with_posts: Page, new_page: Callable[..., Page], scheme: str
) -> None:
    state = with_posts.context.storage_state()
    phone = new_page(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme=scheme, storage_state=state)
    phone.goto(f"{site.address}/")
    post = phone.locator("main a[href^='/posts/']").first.get_attribute("href")
    brightness = "getComputedStyle(document.documentElement).backgroundColor.match(/[0-9]+/g).map(Number)[0]"
    for path in (*_PAGES, *_STAFF_PAGES, post):
        phone.goto(f"{site.address}{path}")
        for width in (195, 390):  # half a phone is a phone with its text twice as large
            phone.set_viewport_size({"width": width, "height": 844})
            assert phone.evaluate("document.documentElement.scrollWidth") <= width, path
        body = phone.evaluate(brightness.replace("documentElement", "body"))
        assert (body < 60) == (scheme == "dark"), path
    phone.locator(".predictions summary").first.click()
    assert phone.locator(".prediction-tags li").first.bounding_box()["width"] > 200
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_file_goes_through_after_signing_in_again_in_another_tab(site: Site, page: Page) -> None:
    sign_in(page, site)
    page.goto(f"{site.address}/upload/")
    page.context.clear_cookies()
    page.locator("#files").set_input_files(seed_pictures(("OpenMoji",)))
    row = page.locator("#upload-rows > li")
    expect(row.get_by_text("sign in again in another tab")).to_be_visible()
    tab = page.context.new_page()
    sign_in(tab, site)
    row.locator("[data-retry]").click()
    expect(row.locator("a[data-post]")).to_be_visible()
