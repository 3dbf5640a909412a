"""Near copies and look-alikes as people meet them: a choice at upload, a strip on a post, a picture dropped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.journeys.people import seed_pictures, sign_in
from tests.journeys.test_reading import bring
from tests.stack import Site

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def resized(picture: Path, folder: Path, part: float) -> Path:
    with Image.open(picture) as image:
        copy = image.resize((round(image.width * part), round(image.height * part)))
    copy.save(file := folder / f"{picture.stem}-{part}.webp", quality=70)
    return file


def send(page: Page, site: Site, *pictures: Path) -> None:
    page.goto(f"{site.address}/upload/")
    page.locator("#files").set_input_files(pictures)
    expect(page.locator("#upload-words")).to_have_text(
        re.compile(f"^{len(pictures)} of {len(pictures)} sent$"), timeout=60_000
    )


def number_of(page: Page, row: int) -> str:
    """The number of the post that a row of the upload page shows."""
    link = page.locator("#upload-rows > li").nth(row).locator("a[data-post]")
    return re.search(r"/posts/(\d+)/", link.get_attribute("href") or "")[1]


def test_near_copies_are_asked_about_and_look_alikes_found(site: Site, page: Page, tmp_path: Path) -> None:
    one, two = seed_pictures(("Fluent Emoji", "Twemoji"))
    sign_in(page, site)
    send(page, site, one, two)
    first, second = number_of(page, 0), number_of(page, 1)
    expect(page.locator(".upload-tag-list li").first).to_be_visible(timeout=60_000)

    smaller, larger = resized(one, tmp_path, 0.5), resized(two, tmp_path, 1.5)
    send(page, site, smaller, larger)
    rows = page.locator("#upload-rows > li")
    expect(rows.nth(0)).to_contain_text(f"post {first}")
    expect(page.locator("#near-all")).to_be_visible()
    rows.nth(0).get_by_role("button", name="Keep both").press("Enter")
    expect(rows.nth(0)).to_contain_text(f"a child of post {first}")
    expect(rows.nth(0).locator("a[data-post]")).to_be_focused()
    child = number_of(page, 0)
    expect(rows.nth(0).locator(".upload-tag-list li").first).to_be_visible(timeout=60_000)
    expect(page.locator("#near-all")).to_be_hidden()
    page.reload()
    expect(page.locator("#upload-rows > li")).to_have_count(1)
    page.get_by_role("button", name="Merge, keep yours").click()
    expect(page.locator("#upload-rows > li")).to_contain_text(f"post {second} was merged into it")

    page.goto(f"{site.address}/posts/{child}/")
    expect(page.get_by_label("Parent and children").get_by_role("link")).to_have_count(2)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(f"#more .strip a[href='/posts/{first}/']")).to_be_visible(timeout=20_000)

    page.goto(f"{site.address}/similar/")
    bring(page, "drop", resized(one, tmp_path, 0.7))
    result = page.locator("#similar-result")
    near = result.locator("section").first.locator(".thumbnail a")
    expect(near.nth(1)).to_be_visible(timeout=20_000)
    expect(result.locator("section").nth(1).locator(".thumbnail a").first).to_be_visible(timeout=60_000)
