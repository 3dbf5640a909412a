"""The bar above every page: each of its links has a word, and there is room for all of it."""

from itertools import pairwise

import pytest
from playwright.sync_api import expect

from tests.gallery.making import make_release, make_site_profiles
from tests.gallery.views.people import bring_in, signed_in

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_every_link_has_a_word_that_fits(page, live_server):
    make_site_profiles(make_release(), category_specific=0.5)
    keeper = signed_in("a_keeper_with_a_long_name", is_staff=True)
    bring_in(keeper, page, live_server.url).goto(live_server.url)
    header = page.locator(".header")
    for width in (800, 1000, 1280, 1440, 1450, 1920):
        page.set_viewport_size({"width": width, "height": 700})
        for word in ("Tags", "Upload", "Review", "Try it", "category-specific", "Staff", keeper.user.username):
            shown = header.locator(".header-link").get_by_text(word, exact=True)
            expect(shown).to_be_visible()
            assert shown.bounding_box()["width"] > 20, (word, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = [header.locator(part).bounding_box() for part in (".brand", ".search", ".header-nav")]
        if boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"]:
            del boxes[1]  # the search has a line of its own
        assert all(left["x"] + left["width"] < right["x"] for left, right in pairwise(boxes)), width
