import re

import pytest
from django.test import Client
from playwright.sync_api import expect

from gallery.models import Edit, Post, TagIndex
from tests.gallery.making import make_post
from tests.gallery.views.people import bring_in, signed_in

HTMX = {"HTTP_HX_REQUEST": "true"}
ADDRESS = "https://example.org/1"
pytestmark = pytest.mark.django_db


@pytest.fixture
def post():
    made = make_post(source=ADDRESS, credit="Jane Doe")
    TagIndex.objects.create(post=made)
    return made


@pytest.fixture
def parent():
    return make_post()


def url(post: Post) -> str:
    return f"/posts/{post.pk}/edit/"


def sent(post: Post, **changed: str) -> dict[str, str]:
    """The whole form as a browser sends it."""
    there = {"source": post.source, "credit": post.credit, "parent": str(post.parent_id or "")}
    return {f"initial-{name}": value for name, value in there.items()} | there | changed


def now(post: Post) -> tuple[str, str, int | None]:
    return Post.objects.values_list("source", "credit", "parent").get(pk=post.pk)


def test_a_member_changes_what_another_uploaded(post, parent):
    member = signed_in()
    form = sent(post, source=" a  book ", parent=f"http://testserver/posts/{parent.pk}/?q=cat", here="q=cat")
    answer = member.post(url(post), form, follow=True)
    assert answer.redirect_chain == [(f"/posts/{post.pk}/?q=cat", 302)]
    assert "Saved: source, parent." in answer.content.decode()
    assert now(post) == ("a book", "Jane Doe", parent.pk)
    assert set(Edit.objects.values_list("user", "detail")) == {(member.user.pk, "source"), (member.user.pk, "parent")}
    page = member.get(f"/?q=parent:{parent.pk}").content.decode()
    assert f"/posts/{post.pk}/" in page


def test_a_part_of_the_page_answers_htmx_with_the_family(post, parent):
    text = signed_in().post(url(post), sent(post, parent=f"#{parent.pk}"), **HTMX).content.decode()
    assert "<html" not in text and 'id="details"' in text and "Saved: parent." in text
    assert 'id="family" hx-swap-oob="true" aria-label' in text and parent.get_absolute_url() in text
    text = signed_in().post(url(post), sent(Post.objects.get(pk=post.pk), parent=""), **HTMX).content.decode()
    assert 'id="family" hx-swap-oob="true" hidden' in text


def test_nothing_changed_is_said(post):
    assert "Nothing was changed." in signed_in().post(url(post), sent(post), **HTMX).content.decode()
    assert not Edit.objects.exists()


BAD = [
    ("source", "https://", "Write the whole address"),
    ("source", "http:example.org", "Write the whole address"),
    ("source", "https://example.org/a picture", "without spaces"),
    ("source", "http://[", "Write the whole address"),
    ("source", "x" * 2001, "at most 2,000 characters, and this has 2,001"),
    ("credit", "x" * 501, "at most 500 characters, and this has 501"),
    ("parent", "twelve", "Write the number of a post"),
    ("parent", "-1", "Write the number of a post"),
    ("parent", "9" * 40, "Write the number of a post"),
    ("parent", "9" * 18, "There is no post 9"),
    ("source", "a\0b", "Null characters"),
]


@pytest.mark.parametrize("htmx", [True, False])
@pytest.mark.parametrize(("name", "text", "sentence"), BAD)
def test_a_mistake_is_explained_and_nothing_is_lost(post, name, text, sentence, htmx):
    form = sent(post, credit="Typed with care", source="a book") | {name: text}
    answer = signed_in().post(url(post), form, **(HTMX if htmx else {}))
    assert answer.status_code == 422 and now(post) == (ADDRESS, "Jane Doe", None)
    page = answer.content.decode()
    assert sentence in page and ("<html" in page) is not htmx
    assert text.replace("\0", "") in page.replace("\0", "") and ("Typed with care" in page or name == "credit")
    (focused,) = re.findall(r"<[^<]*autofocus[^<]*>", page)
    assert f'name="{name}"' in focused
    if htmx:
        assert re.search(r"<details[^>]* open>", page)


def test_what_was_there_before_is_not_judged(post):
    """A source of an older site that would be refused now stands in nobody's way."""
    Post.objects.filter(pk=post.pk).update(source="https://", credit="y" * 600, parent=make_post(status="deleted"))
    post.refresh_from_db()
    signed_in().post(url(post), sent(post, credit="short"))
    assert now(post) == ("https://", "short", post.parent_id)


def test_nobody_overwrites_what_another_changed_meanwhile(post):
    form = sent(post, credit="John Doe")
    signed_in().post(url(post), sent(post, source="a book"))
    signed_in().post(url(post), form)
    assert now(post) == ("a book", "John Doe", None)


def test_lines_of_a_credit_stay(post):
    signed_in().post(url(post), sent(post, credit="Jane\r\nCC BY 4.0"))
    assert now(post)[1] == "Jane\nCC BY 4.0"
    post.refresh_from_db()
    form = sent(post, source="") | dict.fromkeys(("credit", "initial-credit"), "Jane\r\nCC BY 4.0")
    signed_in().post(url(post), form)
    assert set(Edit.objects.values_list("detail", flat=True)) == {"credit", "source"}


def test_what_was_changed_is_listed_and_undone(post, parent):
    member = signed_in("ada")
    member.post(url(post), sent(post, source="<b>", parent=str(parent.pk)))
    page = member.get(url(post)).content.decode()
    assert "&lt;b&gt;" in page and f"post {parent.pk}" in page and "ada" in page and page.count("/undo/") == 2
    assert "Nobody has changed these" in member.get(url(parent)).content.decode()
    source, _ = Edit.objects.order_by("pk")
    assert member.post(f"/posts/{post.pk}/edits/{source.pk}/undo/").url == f"/posts/{post.pk}/"
    assert now(post) == (ADDRESS, "Jane Doe", parent.pk)
    text = member.post(f"/posts/{post.pk}/edits/{source.pk}/undo/", **HTMX)
    assert text.status_code == 422 and "changed again since" in text.content.decode()
    again = member.post(f"/posts/{post.pk}/edits/{source.pk}/undo/", follow=True)
    assert "changed again since" in again.content.decode()


def test_who_may_not_edit(post):
    edit = Edit.objects.create(post=post, detail="source", before="", after=ADDRESS)
    undo = f"/posts/{post.pk}/edits/{edit.pk}/undo/"
    assert "Edit details" not in Client().get(f"/posts/{post.pk}/").content.decode()
    assert "Edit details" in signed_in().get(f"/posts/{post.pk}/").content.decode()
    for address in (url(post), undo):
        assert Client().post(address, sent(post, source="")).url.startswith("/login/")
    other = make_post()
    assert signed_in().post(f"/posts/{other.pk}/edits/{edit.pk}/undo/").status_code == 404
    assert signed_in().get(undo).status_code == 405
    Post.objects.filter(pk=post.pk).update(status="deleted")
    for address in (url(post), undo):
        assert signed_in().post(address, sent(post, source="")).status_code == 404
        assert signed_in(is_staff=True).post(address, sent(post, source="")).status_code == 403
    assert "Edit details" not in signed_in(is_staff=True).get(f"/posts/{post.pk}/").content.decode()
    assert now(post)[0] == ADDRESS


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_by_keys_alone_with_a_mistake_and_an_undo(post, parent, page, live_server, expected_errors):
    expected_errors += ["404", "422"]  # these posts have no files; a mistake is answered with 422
    bring_in(signed_in(), page, live_server.url).goto(f"{live_server.url}/posts/{post.pk}/")
    page.keyboard.press("e")
    source = page.get_by_label("Source")
    expect(source).to_be_focused()
    source.fill("a book")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Parent")).to_be_focused()
    page.keyboard.type(f"{post.pk}\n")
    expect(page.get_by_role("alert")).to_contain_text("can't be its own parent")
    expect(page.get_by_label("Parent")).to_be_focused()
    expect(source).to_have_value("a book")
    page.get_by_label("Parent").fill(str(parent.pk))
    page.keyboard.press("Enter")
    told = page.get_by_role("status").filter(has_text="Saved: source, parent.")
    expect(told).to_be_focused()
    expect(source).to_be_hidden()
    expect(page.get_by_label("Parent and children").get_by_role("link")).to_have_count(2)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Saved: parent.")).to_be_focused()
    expect(page.get_by_label("Parent and children")).to_have_count(0)
    assert now(post) == ("a book", "Jane Doe", None)


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_without_scripts_on_a_phone(post, new_page, live_server, expected_errors):
    expected_errors += ["404", "422"]
    page = new_page(viewport={"width": 390, "height": 844}, java_script_enabled=False, has_touch=True)
    bring_in(signed_in(), page, live_server.url).goto(f"{live_server.url}/posts/{post.pk}/")
    page.get_by_text("Edit details").tap()
    page.get_by_label("Source").fill("https://")
    page.get_by_role("button", name="Save").tap()
    expect(page.get_by_role("alert")).to_contain_text("Write the whole address")
    page.get_by_label("Source").fill("https://example.org/2")
    page.get_by_role("button", name="Save").tap()
    expect(page.get_by_text("Saved: source.")).to_be_visible()
    expect(page.get_by_role("link", name="https://example.org/2")).to_be_visible()
