import json
import re

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from gallery import seeding, tagging
from gallery.models import Post, Prediction
from gallery.worker import trying
from tests.gallery.views.people import picture, signed_in
from tests.gallery.working import install

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.RELEASES_DIR = tmp_path / "releases"
    settings.TAGGER_THREADS = 1
    cache.clear()
    return tmp_path


@pytest.fixture
def member():
    return signed_in()


def hand(client, *, htmx=True, **fields):
    return client.post(reverse("try_it"), fields, headers={"HX-Request": "true"} if htmx else {})


def token_of(answer) -> str:
    return re.search(r"/try/([\w-]+)/", answer.content.decode())[1]


def result(client, token):
    return client.get(reverse("try_result", args=[token]), headers={"HX-Request": "true"})


def found(answer) -> dict:
    return json.loads(re.search(r"<script[^>]*>(.*?)</script>", answer.content.decode(), re.S)[1])


def test_a_picture_gets_its_tags_and_nothing_is_stored(member, data):
    release = install(data / "tiny")
    token = token_of(hand(member, picture=picture()))
    assert "looks at it" in result(member, token).content.decode()
    tagging.try_pictures()
    answer = found(result(member, token))
    assert set(answer["stages"]) == {"refined", "initial"} and answer["stages"]["refined"]
    assert [one["key"] for one in answer["profiles"]] == list(
        release.profiles.order_by("position").values_list("key", flat=True)
    )
    bytes_down = [byte for _, _, byte in answer["stages"]["initial"]]
    assert bytes_down == sorted(bytes_down, reverse=True) and bytes_down[-1] >= int(trying.FLOOR * 254)
    assert not Post.objects.exists() and not Prediction.objects.exists()
    assert not list((data / "trying").iterdir())


def test_a_worker_that_tags_posts_answers_in_between(member, data):
    from tests.gallery.working import upload

    install(data / "tiny")
    upload(1)
    token = token_of(hand(member, picture=picture()))
    tagging.tag_waiting()
    assert found(result(member, token))["stages"]


def test_staff_may_try_a_release_before_activating_it(data):
    install(data / "tiny")
    other = install(data / "other", seed=1, activate=False)
    staff, member = signed_in(is_staff=True), signed_in()
    theirs = token_of(hand(staff, picture=picture(), release=other.pk))
    mine = token_of(hand(member, picture=picture(), release=other.pk))
    tagging.try_pictures()
    assert found(result(staff, theirs))["release"] == other.title
    assert trying.look(mine, member.user.pk)["release"] != other.pk


def test_the_examples_are_shown_and_tried(member, data):
    install(data / "tiny")
    name = seeding.examples(12)[3]["name"]
    page = member.get(reverse("try_it")).content.decode()
    assert reverse("try_example", args=[name]) in page
    assert member.get(reverse("try_example", args=[name]))["Content-Type"] == "image/webp"
    assert member.get(reverse("try_example", args=["none"])).status_code == 404
    assert token_of(hand(member, example=name))


def test_bad_input_gets_a_sentence(member, data, settings):
    assert "No release" in hand(member, picture=picture()).content.decode()
    install(data / "tiny")
    assert "choose one first" in hand(member).content.decode()
    assert "choose one first" in hand(member, example="../../x").content.decode()
    answer = hand(member, picture=SimpleUploadedFile("x.png", b"no picture"))
    assert answer.status_code == 422 and "not a picture" in answer.content.decode()
    settings.UPLOAD_MAX_MB = 0
    assert "too large" in hand(member, picture=picture()).content.decode()


def test_an_answer_belongs_to_who_asked(member, data, client):
    install(data / "tiny")
    token = token_of(hand(member, picture=picture()))
    tagging.try_pictures()
    assert "forgotten" in result(signed_in(), token).content.decode()
    assert client.get(reverse("try_it")).url.startswith("/login/")
    assert client.post(reverse("try_it")).url.startswith("/login/")
    assert client.get(reverse("try_result", args=[token])).url.startswith("/login/")
    assert member.put(reverse("try_it")).status_code == 405
    assert member.post(reverse("try_result", args=[token])).status_code == 405


def test_a_missing_worker_is_said(member, data):
    install(data / "tiny")
    token = token_of(hand(member, picture=picture()))
    trying.answer(token, since=0)
    assert "No worker of the tagger answers" in result(member, token).content.decode()
    assert not list((data / "trying").iterdir())


def test_too_many_at_once_must_wait(member, data):
    install(data / "tiny")
    answers = [hand(member, picture=picture()) for _ in range(trying.PER_MINUTE + 2)]
    assert "wait a moment" in answers[-1].content.decode()


def test_without_a_script_the_whole_page_comes(member, data):
    install(data / "tiny")
    answer = hand(member, htmx=False, picture=picture())
    token = answer.url.split("/")[-2]
    tagging.try_pictures()
    page = member.get(answer.url).content.decode()
    assert "<h1>Try it</h1>" in page and "try-data" in page and token


def test_a_picture_that_no_worker_read_is_removed(member, data):
    import os

    install(data / "tiny")
    hand(member, picture=picture())
    (old,) = (data / "trying").iterdir()
    os.utime(old, (0, 0))
    trying.forget_old()
    assert not old.exists()
