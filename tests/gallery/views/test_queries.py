"""No page asks the database more than eight times, for visitors and for members who use all there is."""

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from gallery import blacklisting, profiles, saving
from gallery.index import histograms, indexing
from gallery.models import Category, Preference, Profile, SavedSearch, Tag
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, make_user, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db(transaction=True)
MOST = 8


@pytest.fixture
def posts(settings):
    """Twelve posts in pages of two, tagged by two releases: cat on all, dog on half, hat on none with a dog."""
    cache.clear()
    settings.PAGE_SIZE = 2
    cat, dog, hat, saber = (make_tag(name) for name in ("cat", "dog", "hat", "saber"))
    general = make_tag("rating_general", Category.RATING)
    old = make_release("old", active=False, tags=[make_tag("forgotten")])
    release = make_release(tags=[cat, dog, hat, saber, general])
    make_site_profiles(release, category_specific=0.5, high_recall=0.2)
    made = [make_post(uploader=None) for _ in range(12)]
    for number, post in enumerate(made):
        predict(post, old, {Tag.objects.get(name="forgotten"): 0.9})
        predict(post, release, {cat: 0.9, general: 0.8, (dog if number % 2 else hat): 0.9})
    indexing.rebuild([post.pk for post in made])
    histograms.refresh(force=True)
    return made


@pytest.fixture
def member(posts):
    """A member with a profile of their own, a blacklist and saved searches."""
    client = signed_in()
    mine = profiles.save_own(client.user, "mine", 0.5, {"general": 0.4}, {"cat": 0.3, "dog": 0.6})
    Preference.objects.create(user=client.user, profile=mine)
    blacklisting.store(client.user, "saber\nwidth:<3 -dog")
    saving.save(client.user, "cat dog", "", profiles.resolve(mine))
    saving.save(client.user, "hat", "hats", profiles.resolve(mine))
    return client


PAGES = {
    "first page": "/",
    "one tag": "/?q=cat",
    "three tags": "/?q=cat+hat+-dog",
    "another page": "/?page=3",
    "a page of a search": "/?q=cat&page=2",
    "nothing found": "/?q=cat+dog+hat",
    "nothing found of six": "/?q=cat+dog+hat+saber+-rating:e+width:>1",
    "an unknown name": "/?q=cat+dgo",
    "a saved search": "/?q=search:hats",
    "a profile": "/?q=cat+dog+profile:high-recall",
    "post": "/posts/{pk}/?q=cat+dog",
    "post with all tags": "/posts/{pk}/?show=all",
    "autocomplete": "/suggest/?q=cat+do",
    "autocomplete of a misspelling": "/suggest/?q=cat+dgo",
    "tags": "/tags/",
}


def queries(client: Client, address: str) -> list[str]:
    """What a page asks when it is shown once more; what a process asks now and then for all pages is left out."""
    assert client.get(address).status_code == 200
    asked = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            client.get(address)
        asked.append([query["sql"] for query in captured])
    return min(asked, key=len)


@pytest.mark.parametrize("dear", [False, True])
@pytest.mark.parametrize("who", ["visitor", "member"])
def test_a_page_takes_at_most_eight_queries(posts, member, monkeypatch, who, dear):
    if dear:  # as on a large site, where the histograms come before an exact count
        monkeypatch.setattr("gallery.search.counts.EXACT_COST", -1.0)
    client = member if who == "member" else Client()
    for kind, address in PAGES.items():
        asked = queries(client, address.format(pk=posts[3].pk))
        assert len(asked) <= MOST, f"{kind}: {len(asked)}\n" + "\n".join(asked)


def test_the_page_of_many_saved_searches_takes_as_few(posts, member):
    thresholds = profiles.resolve(Profile.objects.get(owner=member.user))
    for width in range(20):
        saving.save(member.user, f"cat -dog {'saber' if width % 2 else 'hat'} width:>{width}", "", thresholds)
    saving.save(member.user, "nobody_knows_it", "", thresholds)
    SavedSearch.objects.filter(owner=member.user).update(seen=0)
    SavedSearch.objects.filter(name="hats").update(query="order:nothing")
    rows = {row.saved.name: row for row in member.get("/searches/").context["rows"]}
    assert len(rows) == 23
    assert rows["cat_dog"].count == (6, True) and rows["nobody_knows_it"].count == (0, True)
    assert "order:nothing does not work" in rows["hats"].mistake
    asked = queries(member, "/searches/")
    assert len(asked) <= MOST, "\n".join(asked)


def test_what_a_member_changes_counts_for_the_next_page(posts, member):
    """What is read together with the account is read anew each time."""
    mine = Profile.objects.get(owner=member.user)
    assert member.get("/?q=cat").context["count"].number == 12
    profiles.save_own(member.user, "mine", 0.5, {"general": 0.4}, {"cat": 0.95}, profile=mine)
    page = member.get("/?q=cat")
    assert page.context["count"].number == 0 and page.context["chosen_profile"] == mine
    saving.save(member.user, "dog", "dogs", profiles.resolve(mine))
    assert [name for name, _ in member.get("/").context["saved"]] == ["cat_dog", "dogs", "hats"]
    shipped = Profile.objects.get(release__active=True, key="high-recall")
    Preference.objects.filter(user=member.user).update(profile=shipped, blacklist="hat")
    page = member.get("/?q=cat")
    assert page.context["chosen_profile"] == shipped and page.context["count"].number == 12
    assert {post.pk for post, _ in page.context["tiles"]} < {post.pk for post in posts[1::2]}


def test_sessions_of_earlier_sites_go_on(posts):
    client, user = Client(), make_user()
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    assert client.get("/").context["user"] == user


def test_a_wrong_password_is_hashed_once(posts, monkeypatch):
    hashed = []
    monkeypatch.setattr(User, "check_password", lambda user, password: hashed.append(password))
    make_user("ada")
    assert "is wrong" in Client().post("/login/", {"username": "ada", "password": "guess"}).content.decode()
    assert hashed == ["guess"]
