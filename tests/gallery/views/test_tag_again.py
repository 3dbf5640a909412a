import pytest
from django.core.cache import cache
from django.urls import reverse

from gallery.index import indexing
from gallery.models import TaggingRun, TaggingState
from gallery.profiles import Thresholds
from gallery.releases import handing, retagging
from tests.gallery.making import make_post, make_release, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db

_ALL = {"overall": 127, "by_category": {}, "by_tag": {}}


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


@pytest.mark.parametrize("asked", [{"scope": "all"}, {"scope": "older"}, {"scope": "search", "query": "width:8"}])
def test_when_all_posts_wait_the_page_says_so(staff, asked):
    release, post = make_release(), make_post(tagging_state=TaggingState.WAITING)
    indexing.rebuild([post.pk, make_post(tagging_state=TaggingState.TAGGING).pk])
    page = staff.get(reverse("tag_again"), asked).content.decode()
    assert "waits for the tagger already (2 posts)." in page
    assert retagging.plan("older", "", Thresholds(127)).waiting == 2
    predict(post, release, {})
    assert retagging.plan("older", "", Thresholds(127)).waiting == 1


def test_starting_shows_the_run_and_its_failures(staff):
    make_release()
    posts = [make_post() for _ in range(2)]
    url = staff.post(reverse("tag_again"), {"scope": "older"}).url
    run = TaggingRun.objects.get()
    assert url == reverse("tagging_run", args=[run.pk]) and run.started_by == staff.user
    page = staff.get(url).content.decode()
    assert "Getting ready" in page and "every 1s" in page and "Cancel" in page
    handing.go_on(run.pk)
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
    part = staff.get(reverse("tagging_run", args=[run.pk]), headers={"HX-Request": "true"})
    assert part["HX-Retarget"] == part["HX-Reselect"] == "#run" and b"<form" not in part.content
    assert "every 1s" not in staff.get(reverse("tagging_run", args=[run.pk])).content.decode()


def test_a_run_says_how_ready_it_is_and_what_was_wrong(staff):
    release = make_release()
    run = TaggingRun.objects.create(release=release, scope="all", wanted=1_000_000, total=15_000, handed_to=15_000)
    cache.set(f"run-pace:{run.pk}", 5000.0, 60)
    page = staff.get(reverse("tagging_run", args=[run.pk])).content.decode()
    assert "Getting ready: 15,000 of 1,000,000 posts" in page and "About 3 minutes until all wait" in page
    handing.fail(run, "The search can't be asked any more.")
    assert "asked any more." in staff.get(reverse("tagging_run", args=[run.pk])).content.decode()


def test_a_search_that_finds_many_says_about_how_many(staff, monkeypatch):
    make_release()
    posts = [make_post() for _ in range(3)]
    indexing.rebuild([post.pk for post in posts])
    monkeypatch.setattr(retagging, "_COUNTED", 2)
    page = staff.get(reverse("tag_again"), {"scope": "search", "query": "width:8"}).content.decode()
    assert "About 3 posts, about" in page and "Tag about 3 posts again" in page


def test_when_all_of_many_wait_the_page_says_so(staff, monkeypatch):
    make_release()
    posts = [make_post(tagging_state=TaggingState.WAITING) for _ in range(3)]
    indexing.rebuild([post.pk for post in posts])
    monkeypatch.setattr(retagging, "_COUNTED", 2)
    asked = {"scope": "search", "query": "width:8 order:id limit:2"}
    page = staff.get(reverse("tag_again"), asked).content.decode()
    assert "No posts to tag again" in page and "waits for the tagger already (about 3 posts)." in page
    type(posts[0]).objects.filter(pk=posts[0].pk).update(tagging_state=TaggingState.TAGGED)
    page = staff.get(reverse("tag_again"), asked).content.decode()
    assert "About 3 posts, about" in page and "limit: only says how many a page shows" in page


@pytest.mark.parametrize(("found", "sentence"), [(3, "All 3 posts that it found waited"), (0, "It found no posts")])
def test_a_run_that_was_handed_nothing_says_why(staff, found, sentence):
    posts = [make_post(tagging_state=TaggingState.WAITING) for _ in range(found)]
    indexing.rebuild([post.pk for post in posts])
    run = TaggingRun.objects.create(release=make_release(), scope="search", query="width:8", thresholds=_ALL)
    handing.go_on(run.pk)
    assert sentence in staff.get(reverse("tagging_run", args=[run.pk])).content.decode()


def test_posts_picked_by_chance_are_counted_and_started_as_shown(staff):
    make_release()
    indexing.rebuild([make_post().pk for _ in range(5)])
    page = staff.get(reverse("tag_again"), {"scope": "search", "query": "random:2 order:width"})
    assert "Tag 2 posts again" in page.content.decode()
    query = page.context["plan"].query
    assert f'name="query" value="{query}"' in page.content.decode() and "randseed:" in query
    staff.post(reverse("tag_again"), {"scope": "search", "query": query})
    handing.go_on(TaggingRun.objects.get().pk)
    assert TaggingRun.objects.get().total == 2


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
