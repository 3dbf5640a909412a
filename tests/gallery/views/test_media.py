import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from gallery import uploading
from tests.gallery.making import make_user
from tests.gallery.views.people import picture, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def post():
    return uploading.store(picture(), uploader=make_user("owner")).post


def test_pictures_are_served_for_ever_and_never_as_something_else(post):
    original = Client().get(post.file_url)
    assert original.status_code == 200
    assert original.headers["Content-Type"] == "image/png"
    assert original.headers["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in original.headers["Cache-Control"] and "public" in original.headers["Cache-Control"]
    assert b"".join(original.streaming_content).startswith(b"\x89PNG")
    for url in (post.thumbnail_url, post.sample_url):
        assert Client().get(url).headers["Content-Type"] == "image/webp"


def test_a_picture_that_one_has_is_not_sent_again(post):
    tag = Client().get(post.file_url).headers["ETag"]
    assert Client().get(post.file_url, HTTP_IF_NONE_MATCH=tag).status_code == 304


def test_on_a_site_for_members_strangers_get_no_picture(post, settings):
    settings.SITE_MODE = "members"
    for url in (post.file_url, post.thumbnail_url, post.sample_url):
        answer = Client().get(url)
        assert answer.status_code == 302 and answer.url.startswith("/login/")
    answer = signed_in().get(post.file_url)
    assert answer.status_code == 200 and "private" in answer.headers["Cache-Control"]


def test_a_picture_asks_for_its_reader_alone(post, settings):
    settings.SITE_MODE = "members"
    client = signed_in()
    with CaptureQueriesContext(connection) as asked:
        assert client.get(post.file_url).status_code == 200
    assert not [query["sql"] for query in asked if "saved_search" in query["sql"] or "profile" in query["sql"]]
    client.user.set_password("another-horse")  # ends every session, as on other pages
    client.user.save()
    assert client.get(post.file_url).status_code == 302


def test_a_deleted_picture_is_for_its_uploader_and_staff(post):
    uploading.delete(post)
    assert Client().get(post.file_url).status_code == 404
    assert signed_in().get(post.file_url).status_code == 404
    owner = Client()
    owner.force_login(post.uploader)
    for client in (owner, signed_in(is_staff=True)):
        answer = client.get(post.file_url)
        assert answer.status_code == 200 and "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    "path",
    [
        "secret_key",
        "../secret_key",
        "original/ab/cd/{sha256}.svg",
        "original/ab/cd/{sha256}.html",
        "original/../{sha256}.png",
        "thumbnail/360/ab/cd/",
    ],
)
def test_nothing_else_is_served(post, path):
    path = path.format(sha256=post.sha256)
    if ".." not in path and not path.endswith("/"):
        default_storage.save(path, ContentFile(b"<svg/>"))
    assert Client().get(f"/media/{path}").status_code == 404


def test_a_lost_file_is_not_found(post):
    default_storage.delete(post.file_path)
    assert Client().get(post.file_url).status_code == 404


def test_pictures_are_only_read(post):
    assert signed_in(is_staff=True).post(post.file_url).status_code == 405


def test_a_proxy_is_told_which_file_to_send_and_only_after_the_same_rules(post, settings):
    settings.MEDIA_BY_PROXY = True
    path = post.file_url.removeprefix("/media/")
    response = Client().get(f"/media/{path}")
    assert response["X-Accel-Redirect"] == f"/proxied-media/{path}"
    assert response["Content-Type"].startswith("image/")
    assert response.content == b""
    settings.SITE_MODE = "members"
    assert "X-Accel-Redirect" not in Client().get(f"/media/{path}")
