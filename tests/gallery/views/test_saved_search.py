import pytest
from django.test import Client

from gallery.index import indexing
from gallery.models import SavedSearch
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def smile():
    """A tag of three posts; `smile.post()` makes another one."""
    tag = make_tag("smile")
    release = make_release(tags=[tag])
    make_site_profiles(release, category_specific=0.5)

    def post():
        made = make_post()
        predict(made, release, {tag: 0.9})
        indexing.rebuild([made.pk])
        return made

    tag.post = post
    for _ in range(3):
        post()
    return tag


def _save(client: Client, query: str, name: str = "", **more: str) -> str:
    return client.post("/searches/save/", {"query": query, "name": name, **more}, follow=True).content.decode()


def _rows(client: Client) -> list[tuple[str, str]]:
    return [(row.name, row.query) for row in SavedSearch.objects.filter(owner=client.user)]


def test_a_member_saves_a_search_and_sees_what_is_new_in_it(smile):
    client = signed_in()
    assert "Save this search as" in client.get("/?q=smile").content.decode()
    assert "Saved as happy_faces" in _save(client, " smile  ( smile )", "Happy faces", next="/?q=smile")
    assert _rows(client) == [("happy_faces", "smile smile")]
    assert "nothing new" in client.get("/searches/").content.decode()
    smile.post()
    smile.post()
    text = client.get("/searches/").content.decode()
    assert "2 new" in text and "happy faces" in text and 'href="/?q=smile%20smile"' in text
    assert "2 new" in client.get("/searches/").content.decode()  # looking at the list is not looking at the posts
    assert "Saved" in client.get("/?q=smile smile").content.decode()
    assert "nothing new" in client.get("/searches/").content.decode()


def test_searching_by_the_name_counts_as_seen_and_the_sidebar_lists_it(smile):
    client = signed_in()
    _save(client, "smile", "happy")
    smile.post()
    answer = client.get("/?q=search:happy")
    assert len(answer.context["tiles"]) == 4 and 'href="/?q=smile"' in answer.content.decode()
    assert "nothing new" in client.get("/searches/").content.decode()


def test_only_the_first_page_counts_as_seen(smile, settings):
    settings.PAGE_SIZE = 2
    client = signed_in()
    _save(client, "smile", "happy")
    smile.post()
    client.get("/?q=smile&page=2")
    assert "1 new" in client.get("/searches/").content.decode()


@pytest.mark.parametrize("order", ["id", "width"])
def test_in_another_order_all_that_is_there_counts_as_seen_and_nothing_else(smile, settings, order):
    settings.PAGE_SIZE = 2
    client = signed_in()
    _save(client, f"smile order:{order}", "happy")
    smile.post()
    assert "1 new" in client.get("/searches/").content.decode()
    client.get(f"/?q=smile order:{order}")
    assert "nothing new" in client.get("/searches/").content.decode()
    smile.post()
    assert "1 new" in client.get("/searches/").content.decode()


def test_a_search_without_a_name_is_called_after_its_text(smile):
    client = signed_in()
    _save(client, "smile or -(a b)")
    assert _rows(client) == [("smile_or_-(a_b)", "smile or -(a b)")]
    assert client.get("/", {"q": 'search:"smile_or_-(a_b)"'}).context["count"].number == 3


def test_searches_share_a_name_and_are_listed_once(smile):
    client = signed_in()
    _save(client, "smile", "happy")
    _save(client, "-smile", "happy")
    assert client.get("/").context["saved"] == [("happy", "search:happy")]
    assert client.get("/?q=search:happy").context["count"].number == 3
    assert "Posts of all of them" in client.get("/searches/").content.decode()


@pytest.mark.parametrize(
    ("query", "name", "message"),
    [
        ("", "x", "There is no search to save"),
        ("(smile", "x", "This ( is never closed"),
        ("smile", "all", "has a meaning of its own"),
        ("smile", 'a"b', "without quotation marks"),
        ("smile", "a\x00b", "without quotation marks"),
        ("smile", "x" * 61, "longer than 60 characters"),
        ("search:happy", "x", "can&#x27;t ask for saved searches"),
    ],
)
def test_what_cannot_be_saved_is_refused_in_words(smile, query, name, message):
    client = signed_in()
    assert message in _save(client, query, name)
    assert _rows(client) == []


def test_a_search_is_kept_once_a_name_and_not_without_end(smile, monkeypatch):
    client = signed_in()
    _save(client, "smile", "happy")
    assert "You keep this search as happy already" in _save(client, "smile", "happy")
    monkeypatch.setattr(SavedSearch, "MOST", 1)
    assert "delete one first" in _save(client, "smile", "other")
    assert _rows(client) == [("happy", "smile")]


def test_a_saved_search_is_renamed_changed_and_deleted(smile):
    client = signed_in()
    _save(client, "smile", "happy")
    url = f"/searches/{SavedSearch.objects.get().pk}/"
    client.post(url, {"name": "joy", "query": "smile order:id"})
    assert _rows(client) == [("joy", "smile order:id")]
    refused = client.post(url, {"name": "much joy", "query": "smile (or"})
    text = refused.content.decode()
    assert refused.status_code == 422 and "needs a term" in text and "<details" in text.partition(" open>")[0]
    assert 'value="much joy"' in text and 'value="smile (or"' in text  # what was typed is there to be mended
    assert _rows(client) == [("joy", "smile order:id")]
    client.post(f"{url}delete/")
    assert _rows(client) == []
    assert "No saved searches yet" in client.get("/searches/").content.decode()


def test_saved_searches_are_for_their_owner_alone(smile):
    owner, stranger = signed_in(), signed_in(is_staff=True)
    _save(owner, "smile", "happy")
    url = f"/searches/{SavedSearch.objects.get().pk}/"
    assert stranger.post(url, {"name": "x", "query": "x"}).status_code == 404
    assert stranger.post(f"{url}delete/").status_code == 404
    assert "happy" not in stranger.get("/searches/").content.decode()
    for path in ("/searches/", "/searches/save/", url, f"{url}delete/"):
        assert Client().post(path).status_code in (302, 405)
    assert owner.get(url).status_code == owner.get("/searches/save/").status_code == 405
    assert _rows(owner) == [("happy", "smile")]


def test_a_saved_search_that_no_longer_reads_is_marked(smile):
    client = signed_in()
    SavedSearch.objects.create(owner=client.user, name="old", query="(smile")
    text = client.get("/searches/").content.decode()
    assert "never closed" in text and "be read" in text
    assert client.get("/?q=smile").status_code == 200


def test_visitors_are_not_offered_to_save(smile):
    assert "Save this search as" not in Client().get("/?q=smile").content.decode()
