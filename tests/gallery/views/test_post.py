import pytest
from django.test import Client

from gallery.index import indexing
from gallery.models import Category, Post, PostStatus, Tag, TaggingState
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, make_user, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def post():
    """A tagged post: smile at 0.9, hat at 0.3, saber at 0.8, under the default threshold of 0.5."""
    tags = [make_tag("smile"), make_tag("hat"), make_tag("saber_(fate)", Category.CHARACTER)]
    release = make_release(tags=tags)
    make_site_profiles(release, category_specific=0.5)
    made = make_post(uploader=make_user("owner"), source="https://example.org/1", credit="Jane Doe, CC BY 4.0")
    predict(made, release, dict(zip(tags, (0.9, 0.3, 0.8), strict=True)))
    indexing.rebuild([made.pk])
    return made


def _text(url: str, client: Client | None = None, **headers) -> str:
    return (client or Client()).get(url, **headers).content.decode()


def test_the_page_shows_what_is_on(post):
    text = _text(f"/posts/{post.pk}/")
    assert "smile" in text and "saber (fate)" in text and ">hat<" not in text.split("About this post")[0]
    assert f'alt="Post {post.pk}: saber (fate), smile"' in text
    assert "90%" in text and "Jane Doe" in text and 'href="https://example.org/1"' in text and "first" in text


def test_all_that_was_predicted_can_be_shown(post):
    assert ">hat<" in _text(f"/posts/{post.pk}/?show=all")


def test_each_release_shows_what_it_said_and_how_sure(post):
    second, hat = make_release("second", active=False, tags=[]), Tag.objects.get(name="hat")
    predict(post, second, {hat: 0.7})
    signed_in().post(f"/posts/{post.pk}/verdicts/{hat.pk}/", {"answer": "no"})
    newer, older = Client().get(f"/posts/{post.pk}/").context["predictions"]
    assert (newer.prediction.release, [tag.name for tag, _ in newer.tags]) == (second, ["hat"])
    assert [(tag.name, byte) for tag, byte in older.tags] == [("smile", 228), ("saber_(fate)", 203), ("hat", 76)]
    text = _text(f"/posts/{post.pk}/")
    assert "<details>" in text and "70%" in text and "30%" in text


def test_strangers_see_no_verdict_buttons(post):
    assert 'value="yes"' not in _text(f"/posts/{post.pk}/")
    assert "Sign in" in _text(f"/posts/{post.pk}/")
    assert 'value="yes"' in _text(f"/posts/{post.pk}/", signed_in())


def test_a_rejected_tag_stays_in_reach_of_undo(post):
    client = signed_in()
    tag = post.tag_index.tag_ids[0]
    client.post(f"/posts/{post.pk}/verdicts/{tag}/", {"answer": "no"})
    assert "is-rejected" in _text(f"/posts/{post.pk}/", client)


def test_the_way_leads_through_the_search_one_came_from(post):
    older, between, newer = post, make_post(), make_post()
    smile = post.predictions.get().tag_ids[0]
    for each in (newer, between):
        indexing.rebuild([each.pk])
    signed_in().post(f"/posts/{newer.pk}/verdicts/{smile}/", {"answer": "yes"})
    answer = Client().get(f"/posts/{older.pk}/?q=smile")
    assert (answer.context["newer"], answer.context["older"]) == (newer.pk, None)
    assert f"/posts/{newer.pk}/?q=smile" in answer.content.decode()
    everything = Client().get(f"/posts/{older.pk}/")
    assert everything.context["newer"] == between.pk


@pytest.mark.parametrize(
    ("text", "back", "on"),
    [("", "Newer", "Older"), ("order:id_desc", "Newer", "Older"), ("order:id", "Previous", "Next")]
    + [("order:width", "Previous", "Next"), ("random:5 randseed:7", "Previous", "Next")],
)
def test_the_way_is_called_by_the_order_of_the_list(post, text, back, on):
    words = Client().get(f"/posts/{post.pk}/", {"q": text}).content.decode()
    way = words[words.index('aria-label="Posts of the search"') :]
    way = way[: way.index("</nav>")]
    assert {word for word in ("Newer", "Older", "Previous", "Next") if word in way} == {back, on}


def test_a_bad_search_in_the_address_does_no_harm(post):
    answer = Client().get(f"/posts/{post.pk}/?q=(((")
    assert answer.status_code == 200 and answer.context["newer"] is None


def test_htmx_gets_the_panel_alone(post):
    text = _text(f"/posts/{post.pk}/", **HTMX)
    assert 'id="panel"' in text and "<html" not in text


@pytest.mark.parametrize("state", [TaggingState.WAITING, TaggingState.TAGGING])
def test_while_it_waits_the_page_asks_again(state):
    assert 'hx-trigger="every 2s"' in _text(f"/posts/{make_post(tagging_state=state).pk}/")


def test_a_failure_says_why_and_staff_may_try_again():
    made = make_post(tagging_state=TaggingState.FAILED, tagging_error="The file is damaged.")
    assert "The file is damaged." in _text(f"/posts/{made.pk}/")
    assert "Try again" not in _text(f"/posts/{made.pk}/", signed_in())
    assert "Try again" in _text(f"/posts/{made.pk}/", signed_in(is_staff=True))


def test_only_web_sources_become_links(post):
    Post.objects.update(source="javascript:alert(1)")
    text = _text(f"/posts/{post.pk}/")
    assert "javascript:alert(1)" in text and 'href="javascript' not in text


def test_animations_are_shown_as_they_are():
    made = make_post(animated=True, ext="gif")
    assert f'src="{made.file_url}"' in _text(f"/posts/{made.pk}/")


def test_an_unknown_post_is_not_found():
    assert Client().get("/posts/1/").status_code == 404


def test_uploader_and_staff_delete_and_restore(post):
    owner = Client()
    owner.force_login(post.uploader)
    for client in (owner, signed_in(is_staff=True)):
        page = client.post(f"/posts/{post.pk}/delete/", follow=True)
        assert "Restore" in page.content.decode()
        assert Post.objects.get().status == PostStatus.DELETED
        assert Client().get(f"/posts/{post.pk}/").status_code == 404
        assert str(post.pk) not in [str(p.pk) for p, _ in Client().get("/").context.get("tiles") or []]
        client.post(f"/posts/{post.pk}/restore/")
        assert Post.objects.get().status == PostStatus.ACTIVE
        assert "smile" in _text(f"/posts/{post.pk}/")


@pytest.mark.parametrize("act", ["delete", "restore"])
def test_nobody_else_deletes_or_restores(post, act):
    assert signed_in().post(f"/posts/{post.pk}/{act}/").status_code == 403
    assert Client().post(f"/posts/{post.pk}/{act}/").url.startswith("/login/")
    assert signed_in(is_staff=True).get(f"/posts/{post.pk}/{act}/").status_code == 405
    assert signed_in(is_staff=True).post(f"/posts/{post.pk + 1}/{act}/").status_code == 404
    assert Post.objects.get().status == PostStatus.ACTIVE


def test_on_a_site_for_members_strangers_see_no_post(post, settings):
    settings.SITE_MODE = "members"
    assert Client().get(f"/posts/{post.pk}/").url == f"/login/?next=/posts/{post.pk}/"
    part = Client().get(f"/posts/{post.pk}/", HTTP_HX_CURRENT_URL="http://testserver/posts/1/", **HTMX)
    assert part.headers["HX-Redirect"] == "/login/?next=/posts/1/"


def test_the_uploader_can_not_restore_what_the_staff_deleted(post):
    owner = Client()
    owner.force_login(post.uploader)
    signed_in(is_staff=True).post(f"/posts/{post.pk}/delete/")
    page = _text(f"/posts/{post.pk}/", owner)
    assert "by the staff" in page and f"/posts/{post.pk}/restore/" not in page
    answer = owner.post(f"/posts/{post.pk}/restore/")
    assert answer.status_code == 403 and "ask them to restore it" in answer.content.decode()
    assert Post.objects.get().status == PostStatus.DELETED
