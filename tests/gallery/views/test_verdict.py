import pytest
from django.test import Client

from gallery.index import indexing
from gallery.models import Category, Tag, TagIndex, Verdict
from tests.gallery.making import make_post, make_release, make_tag, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def post():
    return make_post()


@pytest.fixture
def smile(post):
    tag = make_tag("smile")
    predict(post, make_release(tags=[tag]), {tag: 0.9})
    indexing.rebuild([post.pk])
    return tag


def _url(post, tag) -> str:
    return f"/posts/{post.pk}/verdicts/{tag.pk}/"


def test_no_takes_the_tag_away_and_undo_brings_it_back(post, smile):
    client = signed_in()
    answer = client.post(_url(post, smile), {"answer": "no"})
    assert answer.status_code == 302 and answer.url == f"/posts/{post.pk}/"
    verdict = Verdict.objects.get(post=post, tag=smile)
    assert (verdict.answer, verdict.user, verdict.confidence) == (False, client.user, 228)
    assert TagIndex.objects.get(post=post).tag_ids == []

    client.post(_url(post, smile), {"answer": "undo"})
    assert not Verdict.objects.exists()
    assert TagIndex.objects.get(post=post).tag_ids == [smile.pk]


def test_a_part_of_the_page_answers_htmx(post, smile):
    answer = signed_in().post(_url(post, smile), {"answer": "yes"}, **HTMX)
    assert answer.status_code == 200
    text = answer.content.decode()
    assert "<html" not in text and 'id="panel"' in text and "A person said yes" in text


def test_the_answer_stays_in_the_search_one_came_from(post, smile):
    answer = signed_in().post(_url(post, smile), {"answer": "yes", "here": "q=smile+-hat&show=all&next=//evil"})
    assert answer.url == f"/posts/{post.pk}/?q=smile+-hat&show=all"


def test_strangers_are_sent_to_sign_in(post, smile):
    assert Client().post(_url(post, smile), {"answer": "no"}).url == "/login/?next=/"
    part = Client().post(
        _url(post, smile), {"answer": "no"}, HTTP_HX_CURRENT_URL=f"http://testserver/posts/{post.pk}/?q=a", **HTMX
    )
    assert part.headers["HX-Redirect"] == f"/login/?next=/posts/{post.pk}/%3Fq%3Da"
    assert Client().post(f"/posts/{post.pk}/tags/", {"tag": "hat"}).status_code == 302
    assert not Verdict.objects.exists()


@pytest.mark.parametrize("answer", ["", "maybe"])
def test_other_answers_are_refused(post, smile, answer):
    assert signed_in().post(_url(post, smile), {"answer": answer}).status_code == 400
    assert not Verdict.objects.exists()


def test_what_is_not_there_is_not_found(post, smile):
    client = signed_in()
    assert client.post(f"/posts/{post.pk}/verdicts/{smile.pk + 1}/", {"answer": "yes"}).status_code == 404
    assert client.post(f"/posts/{post.pk + 1}/verdicts/{smile.pk}/", {"answer": "yes"}).status_code == 404
    deleted = make_post(status="deleted")
    assert client.post(_url(deleted, smile), {"answer": "yes"}).status_code == 404
    assert not Verdict.objects.exists()


def test_verdicts_and_tags_come_by_post_only(post, smile):
    client = signed_in()
    assert client.get(_url(post, smile)).status_code == 405
    assert client.get(f"/posts/{post.pk}/tags/").status_code == 405


def test_a_form_without_its_token_is_refused(post, smile):
    client = Client(enforce_csrf_checks=True)
    client.force_login(signed_in().user)
    answer = client.post(_url(post, smile), {"answer": "no"})
    assert answer.status_code == 403 and "This form is too old" in answer.content.decode()
    assert not Verdict.objects.exists()


def test_a_member_adds_a_known_and_a_new_tag(post, smile):
    client = signed_in()
    client.post(f"/posts/{post.pk}/tags/", {"tag": "smile"})
    client.post(f"/posts/{post.pk}/tags/", {"tag": "artist:Jane Doe"})
    made = Tag.objects.get(name="jane_doe")
    assert made.category == Category.ARTIST
    assert set(Verdict.objects.filter(post=post, answer=True).values_list("tag_id", flat=True)) == {smile.pk, made.pk}


def test_a_name_that_is_no_tag_is_explained(post):
    client = signed_in()
    part = client.post(f"/posts/{post.pk}/tags/", {"tag": "a*b"}, **HTMX)
    assert part.status_code == 422 and "can&#x27;t begin with" in part.content.decode()
    assert 'id="added"' in part.content.decode().partition("</section>")[2].partition("can&#x27;t begin")[0]
    page = client.post(f"/posts/{post.pk}/tags/", {"tag": ""}, follow=True)
    assert "Type the name of a tag." in page.content.decode()
    assert not Tag.objects.exists()


def test_a_post_has_one_rating(post):
    client = signed_in()
    client.post(f"/posts/{post.pk}/tags/", {"tag": "rating:general"})
    client.post(f"/posts/{post.pk}/tags/", {"tag": "rating:explicit"})
    assert Verdict.objects.get(post=post).tag.name == "rating_explicit"
    assert 'aria-pressed="true"' in client.get(f"/posts/{post.pk}/").content.decode()


def test_what_was_added_is_said_beside_the_box(post):
    Tag.objects.create(name="car", category=Category.GENERAL).aliases.create(name="automobile")
    client = signed_in()
    text = client.post(f"/posts/{post.pk}/tags/", {"tag": "automobile"}, **HTMX).content.decode()
    assert 'Added <span class="tag tag-general">car</span>' in text
    assert "Added" not in client.post(f"/posts/{post.pk}/tags/", {"tag": "rating:general"}, **HTMX).content.decode()
