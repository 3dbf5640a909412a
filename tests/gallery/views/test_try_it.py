import json
import re

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from playwright.sync_api import expect

from gallery import seeding, tagging
from gallery.models import Post, Prediction, Profile
from gallery.worker import trying
from tests.gallery.making import make_release, make_site_profiles, make_tag
from tests.gallery.views.people import bring_in, picture, signed_in
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


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_page_judges_as_the_site_does_until_a_slider_is_moved(member, page, live_server):
    tag = make_tag("smile")
    release = make_release(tags=[tag])
    make_site_profiles(release, overall=0.9, category_specific=0.6224)  # bytes from 159 on; a slider says 62 %: 158
    Profile.objects.create(owner=member.user, key="category-specific", name="my own", overall=0.1)
    done = {"state": "done", "tags": {"refined": [(tag.pk, 158)]}, "feature": b"", "seconds": 0.1}
    token = trying.put(picture(), member.user.pk, release.pk)
    trying.answer(token, **done)
    bring_in(member, page, live_server.url).goto(live_server.url + reverse("try_result", args=[token]))
    chosen, count = page.locator("#try-profile option:checked"), page.locator("#try-count")
    expect(chosen).to_have_text("category-specific")
    expect(count).to_have_text("0 on of 1")
    expect(page.locator("output[for=try-general]")).to_have_text("62.2%")

    page.locator("#try-general").fill("20")
    expect(count).to_have_text("1 on of 1")
    file = {"name": "next.png", "mimeType": "image/png", "buffer": picture("blue").read()}
    page.locator("#picture").set_input_files(file)
    expect(page.locator("#try-result")).to_contain_text("looks at it")
    asks = page.locator("#try-result").get_attribute("hx-get")
    trying.answer(asks.split("/")[-2], **done | {"seconds": 7.5})
    expect(page.locator("#try-result")).to_contain_text("7.5 seconds")
    expect(chosen).to_have_text("As the sliders stand")
    expect(count).to_have_text("1 on of 1")
    page.get_by_label("Profile").select_option("my own (yours)")
    expect(page.locator("output[for=try-general]")).to_have_text("10%")
