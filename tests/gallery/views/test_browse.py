import re
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from gallery import profiles, search
from gallery.index import histograms, indexing
from gallery.models import Category, Post, Profile, Tag, TagAlias, TaggingState
from gallery.releases import retagging
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, make_user, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def posts():
    """Five posts with smile at 0.9, the newest two with saber at 0.3, too."""
    smile, saber = make_tag("smile"), make_tag("saber_(fate)", Category.CHARACTER)
    release = make_release(tags=[smile, saber])
    make_site_profiles(release, category_specific=0.5, high_recall=0.2)
    made = [make_post() for _ in range(5)]
    for number, post in enumerate(made):
        predict(post, release, {smile: 0.9} | ({saber: 0.3} if number >= 3 else {}))
    indexing.rebuild([post.pk for post in made])
    histograms.refresh(force=True)
    return made


def _shown(answer) -> list[int]:
    return [post.pk for post, _ in answer.context["tiles"]]


def test_posts_come_newest_first(posts):
    answer = Client().get("/")
    assert _shown(answer) == [post.pk for post in reversed(posts)]
    text = answer.content.decode()
    assert "5 posts" in text and f'alt="Post {posts[0].pk}: smile"' in text


def test_a_bare_tag_means_on_for_this_visitor(posts):
    client = Client()
    assert _shown(client.get("/?q=saber_(fate)")) == []
    profile = next(each for each in client.get("/").context["profile_choices"] if each.key == "high-recall")
    back = client.post("/profiles/choose/", {"profile": profile.pk, "next": "/?q=saber_(fate)"})
    assert back.url == "/?q=saber_(fate)"
    assert _shown(client.get(back.url)) == [posts[4].pk, posts[3].pk]


def test_pages_link_to_newer_and_older(posts, settings):
    settings.PAGE_SIZE = 2
    client, url, seen = Client(), "/?q=smile", []
    while url:
        answer = client.get(url)
        seen += _shown(answer)
        cursor = answer.context["page"].next
        if cursor:
            assert 'rel="next"' in answer.content.decode()
        url = f"/?q=smile&after={cursor}" if cursor else None
    assert seen == [post.pk for post in reversed(posts)]
    back = client.get(f"/?q=smile&before={answer.context['page'].previous}")
    assert _shown(back) == [posts[2].pk, posts[1].pk]


def test_pages_have_numbers(posts, settings):
    settings.PAGE_SIZE = 2
    client, newest = Client(), [post.pk for post in reversed(posts)]
    assert _shown(client.get("/?q=smile&page=2")) == newest[2:4]
    assert _shown(client.get("/?page=3")) == newest[4:]
    text = client.get("/?q=smile&page=2").content.decode()
    assert 'href="?q=smile" aria-label="Page 1"' in text and 'href="?q=smile&amp;page=3" aria-label="Page 3"' in text
    assert 'aria-label="Page 2, this one"' in text and "page 2 of 3" in text
    onward = client.get("/?q=smile").context["pager"].next
    assert "page=2" in onward and "after=" in onward
    answer = client.get("/" + onward)
    assert _shown(answer) == newest[2:4] and answer.context["pager"].number == 2
    assert answer.context["pager"].previous == "?q=smile"


def test_pages_beyond_the_list_say_where_it_ends(posts):
    text = Client().get("/?q=smile&page=7").content.decode()
    assert "The list ends before page 7" in text and "Go to the first page" in text
    for page in ("0", "1001", "-1", "x", "9" * 30):
        answer = Client().get("/", {"q": "smile", "page": page})
        assert answer.status_code == 400 and "There is no such page" in answer.content.decode(), page
    assert Client().get("/?page=").status_code == 200


@pytest.mark.parametrize(
    ("query", "text", "count"),
    [
        ("?limit=2", "limit:2", 2),
        ("?q=smile or saber_(fate)&limit=3", "(smile or saber_(fate)) limit:3", 3),
        ("?q=smile limit:4&limit=2", "smile limit:4", 4),
        ("?q=smile&limit=0", "smile", 5),
        ("?q=smile&limit=x", "smile", 5),
    ],
)
def test_a_limit_in_the_address_is_one_in_the_search(posts, query, text, count):
    answer = Client().get("/" + query)
    assert (answer.context["q"], len(_shown(answer))) == (text, count)
    if answer.context["pager"].next:
        assert len(_shown(Client().get("/" + answer.context["pager"].next))) == min(count, 5 - count)


def test_pages_beside_a_post_as_danbooru_writes_them(posts, settings):
    settings.PAGE_SIZE = 2
    ids = [post.pk for post in posts]
    assert _shown(Client().get(f"/?page=b{ids[3]}")) == [ids[2], ids[1]]
    assert _shown(Client().get(f"/?page=a{ids[1]}")) == [ids[3], ids[2]]
    assert Client().get(f"/?page=a{ids[1]}&q=order:width").status_code == 400


def test_a_random_list_keeps_its_order_from_page_to_page(posts, settings):
    settings.PAGE_SIZE = 2
    client = Client()
    answer = client.get("/?q=order:random")
    seen = _shown(answer)
    while onward := answer.context["pager"].next:
        answer = client.get("/" + onward)
        seen += _shown(answer)
    assert sorted(seen) == sorted(post.pk for post in posts)
    first = client.get("/" + answer.context["pager"].steps[0].address)
    assert _shown(first) == seen[:2]


def test_one_goes_from_post_to_post_through_posts_picked_by_chance(posts):
    client = Client()
    page = client.get("/?q=random:3 order:id")
    seen, found = _shown(page), []
    address = unescape(re.search(rf'href="(/posts/{seen[0]}/[^"]*)"', page.content.decode())[1])
    while address:
        answer = client.get(address)
        found.append(answer.context["post"].pk)
        onward = re.search(r'rel="next"[^>]*href="([^"]*)"', answer.content.decode())
        address = unescape(onward[1]) if onward else ""
    assert found == seen and len(seen) == 3


def test_the_sidebar_adds_and_leaves_out_tags(posts):
    answer = Client().get("/?q=smile or saber_(fate)")
    (category, (row,)) = answer.context["tags"][-1]
    assert (category, row.name) == (Category.GENERAL, "smile")
    assert row.narrowed == "(smile or saber_(fate)) smile"
    assert row.without == "(smile or saber_(fate)) -smile"
    (_, (row,)) = Client().get("/?q=smile").context["tags"][-1]
    assert (row.narrowed, row.without) == ("smile", "-smile")
    TagAlias.objects.create(name="grin", tag=Tag.objects.get(name="smile"))
    (_, (row,)) = Client().get("/?q=grin width:8").context["tags"][-1]
    assert (row.narrowed, row.without) == ("width:8 smile", "width:8 -smile")


def test_related_tags_come_with_a_search(posts):
    answer = Client().get("/related/?q=smile profile:high-recall", headers={"HX-Request": "true"})
    text = answer.content.decode()
    assert "<html" not in text and "saber (fate)" in text and "40%" in text
    (_, (alike,)), (_, (often,)) = answer.context["lists"]
    assert alike.narrowed == often.narrowed == "smile profile:high-recall saber_(fate)"
    assert alike.without == "smile profile:high-recall -saber_(fate)"
    assert "No tags come with" in Client().get("/related/?q=smile").content.decode()
    assert "<html" in Client().get("/related/?q=").content.decode()
    answer = Client().get("/related/?q=(smile")
    assert answer.status_code == 400 and "never closed" in answer.content.decode()


def test_a_bad_search_says_what_and_where(posts):
    answer = Client().get("/", {"q": "smile (saber"})
    text = answer.content.decode()
    assert answer.status_code == 400
    assert 'value="smile (saber"' in text and "<mark>" in text and "<span>smile " in text
    assert f"/posts/{posts[0].pk}/" not in text
    assert "This search can't be read" in text


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("smile (saber", "smile (saber)"),
        ("(a (b smile", "(a (b smile))"),
        ("smile )", "smile"),
        ("smile or", "smile"),
        ("smile -", "smile"),
        ("smile ()", "smile"),
        ("(smile or) a", "(smile) a"),
        ("or smile", "smile"),
        ('source:"a b', 'source:"a b"'),
        ("order:filsize smile", "order:filesize smile"),
        ("rating:genral", "rating:general"),
        ("order:id order:md5", "order:id"),
        ("(smile rating:genral", "(smile rating:general)"),
        ("rating:genral order:filsize )", "rating:general order:filesize"),
        ("smile release:frist", "smile release:first"),
        ("smile profile:high-recal", "smile profile:high-recall"),
    ],
)
def test_a_bad_search_is_mended_with_one_click(posts, text, fixed):
    answer = Client().get("/", {"q": text})
    assert answer.status_code == 400
    assert answer.context["fixed"] == fixed
    assert Client().get("/", {"q": fixed}).status_code == 200


def test_a_misspelt_tag_is_put_right_with_one_click(posts):
    answer = Client().get("/", {"q": "smlie or -(human:simle solo)"})
    assert answer.status_code == 200
    assert answer.context["page"].corrected == "smile or -(human:smile solo)"
    assert 'href="/?q=smile%20or%20-%28human%3Asmile%20solo%29"' in answer.content.decode()
    assert not Client().get("/?q=smile").context["page"].corrected


def test_a_stale_or_invented_cursor_is_explained(posts):
    assert Client().get("/?before=nonsense").status_code == 400


def test_finding_nothing_says_so(posts):
    answer = Client().get("/?q=smile -smile")
    assert answer.status_code == 200 and "No post matches" in answer.content.decode()


def test_finding_nothing_says_what_to_leave_out(posts):
    answer = Client().get("/?q=smile saber_(fate) order:id")
    found = [(each.text, each.without, each.profile, each.count.number) for each in answer.context["remedies"]]
    assert found == [
        ("smile order:id", "saber_(fate)", "", 5),
        ("smile saber_(fate) order:id profile:high-recall", "", "high-recall", 2),
    ]
    text = answer.content.decode()
    answer = Client().get("/?q=smile -smile width:1 height:1")
    assert [each.alone for each in answer.context["remedies"]] == ["smile"]
    assert "Only <code>smile</code>" in answer.content.decode()
    assert "Without <code>saber_(fate)</code>" in text and "Under the profile high-recall" in text


def test_the_first_page_of_an_empty_site_says_what_to_do():
    text = Client().get("/").content.decode()
    assert "ready for its first picture" in text and "/upload/" in text and "demo pictures" not in text
    assert "demo pictures" in signed_in(is_staff=True).get("/").content.decode()


def test_only_its_uploader_and_staff_see_that_a_post_waits(posts):
    owner = signed_in()
    made = make_post(uploader=owner.user, tagging_state=TaggingState.WAITING)
    indexing.rebuild([made.pk])
    for client, sees in ((owner, True), (signed_in(is_staff=True), True), (signed_in(), False), (Client(), False)):
        assert ("badge-info" in client.get("/").content.decode()) == sees


def test_deleted_posts_are_in_no_list(posts):
    Post.objects.filter(pk=posts[4].pk).update(status="deleted")
    indexing.rebuild([posts[4].pk])
    assert posts[4].pk not in _shown(Client().get("/"))


def test_what_was_searched_is_escaped(posts):
    text = Client().get("/", {"q": '"><script>alert(1)</script>'}).content.decode()
    assert "<script>alert" not in text


def test_suggestions_complete_the_word_at_the_cursor(posts):
    TagAlias.objects.create(name="arturia", tag_id=posts[4].tag_index.tag_ids[1])
    answer = Client().get("/suggest/", {"q": "smi saber", "cursor": "3"}).json()["suggestions"]
    assert [each["value"] for each in answer][:1] == ["smile"]
    assert answer[0]["category"] == "general" and answer[0]["count"] == 5
    assert Client().get("/suggest/", {"q": "-sab"}).json()["suggestions"][0]["label"] == "saber_(fate)"
    assert Client().get("/suggest/", {"q": "(((", "cursor": "x" * 9}).status_code == 200
    assert Client().get("/suggest/").status_code == 200


def test_the_pages_are_only_read(posts):
    assert Client().post("/").status_code == 405
    assert Client().post("/suggest/").status_code == 405


def test_on_a_site_for_members_strangers_are_sent_to_sign_in(posts, settings):
    settings.SITE_MODE = "members"
    assert Client().get("/?q=smile").url == "/login/?next=/%3Fq%3Dsmile"
    assert Client().get("/suggest/?q=s").status_code == 302
    assert Client().post("/profiles/choose/").status_code == 302
    assert _shown(signed_in().get("/?q=smile"))


def test_a_profile_that_cannot_be_chosen_is_refused(posts):
    stranger = make_user()
    own = profiles.save_own(stranger, "mine", 0.1, {})
    for wanted in (own.pk, "nonsense", ""):
        answer = Client().post("/profiles/choose/", {"profile": wanted}, follow=True)
        assert "That profile is gone" in answer.content.decode()
    assert Client().get("/profiles/choose/").status_code == 405


def test_choosing_never_leads_to_another_site(posts):
    profile = Client().get("/").context["profile_choices"][0]
    for target in ("https://evil.example/", "//evil.example", "javascript:alert(1)"):
        assert Client().post("/profiles/choose/", {"profile": profile.pk, "next": target}).url == "/"


def test_the_theme_is_in_the_page_before_any_script():
    client = Client()
    assert "data-theme=" not in client.get("/").content.decode()
    client.cookies["theme"] = "dark"
    assert '<html lang="en" data-theme="dark">' in client.get("/").content.decode()
    client.cookies["theme"] = '"><script>'
    assert "data-theme=" not in client.get("/").content.decode()


def test_no_page_reads_a_vocabulary_of_which_it_needs_one_name(posts):
    """A release has up to 70,000 tags: an array that costs more to read than the page."""
    staff = signed_in(is_staff=True)
    post, profile = Post.objects.first(), Profile.objects.first()
    staff.post("/profiles/choose/", {"profile": profile.pk})
    retagging.start("all", "", staff.user, profiles.resolve(profile))
    for page in ("/", f"/posts/{post.pk}/", "/profiles/", "/tags/", "/staff/", "/staff/tag-again/"):
        with CaptureQueriesContext(connection) as queries:
            assert staff.get(page).status_code == 200
        assert not [each["sql"] for each in queries if '"release"."tag_ids"' in each["sql"]], page


def test_an_estimate_is_shown_in_round_numbers(posts, monkeypatch):
    for number, shown in ((46_512, "46,500"), (7, "7"), (999_999, "1,000,000")):
        monkeypatch.setattr(search, "count", lambda *args, number=number, **kwargs: search.Count(number, False))
        assert f"about {shown} posts" in Client().get("/?q=smile").content.decode()
