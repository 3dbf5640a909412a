"""What every journey begins with: somebody who is signed in, and pictures to send."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.stack import Site

SEED = Path(__file__).resolve().parent.parent.parent / "gallery/seed"
NAME, PASSWORD = "keeper", "a-long-password-1"


def seed_pictures(families: tuple[str, ...]) -> list[Path]:
    """One picture of each family of the seed set, by the words in its credit."""
    pictures = json.loads((SEED / "seed.json").read_text(encoding="utf-8"))["pictures"]
    return [
        SEED / next(picture["file"] for picture in pictures if family.lower() in picture["credit"].lower())
        for family in families
    ]


def sign_in(page: Page, site: Site) -> None:
    """As the first admin: through the one-time link the first time, by name and password after."""
    link, site.admin_link = site.admin_link, ""
    page.goto(link or f"{site.address}/login/")
    page.get_by_label("Name").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Make the account" if link else "Sign in").click()
    expect(page.get_by_role("link", name="Upload").first).to_be_visible()
