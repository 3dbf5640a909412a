import re

import pytest
from django.urls import reverse

from gallery import correcting
from gallery.index import indexing
from gallery.models import Verdict
from tests.gallery.making import make_post, make_release, make_site_profiles, make_tag, predict
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def tag():
    return make_tag("long_hair", description="Hair below the shoulders.")


@pytest.fixture
def posts(tag):
    """Three posts; the tag's confidence is at the threshold on the last, farther away on the others."""
    release = make_release(tags=[tag])
    make_site_profiles(release, category_specific=0.5)
    made = [make_post(width=10 * number) for number in (1, 2, 3)]
    for post, confidence in zip(made, (0.9, 0.3, 0.5), strict=True):
        predict(post, release, {tag: confidence})
    indexing.rebuild([post.pk for post in made])
    return made


def fields(page: str) -> dict[str, str]:
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    return {name: value for name, value in found.items() if name != "csrfmiddlewaretoken"}


def answer(client, page: str, value: str, **extra: str) -> str:
    response = client.post(
        reverse("review"), {**fields(page), "answer": value, **extra}, headers={"HX-Request": "true"}
    )
    assert response.status_code == 200
    return response.content.decode()


def test_the_most_doubtful_comes_first_and_the_next_picture_is_fetched_ahead(posts, tag):
    client = signed_in()
    page = client.get(reverse("review")).content.decode()
    assert f"Open post {posts[2].pk}" in page and "long hair" in page and "Hair below the shoulders." in page
    part = answer(client, page, "yes")
    assert f"Open post {posts[1].pk}" in part and "1 answered" in part and posts[0].sample_url in part
    verdict = Verdict.objects.get()
    assert (verdict.post, verdict.tag, verdict.answer, verdict.user) == (posts[2], tag, True, client.user)


def test_no_skip_back_and_undo(posts, tag):
    client = signed_in()
    first = client.get(reverse("review")).content.decode()
    second = answer(client, first, "no")
    assert not Verdict.objects.get().answer
    third = answer(client, second, "skip")
    assert f"Open post {posts[0].pk}" in third and "1 answered" in third
    back = answer(client, third, "back")
    assert f"Open post {posts[1].pk}" in back and Verdict.objects.count() == 1
    undone = answer(client, back, "undo")
    assert f"Open post {posts[2].pk}" in undone and "0 answered" in undone and not Verdict.objects.exists()
    assert f"Open post {posts[1].pk}" in answer(client, undone, "yes")


def test_it_ends_when_nothing_is_left(posts, tag):
    client = signed_in()
    page = client.get(reverse("review")).content.decode()
    for _ in posts:
        page = answer(client, page, "yes")
    assert "Nothing is left to ask" in page and "You answered 3." in page


def test_a_post_that_went_away_meanwhile_is_passed_over(posts, tag):
    client = signed_in()
    page = client.get(reverse("review")).content.decode()
    posts[1].delete()
    posts[2].delete()
    assert f"Open post {posts[0].pk}" in answer(client, page, "yes")
    assert not Verdict.objects.exists()


def test_without_script_an_answer_leads_to_the_next_page(posts, tag):
    client = signed_in()
    page = client.get(reverse("review"), {"q": "width:30"}).content.decode()
    response = client.post(reverse("review"), {**fields(page), "answer": "yes"})
    assert response.status_code == 302 and response["Location"] == "/review/?q=width%3A30"
    assert correcting.tags_of(posts[2], profile())[0].verdict is True


def profile():
    from gallery import profiles

    return profiles.resolve(None)


@pytest.mark.parametrize(
    "sent", [{}, {"answer": "maybe", "current": "1.1"}, {"answer": "yes"}, {"answer": "yes", "current": "a.b"}]
)
def test_bad_answers_are_refused(posts, sent):
    assert signed_in().post(reverse("review"), sent).status_code == 400


def test_odd_fields_break_nothing(posts, tag):
    client = signed_in()
    current = f"{posts[0].pk}.{tag.pk}"
    odd = {"ahead": "1,2.3.4,x.y,999999.1", "behind": "9" * 50 + ".1", "count": "many", "q": "((", "current": current}
    response = client.post(reverse("review"), {**odd, "answer": "skip"}, headers={"HX-Request": "true"})
    assert response.status_code == 200


def test_a_search_with_a_mistake_says_so(posts):
    page = signed_in().get(reverse("review"), {"q": "((("}).content.decode()
    assert 'class="error" role="alert"' in page and "Nothing is left" not in page


def test_an_empty_site_says_what_to_do():
    page = signed_in().get(reverse("review")).content.decode()
    assert "No release of the tagger is active" in page


def test_an_answer_changes_what_the_live_region_holds_and_names_its_buttons(posts, tag):
    client = signed_in()
    page = client.get(reverse("review")).content.decode()
    assert page.count('aria-live="polite"') == 1 and page.count('id="question"') == 1
    part = answer(client, page, "yes")
    assert "aria-live" not in part and 'id="question"' not in part
    for each in ("no", "yes", "back", "undo", "skip"):
        assert part.count(f'id="answer-{each}"') == page.count(f'id="answer-{each}"') == 1


def blacklist(client, text: str) -> None:
    client.post(reverse("blacklist"), {"blacklist": text})


def test_what_the_blacklist_hides_is_not_asked_about(posts, tag):
    client = signed_in()
    blacklist(client, "width:30")
    page = client.get(reverse("review")).content.decode()
    assert f"Open post {posts[1].pk}" in page and posts[2].sample_url not in page
    assert '<strong class="number">1</strong> hidden by your' in page and 'name="next" value="/review/?q="' in page
    assert f"Open post {posts[0].pk}" in answer(client, page, "yes")
    named = client.get(reverse("review"), {"q": "width:30"}).content.decode()
    assert f"Open post {posts[2].pk}" in named  # who asks for it sees it


def test_when_only_hidden_posts_are_left_review_says_so_and_shows_them_when_asked(posts, tag):
    client = signed_in()
    blacklist(client, "width:>10")
    part = answer(client, client.get(reverse("review")).content.decode(), "yes")
    assert "Nothing is left to ask" in part and "What is left is hidden by your" in part and "2 posts." in part
    page = client.get(reverse("review")).content.decode()
    rule = re.search(r'name="rule" value="(\w+)"', page)[1]
    back = client.post(reverse("show_blacklisted"), {"show": rule, "next": "/review/?q="}, follow=True)
    assert f"Open post {posts[2].pk}" in back.content.decode()
