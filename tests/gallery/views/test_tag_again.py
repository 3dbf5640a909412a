import pytest
from django.urls import reverse

from gallery.models import TaggingRun, TaggingState
from tests.gallery.making import make_post, make_release
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff():
    return signed_in(is_staff=True)


def test_the_page_says_how_many_before_anything_starts(staff):
    make_release()
    posts = [make_post() for _ in range(3)]
    page = staff.get(reverse("tag_again"), {"scope": "all"}).content.decode()
    assert "3 posts, about" in page
    assert not TaggingRun.objects.exists()
    posts[0].refresh_from_db()
    assert posts[0].tagging_state == TaggingState.TAGGED


def test_starting_shows_the_run_and_its_failures(staff):
    make_release()
    posts = [make_post() for _ in range(2)]
    url = staff.post(reverse("tag_again"), {"scope": "older"}).url
    run = TaggingRun.objects.get()
    assert url == reverse("tagging_run", args=[run.pk]) and run.started_by == staff.user
    page = staff.get(url).content.decode()
    assert "0 of 2 posts" in page and "every 1s" in page
    type(posts[0]).objects.filter(pk=posts[0].pk).update(tagging_state="failed", tagging_error="Broken <frame>.")
    page = staff.get(url, headers={"HX-Request": "true"}).content.decode()
    assert "1 of 2 posts" in page and "Broken &lt;frame&gt;." in page and "<html" not in page


def test_cancelling_a_run_gives_the_posts_back(staff):
    make_release()
    make_post()
    staff.post(reverse("tag_again"), {"scope": "all"})
    run = TaggingRun.objects.get()
    staff.post(reverse("cancel_run", args=[run.pk]))
    run.refresh_from_db()
    assert run.state == TaggingRun.State.CANCELLED
    assert "every 1s" not in staff.get(reverse("tagging_run", args=[run.pk])).content.decode()


@pytest.mark.parametrize(
    "wrong", [{"scope": "some"}, {"scope": "search", "query": " "}, {"scope": "search", "query": "(a"}]
)
def test_a_bad_choice_gets_a_sentence_and_starts_nothing(staff, wrong):
    make_release()
    make_post()
    for answer in (staff.get(reverse("tag_again"), wrong), staff.post(reverse("tag_again"), wrong)):
        assert answer.status_code == 200 and "plan" not in answer.context
    assert not TaggingRun.objects.exists()


def test_without_a_release_the_page_says_what_to_do(staff):
    assert "No release is active" in staff.get(reverse("tag_again"), {"scope": "all"}).content.decode()
    assert staff.get(reverse("tagging_run", args=[9])).status_code == 404
