"""The committed seed gallery is complete: every picture has its file, tags, artist and licence."""

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from training.starter.credits import LICENCES

SEED = Path(__file__).parents[2] / "gallery" / "seed"
PICTURES = json.loads((SEED / "seed.json").read_text("utf-8"))["pictures"]
CATEGORIES = {"general", "artist", "copyright", "character", "meta", "year"}


def test_there_are_about_150_pictures_in_at_most_6_megabytes() -> None:
    assert 140 <= len(PICTURES) <= 160
    assert sum(file.stat().st_size for file in SEED.rglob("*") if file.is_file()) <= 6 * 2**20


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture["file"])
def test_a_picture_is_there_with_tags_and_rights(picture: dict) -> None:
    data = (SEED / picture["file"]).read_bytes()
    assert hashlib.md5(data).hexdigest() == picture["md5"]
    with Image.open(SEED / picture["file"]) as image:
        assert image.format == "WEBP" and 256 <= max(image.size) <= 520
    assert picture["tags"]["general"] and set(picture["tags"]) <= CATEGORIES
    assert picture["licence"] in LICENCES and picture["source"] and picture["artist"] and picture["credit"]


def test_every_category_but_the_rating_is_filled() -> None:
    assert {category for picture in PICTURES for category in picture["tags"]} == CATEGORIES


def test_no_picture_is_there_twice_and_none_is_left_over() -> None:
    assert len({picture["md5"] for picture in PICTURES}) == len(PICTURES)
    assert {file.name for file in (SEED / "pictures").iterdir()} == {Path(p["file"]).name for p in PICTURES}


def test_the_credits_name_every_artist_and_licence() -> None:
    credits = (SEED / "CREDITS.md").read_text("utf-8")
    for picture in PICTURES:
        assert picture["artist"] in credits and LICENCES[picture["licence"]] in credits


def test_the_first_page_mixes_all_sources() -> None:
    for page in (PICTURES[:40], PICTURES[-40:]):
        sources = {picture["tags"]["copyright"][0].split("_")[0] for picture in page}
        assert {"openmoji", "openclipart", "comicgen", "dicebear"} <= sources
