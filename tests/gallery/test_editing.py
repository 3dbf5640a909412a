import pytest

from gallery import editing, search, uploading
from gallery.editing import BadEdit
from gallery.models import Edit, Post, TagIndex
from gallery.profiles import Thresholds
from tests.gallery.making import make_post, make_user
from tests.gallery.test_merging import while_another

pytestmark = pytest.mark.django_db


def shown(**fields) -> Post:
    """A post that searches find."""
    post = make_post(**fields)
    TagIndex.objects.create(post=post)
    return post


@pytest.fixture
def post():
    return shown(source="https://example.org/1", credit="Jane Doe")


@pytest.fixture
def ada():
    return make_user("ada")


def found(text: str) -> list[int]:
    return search.find(text, Thresholds(127, {}, {})).post_ids


def test_an_edit_keeps_who_changed_what(post, ada):
    edits = editing.change(post, {"source": "a book", "credit": "Jane Doe"}, ada)
    post.refresh_from_db()
    assert (post.source, post.credit) == ("a book", "Jane Doe")
    edit = Edit.objects.get()
    assert edits == [edit]
    assert (edit.user, edit.detail, edit.before, edit.after) == (ada, "source", "https://example.org/1", "a book")
    assert editing.change(post, {"source": "a book"}, ada) == []


def test_the_next_search_knows_what_changed(post, ada):
    parent, other = shown(), shown()
    before = TagIndex.objects.get(post=post).updated_at
    assert found("is:child") == found(f"child:{post.pk}") == found("has:children") == []
    editing.change(post, {"source": "a book", "parent": str(parent.pk), "credit": ""}, ada)
    assert found(f"parent:{parent.pk}") == [parent.pk, post.pk]
    assert found("has:parent") == found("source:a*") == found("is:child") == [post.pk]
    assert found("has:children") == found(f"child:{post.pk}") == found("child_count:1") == [parent.pk]
    assert found("source:none") == [other.pk, parent.pk] and found("credit:jane*") == []
    assert TagIndex.objects.get(post=post).updated_at > before
    assert found("order:change")[0] == post.pk
    editing.change(post, {"parent": ""}, ada)
    assert found("has:parent") == found("has:children") == []


def refusal(post: Post, parent: object) -> str:
    with pytest.raises(BadEdit) as refused:
        editing.change(post, {"source": "lost with it", "parent": str(parent)}, None)
    assert refused.value.detail == "parent"
    post.refresh_from_db()
    assert post.source == "https://example.org/1" and not Edit.objects.filter(post=post).exists()
    return str(refused.value)


def test_what_can_be_no_parent_is_refused_and_nothing_is_kept(post):
    held, deleted = make_post(status="held"), make_post(status="deleted")
    merged = make_post(status="deleted", merged_into=make_post(status="deleted", merged_into=make_post()))
    kept = merged.merged_into.merged_into
    assert "can't be its own parent" in refusal(post, post.pk)
    assert f"no post {kept.pk + 9}" in refusal(post, kept.pk + 9)
    assert "no post 999999999999999999" in refusal(post, "9" * 18)
    assert f"no post {held.pk}" in refusal(post, held.pk)
    assert "is deleted" in refusal(post, deleted.pk)
    assert f"was merged into post {kept.pk}" in refusal(post, merged.pk)


def test_families_never_go_in_a_circle(post):
    child = make_post(parent=post)
    grandchild = make_post(parent=make_post(parent=child, status="deleted"))
    assert f"Post {child.pk} is a child of this post" in refusal(post, child.pk)
    assert f"Post {grandchild.pk} is a child of this post" in refusal(post, grandchild.pk)
    editing.change(grandchild, {"parent": ""}, None)
    editing.change(post, {"parent": str(grandchild.pk)}, None)
    assert Post.objects.get(pk=post.pk).parent == grandchild


@pytest.mark.django_db(transaction=True)
def test_two_edits_at_once_make_no_circle_together(post):
    first, third = post, shown()
    second, fourth, refused = shown(parent=third), shown(parent=first), []

    def closes_the_circle() -> None:
        with pytest.raises(BadEdit, match="is a child of this post") as caught:
            editing.change(third, {"parent": str(fourth.pk)}, None)
        refused.append(caught)

    with while_another(closes_the_circle):
        editing.change(first, {"parent": str(second.pk)}, None)
    assert refused and Post.objects.get(pk=third.pk).parent is None


@pytest.mark.django_db(transaction=True)
def test_no_post_becomes_a_child_of_one_that_is_deleted_at_that_moment(post):
    parent, refused = shown(), []

    def too_late() -> None:
        with pytest.raises(BadEdit, match="is deleted") as caught:
            editing.change(post, {"parent": str(parent.pk)}, None)
        refused.append(caught)

    with while_another(too_late):
        uploading.delete(parent)
    assert refused and Post.objects.get(pk=post.pk).parent is None


def test_only_a_post_that_is_shown_is_edited(post, ada):
    uploading.delete(post)
    with pytest.raises(BadEdit, match="restore it first"):
        editing.change(Post.objects.get(pk=post.pk), {"source": "a book"}, ada)


def test_an_edit_is_undone_unless_another_came_after(post, ada):
    first, second = shown(), shown()
    (edit,) = editing.change(post, {"parent": str(first.pk)}, ada)
    (later,) = editing.change(post, {"parent": str(second.pk)}, ada)
    with pytest.raises(BadEdit, match="changed again since"):
        editing.undo(edit, ada)
    (undone,) = editing.undo(later, ada)
    assert (undone.before, undone.after) == (str(second.pk), str(first.pk))
    assert found("has:parent") == [post.pk] and Post.objects.get(pk=post.pk).parent == first
    assert [(change.edit, change.stands) for change in editing.changes(Post.objects.get(pk=post.pk))] == [
        (undone, True),
        (later, False),
        (edit, False),
    ]


def test_an_undo_brings_no_circle_and_no_deleted_parent_back(post):
    parent = make_post()
    Post.objects.filter(pk=post.pk).update(parent=parent)
    post.refresh_from_db()
    (edit,) = editing.change(post, {"parent": ""}, None)
    editing.change(parent, {"parent": str(post.pk)}, None)
    with pytest.raises(BadEdit, match="is a child of this post"):
        editing.undo(edit, None)
    editing.change(parent, {"parent": ""}, None)
    uploading.delete(parent)
    with pytest.raises(BadEdit, match="is deleted"):
        editing.undo(edit, None)


def test_what_somebody_changed_stays_when_their_account_goes(post, ada):
    editing.change(post, {"source": ""}, ada)
    ada.delete()
    assert [change.edit.user for change in editing.changes(post)] == [None]
