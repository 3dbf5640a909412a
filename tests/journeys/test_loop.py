"""The whole loop as one person walks it, in a real browser over the real stack and the starter release."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.people import seed_pictures, sign_in
from tests.stack import Site

ROOT = Path(__file__).resolve().parent.parent.parent
STARTER = ROOT / "tagger/releases/starter"
TAGGED_MS = 60_000

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def upload(page: Page, site: Site, pictures: list[Path]) -> list[str]:
    """Send the pictures and wait for the tags of each; the addresses of their posts."""
    page.goto(f"{site.address}/upload/")
    page.locator("#files").set_input_files(pictures)
    rows = page.locator("#upload-rows > li")
    expect(rows).to_have_count(len(pictures))
    for index in range(len(pictures)):
        expect(rows.nth(index).locator(".upload-tag-list li").first).to_be_visible(timeout=TAGGED_MS)
    links = rows.locator("a[data-post]")
    return [f"{site.address}{links.nth(index).get_attribute('href')}" for index in range(len(pictures))]


def search(page: Page, site: Site, text: str) -> list[str]:
    """Type a search on the first page; the paths of the posts that it finds."""
    page.goto(f"{site.address}/")
    box = page.get_by_role("combobox").first
    box.fill(text)
    box.press("Escape")
    box.press("Enter")
    page.wait_for_url("**/?q=*")
    found = page.locator("a[href^='/posts/']")
    paths = [found.nth(index).get_attribute("href") or "" for index in range(found.count())]
    return sorted({path.split("?")[0] for path in paths})


def path_of(address: str, site: Site) -> str:
    return address.removeprefix(site.address)


def on_tags(page: Page, post: str, category: str = "general") -> list[tuple[str, int, str]]:
    """(name, percent, row id) of the general tags that are on and predicted, surest first."""
    page.goto(post)
    rows = page.locator(f"#panel .c-{category} li[data-tag]:not(.is-off)")
    found = []
    for index in range(rows.count()):
        row = rows.nth(index)
        link = row.locator("a.tag")
        percent = row.locator(".sure").inner_text().strip().rstrip("%")
        if percent.isdigit():
            name = (link.get_attribute("href") or "").split("q=")[1]
            found.append((name, int(percent), link.get_attribute("id") or ""))
    return sorted(found, key=lambda item: -item[1])


def test_upload_search_profile_correct_learn_and_tag_again(site: Site, page: Page, tmp_path: Path) -> None:
    sign_in(page, site)
    posts = upload(page, site, seed_pictures(("OpenMoji", "DiceBear", "comicgen")))

    # Find one by a tag that the tagger gave it.
    first = posts[0]
    tags = on_tags(page, first)
    assert tags, "the starter gave the first picture no general tag"
    name, percent, _ = tags[-1]
    assert path_of(first, site) in search(page, site, name)

    # A profile of one's own, stricter than that tag's confidence, takes it out of the same search.
    page.goto(f"{site.address}/profiles/new/")
    page.get_by_label("Name").fill("Very strict")
    page.locator("input[type=range]").first.fill(str(min(percent + 1, 100)))
    general = page.locator(".slider.c-general")
    general.locator("input[type=range]").fill(str(min(percent + 1, 100)))
    expect(page.locator("#preview .preview-sum")).to_contain_text("go off")
    page.get_by_role("button", name="Save and use").click()
    expect(page.get_by_role("heading", name="Profiles")).to_be_visible()
    assert path_of(first, site) not in search(page, site, name)
    page.goto(f"{site.address}/profiles/")
    page.locator("section.card", has_text="Category-specific").get_by_role("button", name="Use").click()
    assert path_of(first, site) in search(page, site, name)

    # A no beats the model: gone from the search at once.
    reject(page, first, name)
    assert path_of(first, site) not in search(page, site, name)

    # Export, fine-tune, publish: the folders between the packages.
    run, release = tmp_path / "run", tmp_path / "second"
    dataset = export(page, site)
    learn(dataset, run, release)
    site.manage("use_release", str(release))

    # Tag all of it again with the new release; the verdict still stands.
    page.goto(f"{site.address}/staff/tag-again/")
    page.get_by_label("All posts").check()
    page.get_by_role("button", name="How many posts is that?").click()
    page.get_by_role("button", name="Tag 3 posts again").click()
    expect(page.locator("#run .badge")).to_have_text("done", timeout=TAGGED_MS)
    expect(page.locator("#run")).to_contain_text("3 of 3 posts")
    assert path_of(first, site) not in search(page, site, name)
    page.goto(f"{first}?show=all")
    expect(page.get_by_text("Second try").first).to_be_visible()
    expect(page.get_by_role("button", name=f"Undo no to {name}")).to_be_visible()


def reject(page: Page, post: str, name: str) -> None:
    page.goto(post)
    page.get_by_role("button", name=f"No to {name}", exact=True).click()
    expect(page.get_by_role("button", name=f"Undo no to {name}", exact=True)).to_be_visible()


def export(page: Page, site: Site) -> Path:
    """Export by the staff's button; the folder that the worker wrote."""
    page.goto(f"{site.address}/staff/exports/")
    page.get_by_role("button", name="Export").click()
    folder = page.locator("#exports code.path").first
    expect(folder).to_be_visible(timeout=TAGGED_MS)
    expect(page.locator("#exports")).to_contain_text("1 no")
    return Path(folder.inner_text())


def learn(dataset: Path, run: Path, release: Path) -> None:
    """Fine-tune the starter on the export by the tiny recipe and publish it, as the README says."""
    train = ["training.train", "finetune", "--dataset", dataset, "--release", STARTER, "--run", run]
    for words in (
        [*train, "--set", "train.epochs=1"],
        ["training.publish", run, "--out", release, "--name", "second", "--title", "Second try"],
    ):
        command = [sys.executable, "-m", *map(str, words)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
