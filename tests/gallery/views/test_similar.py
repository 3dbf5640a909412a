import errno
import io
import re
import shutil

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from gallery import tagging, uploading
from gallery.models import Feature, Post
from gallery.worker import trying
from tests.gallery.making import make_post, make_release
from tests.gallery.test_merging import drawing
from tests.gallery.test_pictures import file_of
from tests.gallery.views.people import signed_in
from tests.gallery.working import install, upload

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(tagging_site):
    return tagging_site


@pytest.fixture
def member():
    return signed_in()


@pytest.fixture
def posts(data) -> list[Post]:
    """Four tagged posts; the last shows the drawing."""
    install(data / "first")
    made = [upload(number) for number in range(3)]
    made.append(uploading.store(file_of(drawing(400)), name="drawing.png").post)
    tagging.tag_waiting()
    return made


def picture(width: int = 200) -> SimpleUploadedFile:
    drawing(width).save(made := io.BytesIO(), "PNG")
    return SimpleUploadedFile("mine.png", made.getvalue(), "image/png")


def bring(client, htmx=True, **fields):
    return client.post(reverse("similar"), fields, headers={"HX-Request": "true"} if htmx else {})


def token_of(text: str) -> str:
    return re.search(r"/similar/([\w-]+)/", text)[1]


def result(client, token):
    return client.get(reverse("similar_result", args=[token]), headers={"HX-Request": "true"}).content.decode()


def shown(page: str) -> list[int]:
    return [int(pk) for pk in re.findall(r'class="thumbnail".*?/posts/(\d+)/', page, re.S)]


def test_near_copies_come_at_once_and_look_alikes_when_the_tagger_has_looked(member, posts):
    before = Post.objects.count()
    answer = bring(member, picture=picture())
    page = answer.content.decode()
    assert answer.status_code == 200 and shown(page) == [posts[3].pk] and "The tagger looks at it" in page
    token = token_of(page)
    assert "The tagger looks at it" in result(member, token)
    tagging.try_pictures()
    page = result(member, token)
    assert shown(page)[0] == posts[3].pk and set(shown(page)[1:]) == {post.pk for post in posts[:3]}
    assert Post.objects.count() == before and not list((trying._folder()).glob("[0-9]*"))
    assert "forgotten" in result(signed_in(), token)


def test_without_a_script_the_page_is_led_to(member, posts):
    answer = bring(member, htmx=False, picture=picture())
    assert answer.status_code == 302
    assert shown(member.get(answer.url).content.decode()) == [posts[3].pk]


def test_without_a_worker_near_copies_are_shown_with_a_sentence(member, posts, monkeypatch):
    token = token_of(bring(member, picture=picture()).content.decode())
    monkeypatch.setattr(trying, "waiting_seconds", lambda found: 7.0)
    monkeypatch.setattr("gallery.views.similar.worker_answers", lambda: False)
    page = result(member, token)
    assert "No worker of the tagger answers, so only near copies are shown" in page
    assert shown(page) == [posts[3].pk] and "hx-get" not in page


def test_without_a_release_near_copies_are_shown_with_a_sentence(member):
    post = uploading.store(file_of(drawing(400)), name="drawing.png").post
    page = bring(member, picture=picture()).content.decode()
    assert shown(page) == [post.pk] and "No release of the tagger is active" in page


def test_a_release_that_cannot_compare_says_so(member, posts):
    token = token_of(bring(member, picture=picture()).content.decode())
    trying.answer(token, state="done", tags={}, feature=b"", seconds=1.0)
    assert "release can&#x27;t compare pictures" in result(member, token)


def test_what_the_tagger_failed_at_is_said(member, posts):
    token = token_of(bring(member, picture=picture()).content.decode())
    trying.answer(token, state="failed", reason="It is <torn>.")
    assert "It is &lt;torn&gt;." in result(member, token)


@pytest.mark.parametrize(
    ("fields", "words"),
    [({}, "No picture came"), ({"picture": SimpleUploadedFile("x.png", b"no")}, "not a picture")],
)
def test_bad_files_get_a_sentence(member, fields, words):
    answer = bring(member, **fields)
    assert answer.status_code == 422 and words in answer.content.decode()


def test_too_many_pictures_still_find_near_copies(member, posts):
    for _ in range(trying.PER_MINUTE):
        trying._count(member.user.pk)
    page = bring(member, picture=picture()).content.decode()
    assert shown(page) == [posts[3].pk] and "pictures a minute" in page


def test_a_number_leads_to_its_post(member, posts):
    assert member.get(reverse("similar"), {"post": f"#{posts[0].pk}"}).url == f"/posts/{posts[0].pk}/similar/"
    for wrong in ("0", "x", "", "9" * 30, "²"):
        answer = member.get(reverse("similar"), {"post": wrong})
        assert answer.status_code == 422 and "no such post" in answer.content.decode()


def test_the_page_of_a_post_shows_near_copies_and_look_alikes(client, posts):
    copy = uploading.store(file_of(drawing(250)), name="copy.png").post
    tagging.tag_waiting()
    page = client.get(reverse("similar_posts", args=[posts[3].pk])).content.decode()
    assert shown(page)[0] == copy.pk and set(shown(page)[1:]) == {post.pk for post in posts[:3]}
    uploading.delete(posts[0])
    page = client.get(reverse("similar_posts", args=[posts[3].pk])).content.decode()
    assert posts[0].pk not in shown(page)
    assert client.get(reverse("similar_posts", args=[posts[0].pk])).status_code == 404


def test_the_strip_of_a_post_page(client, posts):
    page = client.get(posts[3].get_absolute_url()).content.decode()
    address = reverse("similar_posts", args=[posts[3].pk])
    assert f'hx-get="{address}"' in page
    strip = client.get(address, headers={"HX-Request": "true"}).content.decode()
    assert {int(pk) for pk in re.findall(r'<li><a href="/posts/(\d+)/"', strip)} == {post.pk for post in posts[:3]}
    assert "<html" not in strip
    uploading.delete(posts[0])
    assert posts[0].get_absolute_url() not in client.get(address, headers={"HX-Request": "true"}).content.decode()
    cache.clear()
    Feature.objects.all().delete()
    strip = client.get(address, headers={"HX-Request": "true"}).content.decode()
    assert "not looked at this picture yet" in strip


def test_a_post_nobody_saw_and_one_that_is_alone(client):
    post, release = make_post(), make_release()
    assert "not looked" in client.get(reverse("similar_posts", args=[post.pk])).content.decode()
    Feature.objects.create(post=post, release=release, codes=bytes(range(1, 9)))
    assert "No other post" in client.get(reverse("similar_posts", args=[post.pk])).content.decode()


def test_a_blacklist_hides_what_is_alike_and_says_so(member, posts):
    like = f"/posts/{posts[3].pk}/similar/"
    member.post("/account/blacklist/", {"blacklist": f"id:{posts[0].pk}"})
    page, strip = (member.get(like, headers=headers).content.decode() for headers in ({}, {"HX-Request": "true"}))
    assert set(shown(page)) == {posts[1].pk, posts[2].pk} and "hidden by your" in page
    assert f"/posts/{posts[0].pk}/" not in strip and "1 hidden by your blacklist" in strip
    member.post("/account/blacklist/", {"blacklist": "id:>0"})
    assert "Your blacklist hides all of them." in member.get(like).content.decode()
    assert "The site has it, hidden by your blacklist." in bring(member, picture=picture()).content.decode()
    assert member.get(f"/?q=similar:{posts[3].pk}").context["hiding"].hidden


@pytest.mark.parametrize("page", ["similar", "try_it"])
@pytest.mark.parametrize("disk", ["of the file while it comes", "of the worker's copy"])
def test_a_full_disk_is_told_of_and_keeps_no_half_file(member, data, settings, monkeypatch, page, disk):
    make_release()
    if disk == "of the worker's copy":
        monkeypatch.setattr(shutil, "copyfileobj", full)
    else:
        settings.FILE_UPLOAD_MAX_MEMORY_SIZE, settings.FILE_UPLOAD_TEMP_DIR = 0, data / "gone"
    answer = member.post(reverse(page), {"picture": picture()}, headers={"HX-Request": "true"})
    assert answer.status_code == 422 and "make room on its disk" in answer.content.decode()
    assert not list(data.glob("trying/*"))


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
