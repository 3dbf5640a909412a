import pytest
from django.test import Client

from gallery.index import histograms, indexing
from gallery.models import Category, TagAlias, TagImplication
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def tags():
    """smile on two posts at 0.9 and 0.3, saber on one; two site profiles."""
    smile, saber = make_tag("smile"), make_tag("saber_(fate)", Category.CHARACTER, description="A swordswoman.")
    release = make_release(tags=[smile, saber])
    make_site_profiles(release, category_specific=0.5, high_recall=0.2)
    posts = [make_post(), make_post()]
    predict(posts[0], release, {smile: 0.9, saber: 0.8})
    predict(posts[1], release, {smile: 0.3})
    indexing.rebuild([post.pk for post in posts])
    histograms.refresh(force=True)
    return {"smile": smile, "saber": saber}


def _rows(answer) -> dict[str, int]:
    return {tag.name: count for tag, count in answer.context["rows"]}


def test_tags_are_counted_under_the_visitors_profile(tags):
    client = Client()
    assert _rows(client.get("/tags/")) == {"smile": 1, "saber_(fate)": 1}
    profile = next(each for each in client.get("/tags/").context["profile_choices"] if each.key == "high-recall")
    client.post("/profiles/choose/", {"profile": profile.pk})
    assert _rows(client.get("/tags/")) == {"smile": 2, "saber_(fate)": 1}


def test_tags_are_found_by_name_and_category(tags):
    assert set(_rows(Client().get("/tags/?name=sab"))) == {"saber_(fate)"}
    assert set(_rows(Client().get("/tags/?name=Saber (F"))) == {"saber_(fate)"}
    assert set(_rows(Client().get("/tags/?category=general"))) == {"smile"}
    assert "No tag matches" in Client().get("/tags/?name=zzz").content.decode()
    assert Client().get("/tags/?category=nonsense&page=99").status_code == 200


def test_many_tags_come_in_pages(tags):
    for number in range(120):
        make_tag(f"tag_{number:03}")
    assert len(_rows(Client().get("/tags/"))) == 100
    assert len(_rows(Client().get("/tags/?page=2"))) == 22


def test_a_tags_page_says_what_it_means_and_brings(tags):
    TagAlias.objects.create(name="arturia", tag=tags["saber"])
    series = make_tag("fate/stay_night", Category.COPYRIGHT)
    TagImplication.objects.create(tag=tags["saber"], implied=series)
    text = Client().get("/tags/saber_(fate)/").content.decode()
    assert "A swordswoman." in text and "arturia" in text and "fate/stay night" in text and "1 post" in text
    assert "saber (fate)" in Client().get("/tags/fate/stay_night/").content.decode()


def test_an_alias_leads_to_its_tag(tags):
    TagAlias.objects.create(name="arturia", tag=tags["saber"])
    assert Client().get("/tags/arturia/").url == "/tags/saber_(fate)/"


def test_an_unknown_tag_is_not_found(tags):
    answer = Client().get("/tags/nothing/")
    assert answer.status_code == 404 and "Nothing is here" in answer.content.decode()


def test_what_people_wrote_is_escaped(tags):
    make_tag("<script>alert(1)</script>", description="<img onerror=x>")
    for url in ("/tags/", "/tags/%3Cscript%3Ealert(1)%3C%2Fscript%3E/"):
        text = Client().get(url).content.decode()
        assert "<script>alert" not in text and "<img onerror" not in text


def test_tags_are_only_read(tags):
    assert Client().post("/tags/").status_code == 405
    assert Client().post("/tags/smile/").status_code == 405


def test_on_a_site_for_members_strangers_see_no_tags(tags, settings):
    settings.SITE_MODE = "members"
    assert Client().get("/tags/").url.startswith("/login/")
    assert Client().get("/tags/smile/").url.startswith("/login/")


@pytest.mark.parametrize("address", ["/tags/?name=a%00b", "/tags/a%00b/", "/suggest/?q=%00", "/profiles/?from=%00"])
def test_an_address_that_no_row_can_hold_is_refused(address):
    assert Client().get(address).status_code == 400


# Forms that a browser never sends: in these encodings, what is written in plain letters becomes no text at all.
@pytest.mark.parametrize("encoding", ["utf-7", "unicode_escape", "utf-16"])
def test_a_request_in_another_encoding_is_refused(encoding):
    for address in ("/tags/?name=%2B2AA-", "/?q=%5Cud800"):
        kind = f"multipart/form-data; boundary=x; charset={encoding}"
        assert Client().generic("GET", address, b"x", content_type=kind).status_code == 400
    plain = {"content_type": "text/plain; charset=utf8"}
    assert Client().generic("GET", "/tags/?name=caf%C3%A9", b"x", **plain).status_code == 200


def test_a_session_that_no_row_can_hold_is_refused():
    client = Client()
    client.cookies["sessionid"] = "a-session\0"
    assert client.get("/").status_code == 400


def test_a_name_is_found_however_its_accents_are_typed():
    make_tag("caf\u00e9_table")
    assert "caf\u00e9_table" in Client().get("/tags/", {"name": "Cafe\u0301 Table"}).content.decode()


def test_an_admin_is_led_to_where_a_tag_is_edited(tags):
    page = signed_in(is_staff=True, is_superuser=True).get("/tags/smile/").content.decode()
    for path in (
        f"/admin/gallery/tag/{tags['smile'].pk}/change/",
        f"/admin/gallery/tagalias/add/?tag={tags['smile'].pk}",
    ):
        assert f'href="{path}"' in page
    assert "/admin/" not in signed_in().get("/tags/smile/").content.decode()
