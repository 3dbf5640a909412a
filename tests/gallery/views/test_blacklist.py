import re

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from gallery.index import histograms, indexing
from gallery.models import Post, Preference, Tag, TagAlias
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def posts():
    """Six posts with cat; spider on the last three, at 0.9, 0.9 and 0.3, and drawing on the fifth."""
    cache.clear()
    cat, spider, drawing = make_tag("cat"), make_tag("spider"), make_tag("drawing")
    release = make_release(tags=[cat, spider, drawing])
    make_site_profiles(release, category_specific=0.5, high_recall=0.2)
    made = [make_post(width=100 + number) for number in range(6)]
    for number, post in enumerate(made):
        more = {spider: 0.3 if number == 5 else 0.9} if number > 2 else {}
        predict(post, release, {cat: 0.9} | more | ({drawing: 0.8} if number == 4 else {}))
    indexing.rebuild([post.pk for post in made])
    histograms.refresh(force=True)
    return made


@pytest.fixture
def member():
    return signed_in()


def save(client: Client, text: str):
    return client.post("/account/blacklist/", {"blacklist": text}, follow=True)


def shown(client: Client, query: str = "") -> list[int]:
    return [post.pk for post, _ in client.get("/", {"q": query}).context["tiles"]]


def ids(posts, *places: int) -> list[int]:
    return [posts[place].pk for place in places]


def press(client: Client, label: str, query: str = "") -> None:
    """What a browser sends when the button that carries this text is pressed."""
    page = client.get("/", {"q": query}).content.decode()
    form = re.search(r'<form class="blacklist-bar".*?</form>', page, re.S)[0]
    fields = {"rule": re.findall(r'name="rule" value="(\w+)"', form), "next": "/"}
    for name, value, inside in re.findall(r'<button[^>]*name="(\w+)" value="(\w+)"[^>]*>(.*?)</button>', form, re.S):
        if label == re.sub(r"<[^>]+>", " ", inside).split()[0] or f"<code>{label}</code>" in inside:
            answer = client.post("/account/blacklist/show/", fields | {name: value})
            assert answer.status_code == 302 and answer.url == "/"
            return
    raise AssertionError(f"no button {label} in {form}")


def test_lists_hide_what_a_line_finds_and_say_so(member, posts):
    assert "Your blacklist is saved." in save(member, "spider -drawing\n\n# a remark\nwidth:100").content.decode()
    assert shown(member) == ids(posts, 5, 4, 2, 1)
    text = member.get("/").content.decode()
    assert '<strong class="number">2</strong> hidden by your' in text and "6 posts" in text
    assert "<code>spider -drawing</code>" in text and "<code>width:100</code>" in text
    assert shown(Client()) == shown(signed_in()) == ids(posts, 5, 4, 3, 2, 1, 0)


def test_a_line_is_shown_and_hidden_again_without_a_script(member, posts):
    save(member, "spider\nwidth:100")
    press(member, "width:100")
    assert shown(member) == ids(posts, 5, 2, 1, 0)
    press(member, "spider")
    assert shown(member) == ids(posts, 5, 4, 3, 2, 1, 0)
    assert "Nothing here is hidden by your" in member.get("/").content.decode()
    press(member, "Hide")
    assert shown(member) == ids(posts, 5, 2, 1)
    press(member, "Show")
    assert shown(member) == ids(posts, 5, 4, 3, 2, 1, 0)


def test_who_searches_for_what_a_line_names_sees_it(member, posts):
    save(member, "spider -drawing")
    assert shown(member, "spider") == ids(posts, 4, 3) and shown(member, "cat spider") == ids(posts, 4, 3)
    assert shown(member, "cat") == ids(posts, 5, 4, 2, 1, 0)
    assert shown(member, "cat or spider") == ids(posts, 5, 4, 2, 1, 0)
    press(member, "spider -drawing", "spider")
    assert shown(member, "spider") == ids(posts, 4)


def test_a_tag_counts_as_it_is_on_for_the_member(member, posts):
    save(member, "spider")
    assert posts[5].pk in shown(member)
    profile = next(each for each in member.get("/").context["profile_choices"] if each.key == "high-recall")
    member.post("/profiles/choose/", {"profile": profile.pk})
    assert posts[5].pk not in shown(member)
    save(member, "spider profile:category-specific")
    assert posts[5].pk in shown(member)
    save(member, "ai:spider,>20%")
    assert shown(member) == ids(posts, 2, 1, 0)


def test_a_page_that_is_hidden_whole_says_so_and_goes_on(member, posts, settings):
    settings.PAGE_SIZE = 2
    save(member, f"id:{posts[4].pk}..{posts[5].pk}")
    text = member.get("/").content.decode()
    assert "Your blacklist hides all posts of this page" in text and 'rel="next"' in text
    assert "No post matches" not in text


def test_the_posts_own_page_still_opens(member, posts):
    save(member, "spider")
    assert member.get(posts[3].get_absolute_url()).status_code == 200


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("(spider", "This ( is never closed"),
        ("rating:genral", "Did you mean general?"),
        ("spider order:id", "order: is about a whole list: a blacklist has no use for it."),
        ("random:5", "random: is about a whole list: a blacklist has no use for it."),
    ],
)
def test_a_line_that_cannot_be_read_is_marked_and_nothing_is_saved(member, posts, line, message):
    save(member, "cat")
    answer = save(member, f"spider\n\n{line}")
    text = answer.content.decode()
    assert answer.status_code == 422 and "Line 3" in text and message in text and "<mark>" in text
    assert f"spider\n\n{line}" in text
    assert Preference.objects.get(user=member.user).blacklist == "cat"


def test_too_long_a_blacklist_is_refused(member, posts):
    assert save(member, "\n".join(f"tag_{number}" for number in range(100))).status_code == 200
    assert "at most 100 lines" in save(member, "cat\n" * 101).content.decode()
    assert "at most 100 lines" in save(member, "a b c d e\n" * 90).content.decode()


def test_names_that_nothing_is_called_are_told(member, posts):
    assert "No tag is called spidr. Did you mean spider?" in save(member, "spidr").content.decode()
    assert shown(member) == ids(posts, 5, 4, 3, 2, 1, 0)


def test_a_line_that_can_be_asked_no_more_is_told_and_the_others_still_count(member, posts):
    save(member, "spider\nrelease:first")
    Preference.objects.filter(user=member.user).update(blacklist="spider\nrelease:gone\ncat profile:gone")
    text = member.get("/").content.decode()
    assert "“release:gone” on your blacklist can" in text and "“cat profile:gone” on your blacklist can" in text
    assert shown(member) == ids(posts, 5, 2, 1, 0)


def test_aliases_count_in_a_blacklist(member, posts):
    TagAlias.objects.create(name="arachnid", tag=Tag.objects.get(name="spider"))
    save(member, "arachnid")
    assert shown(member) == ids(posts, 5, 2, 1, 0)


@pytest.mark.parametrize("line", ["spider", "arachnid -drawing"])
@pytest.mark.parametrize("query", ["spider", "arachnid", "cat bug"])
def test_who_names_a_tag_or_an_alias_of_it_has_asked_for_it(member, posts, line, query):
    TagAlias.objects.create(name="arachnid", tag=Tag.objects.get(name="spider"))
    TagAlias.objects.create(name="bug", tag=Tag.objects.create(name="arachnid"))
    save(member, line)
    assert shown(member, query) == ids(posts, 4, 3) and shown(member, "cat") != ids(posts, 5, 4, 3, 2, 1, 0)
    [toggle] = member.get("/", {"q": query}).context["hiding"].toggles
    assert toggle.asked and toggle.shown
    [toggle] = member.get("/review/", {"q": query}).context["hiding"].toggles
    assert toggle.asked and toggle.shown


def test_who_asks_what_was_said_of_a_tag_is_understood_by_its_alias(member, posts):
    TagAlias.objects.create(name="arachnid", tag=Tag.objects.get(name="spider"))
    save(member, "ai:arachnid,>20%")
    assert shown(member, "ai:spider,>20%") == ids(posts, 5, 4, 3)
    assert shown(member, "ai:spider,>10%") == []


@pytest.mark.django_db(transaction=True)
def test_a_blacklist_costs_a_page_one_query(member, posts):
    def queries() -> int:
        member.get("/?q=cat")
        with CaptureQueriesContext(connection) as captured:
            member.get("/?q=cat")
        return len(captured)

    before = queries()
    save(member, "\n".join(["spider -drawing", "width:<50", "human:cat", "dra*", *(f"tag_{n}" for n in range(90))]))
    assert queries() == before + 1


def test_a_slow_blacklist_hides_nothing_and_says_so(member, posts):
    Post.objects.update(source="a" * 500_000)
    save(member, "\n".join(["spider", *(f"source:*b{number}*" for number in range(90))]))
    assert "takes too long" in member.get("/").content.decode() and len(shown(member)) == 6


def test_only_rules_one_has_are_remembered(member, posts):
    save(member, "spider")
    member.post("/account/blacklist/show/", {"show": ["nonsense"], "next": "https://elsewhere.example/"})
    assert member.session["blacklist"] == {}
    assert Client().post("/account/blacklist/show/").url.startswith("/login/")


def test_the_account_leads_to_it(member, posts):
    assert "empty · " in member.get("/account/").content.decode()
    save(member, "spider\ncat")
    assert "2 lines · " in member.get("/account/").content.decode()
    assert "Your blacklist is empty now." in save(member, "  \n ").content.decode()
