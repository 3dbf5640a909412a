import re
import time

import pytest
from django.core.cache import cache
from django.urls import reverse

from gallery.models import Feature, TaggingState
from gallery.worker import pace
from tests.gallery.making import make_post, make_release
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db
PAGES = ["staff", "queue", "failed", "people", "tag_again", "exports", "releases", "seed_progress"]
ACTS = ["retry", "invite", "install_release", "install_seed"]
ACTS_ON = ["revoke_invitation", "change_person", "cancel_run", "delete_export", "activate_release"]


@pytest.fixture
def staff():
    return signed_in(is_staff=True)


@pytest.mark.parametrize("name", PAGES)
def test_staff_pages_open_for_staff_alone(name, client, staff):
    assert staff.get(reverse(name)).status_code == 200
    assert signed_in().get(reverse(name)).status_code == 403
    assert client.get(reverse(name)).url.startswith("/login/")


@pytest.mark.parametrize(("name", "args"), [(name, []) for name in ACTS] + [(name, [1]) for name in ACTS_ON])
def test_staff_acts_take_a_post_from_staff_alone(name, args, client, staff):
    url = reverse(name, args=args)
    assert staff.get(url).status_code == 405
    assert signed_in().post(url).status_code == 403
    assert client.post(url).url.startswith("/login/")


def test_the_overview_tells_of_a_proxy_that_the_settings_leave_out(staff, settings):
    said, behind = "A proxy stands in front", {"X-Forwarded-For": "192.0.2.7"}
    assert said not in staff.get(reverse("staff")).content.decode()
    assert said in staff.get(reverse("staff"), headers=behind).content.decode()
    settings.PROXIES = 1
    assert said not in staff.get(reverse("staff"), headers=behind).content.decode()


def test_the_overview_counts_the_queue_and_misses_the_worker(staff):
    for state in (TaggingState.WAITING, TaggingState.WAITING, TaggingState.FAILED):
        make_post(tagging_state=state)
    page = staff.get(reverse("staff")).content.decode()
    assert "No worker answers, and 2 posts wait:" in page
    assert f'<a href="{reverse("failed")}">1</a>' in page
    assert "No release is active" in page


def test_the_overview_shows_the_rate_and_the_time_left(staff, monkeypatch):
    cache.clear()
    assert "posts a second" not in staff.get(reverse("queue")).content.decode()
    now = time.time() // 10 * 10 + 5
    monkeypatch.setattr(time, "time", lambda: now)
    make_post(tagging_state=TaggingState.WAITING)
    pace.count(20)
    text = " ".join(re.sub("<[^>]+>", "", staff.get(reverse("queue")).content.decode()).split())
    assert "4.0 posts a second over the last three minutes: about 1 minute for those that wait." in text


def test_failed_posts_are_listed_with_their_reason_and_tried_again(staff):
    first = make_post(tagging_state=TaggingState.FAILED, tagging_error="Frame <3> is broken.", tagging_attempts=3)
    second = make_post(tagging_state=TaggingState.FAILED)
    assert "Frame &lt;3&gt; is broken." in staff.get(reverse("failed")).content.decode()
    staff.post(reverse("retry"), {"post": first.pk})
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.tagging_state, first.tagging_attempts) == (TaggingState.WAITING, 0)
    assert second.tagging_state == TaggingState.FAILED
    staff.post(reverse("retry"))
    second.refresh_from_db()
    assert second.tagging_state == TaggingState.WAITING


def test_trying_again_what_has_not_failed_changes_nothing(staff):
    post = make_post()
    for wanted in (str(post.pk), "x", "²"):
        assert staff.post(reverse("retry"), {"post": wanted}).url == reverse("failed")
    post.refresh_from_db()
    assert post.tagging_state == TaggingState.TAGGED


def test_the_active_release_is_named(staff):
    make_release("starter")
    assert "starter</a> tags new posts" in staff.get(reverse("staff")).content.decode()


def test_the_overview_says_how_many_posts_can_be_compared(staff):
    cache.clear()
    release, posts = make_release(), [make_post() for _ in range(3)]
    Feature.objects.create(post=posts[0], release=release, codes=b"\1\2")
    page = " ".join(staff.get(reverse("staff")).content.decode().split())
    assert "Of 3 posts it has the features of 1," in page
