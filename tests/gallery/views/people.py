"""Three people for the tests of pages: a member, another member, and staff; and pictures to send."""

from __future__ import annotations

import io

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image
from playwright.sync_api import Page

from tests.gallery.making import make_user


def signed_in(name: str = "", **fields: object) -> Client:
    """A browser in which somebody new is signed in; `client.user` is who."""
    client = Client()
    client.user = make_user(name, **fields)
    client.force_login(client.user)
    return client


def bring_in(client: Client, page: Page, site: str) -> Page:
    """The page of a real browser, signed in on that site as the client is."""
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
    return page


def picture(colour: str = "red", size: tuple[int, int] = (64, 48), name: str = "picture.png") -> SimpleUploadedFile:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return SimpleUploadedFile(name, file.getvalue(), "image/png")
