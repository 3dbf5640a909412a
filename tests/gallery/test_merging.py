import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction
from PIL import Image

from gallery import correcting, editing, merging, uploading
from gallery.index import indexing
from gallery.merging import Choice
from gallery.models import THUMBNAIL_SIZES, Category, Post, PostStatus, TagIndex, Verdict
from gallery.uploading import ASK
from tests.gallery.making import make_tag, make_user
from tests.gallery.test_pictures import file_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    return tmp_path


def drawing(width: int, colour: str = "red") -> Image.Image:
    """One picture at any width."""
    image = Image.new("RGB", (400, 300), "white")
    image.paste(colour, (40, 30, 180, 160))
    image.paste("black", (230, 90, 370, 280))
    image.paste("green", (60, 200, 130, 290))
    return image.resize((width, width * 3 // 4), Image.Resampling.LANCZOS)


def send(width: int, user, near: str = ASK, **fields) -> uploading.Stored:
    return uploading.store(file_of(drawing(width)), name=f"{width}.png", uploader=user, near=near, **fields)


@pytest.fixture
def member():
    return make_user()


@pytest.fixture
def first(member) -> Post:
    stored = send(400, member)
    assert stored.created and not stored.near
    return stored.post


def files(data) -> int:
    return sum(path.is_file() for path in (data / "media").rglob("*"))


def test_a_near_copy_is_held_until_its_uploader_chooses(first, member):
    stored = send(200, member)
    assert [near.post for near in stored.near] == [first]
    assert (stored.post.status, stored.post.parent) == (PostStatus.HELD, first)
    assert not TagIndex.objects.filter(post=stored.post).exists()
    assert not Post.objects.active().filter(pk=stored.post.pk).exists()
    assert list(merging.held_by(member)) == [stored.post]
    assert not merging.held_by(make_user())
    assert send(200, member).post == stored.post


def test_nothing_is_looked_for_unless_asked(first, member):
    stored = uploading.store(file_of(drawing(200)), uploader=member)
    assert stored.post.status == PostStatus.ACTIVE and not stored.near and stored.post.parent is None


def test_skip_leaves_nothing(first, member, data, django_capture_on_commit_callbacks):
    before = files(data)
    held = send(200, member).post
    with django_capture_on_commit_callbacks(execute=True):
        outcome = merging.decide(held, Choice.SKIP, member)
    assert outcome.kept == first and outcome.gone is None
    assert list(Post.objects.all()) == [first] and files(data) == before
    stored = send(200, member, near=Choice.SKIP)
    assert (stored.post, stored.created) == (first, False)
    assert files(data) == before


def test_keep_both_links_to_the_parent(first, member):
    held = send(200, member).post
    outcome = merging.decide(held, Choice.KEEP, member)
    held.refresh_from_db()
    assert outcome.kept == held and (held.status, held.parent) == (PostStatus.ACTIVE, first)
    assert TagIndex.objects.filter(post=held).exists()
    assert list(first.children.all()) == [held]
    assert merging.decide(held, Choice.SKIP, member).kept == held
    assert send(300, member, near=Choice.KEEP).post.parent_id in (first.pk, held.pk)


def test_merge_keeps_the_larger_with_the_verdicts_of_both(first, member):
    ours, theirs, both = make_tag("ours"), make_tag("theirs"), make_tag("both")
    correcting.record(first, theirs, True, member)
    correcting.record(first, both, False, member)
    child = uploading.store(file_of(drawing(100, "blue")), uploader=member).post
    Post.objects.filter(pk=child.pk).update(parent=first)
    held = send(800, member).post
    correcting.record(held, ours, True, member)
    correcting.record(held, both, True, member)
    at = Verdict.objects.get(post=first, tag=theirs).at
    outcome = merging.decide(held, Choice.MERGE, member)
    assert (outcome.kept, outcome.gone) == (held, first)
    held.refresh_from_db(), first.refresh_from_db(), child.refresh_from_db()
    assert (held.status, held.parent, held.merged_into) == (PostStatus.ACTIVE, None, None)
    assert (first.status, first.merged_into) == (PostStatus.DELETED, held)
    assert child.parent == held
    answers = dict(Verdict.objects.filter(post=held).values_list("tag__name", "answer"))
    assert answers == {"ours": True, "theirs": True, "both": True}
    assert Verdict.objects.get(post=held, tag=theirs).at == at
    assert set(TagIndex.objects.get(post=held).tag_ids) == {ours.pk, theirs.pk, both.pk}
    assert merging.standing(first) == held


def test_a_merge_is_undone_by_restoring_what_went(first, member):
    theirs, again = make_tag("theirs"), make_tag("again")
    correcting.record(first, theirs, True, member)
    correcting.record(first, again, True, member)
    held = send(800, member).post
    kept = merging.decide(held, Choice.MERGE, member).kept
    correcting.record(kept, again, True, member)
    first.refresh_from_db()
    uploading.restore(first)
    first.refresh_from_db()
    assert (first.status, first.merged_into, first.parent) == (PostStatus.ACTIVE, None, kept)
    assert list(Verdict.objects.filter(post=kept).values_list("tag__name", flat=True)) == ["again"]
    assert Verdict.objects.filter(post=first).count() == 2
    assert TagIndex.objects.get(post=kept).tag_ids == [again.pk]


def test_another_persons_post_stays_whatever_its_size(first):
    stranger = make_user()
    held = send(800, stranger, source="https://example.org/large").post
    outcome = merging.decide(held, Choice.MERGE, stranger)
    assert (outcome.kept, outcome.gone) == (first, held)
    first.refresh_from_db(), held.refresh_from_db()
    assert first.source == "https://example.org/large"
    assert (held.status, held.merged_into, held.parent) == (PostStatus.DELETED, first, None)
    assert send(800, stranger).post == first
    staff = make_user(is_staff=True)
    assert send(900, staff, near=Choice.MERGE).post.width == 900


@pytest.mark.parametrize(("width", "kept_source"), [(800, "https://example.org/first"), (200, "https://example.org/2")])
def test_what_a_merge_says_of_the_post_is_an_edit_that_can_be_undone(first, member, width, kept_source):
    Post.objects.filter(pk=first.pk).update(source="" if width < 400 else "https://example.org/first", credit="Jane")
    held = send(width, member, source="https://example.org/2" if width < 400 else "", credit="John").post
    before = TagIndex.objects.get(post=first).updated_at
    kept = merging.decide(held, Choice.MERGE, member).kept
    assert kept == (held if width > 400 else first)
    assert TagIndex.objects.get(post=kept).updated_at > before
    (change,) = editing.changes(Post.objects.get(pk=kept.pk))
    edit = change.edit
    assert change.stands and (edit.user, edit.detail, edit.before, edit.after) == (member, "source", "", kept_source)
    editing.undo(edit, member)
    kept.refresh_from_db()
    assert (kept.source, kept.credit) == ("", "John" if width > 400 else "Jane")


def test_a_rating_is_merged_only_where_there_is_none(first, member):
    safe, risky = make_tag("rating_general", Category.RATING), make_tag("rating_explicit", Category.RATING)
    correcting.record(first, safe, True, member)
    held = send(800, member).post
    correcting.record(held, risky, True, member)
    kept = merging.decide(held, Choice.MERGE, member).kept
    assert list(kept.verdicts.values_list("tag__name", flat=True)) == ["rating_explicit"]


def test_the_same_file_of_another_person_ends_the_wait(first, member):
    held = send(200, member).post
    stored = send(200, make_user())
    held.refresh_from_db()
    assert stored.post == held and not stored.created and held.status == PostStatus.ACTIVE


def test_a_parent_that_went_meanwhile(first, member):
    held = send(200, member).post
    uploading.delete(first)
    assert merging.decide(held, Choice.MERGE, member).kept == held
    indexing.rebuild([held.pk])
    assert TagIndex.objects.filter(post=held).exists()


def _waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select exists (select from pg_locks where not granted)")
        return cursor.fetchone()[0]


@contextmanager
def while_another(acts: Callable[[], object], joins_at_commit: bool = False) -> Iterator[None]:
    """A transaction; at its end another session acts, and comes as far as to what this one holds.

    It is waited for after the commit: before all that happens then, where `joins_at_commit`.
    """

    def act() -> None:
        try:
            acts()
        finally:
            connection.close()

    other = threading.Thread(target=act)
    with transaction.atomic():
        if joins_at_commit:
            transaction.on_commit(other.join)
        yield
        other.start()
        while other.is_alive() and not _waits_for_a_lock():
            pass
    other.join()


@pytest.mark.django_db(transaction=True)
def test_two_merges_with_one_post_at_once_end_in_one_post(first, member):
    theirs = make_tag("theirs")
    correcting.record(first, theirs, True, member)
    larger, largest = send(800, member).post, send(1000, member).post

    with while_another(lambda: merging.decide(largest, Choice.MERGE, member)):
        merging.decide(larger, Choice.MERGE, member)
    for post in (first, larger, largest):
        post.refresh_from_db()
    assert list(Post.objects.active()) == [largest]
    assert (first.merged_into, larger.merged_into, largest.merged_into) == (larger, largest, None)
    assert merging.standing(first) == largest
    assert list(largest.verdicts.values_list("tag__name", flat=True)) == ["theirs"]


def test_a_choice_for_what_was_skipped_meanwhile_says_so(first, member):
    held = send(200, member).post
    merging.decide(held, Choice.SKIP, member)
    with pytest.raises(merging.Gone):
        merging.decide(held, Choice.KEEP, member)


@pytest.fixture
def chain(first, member) -> tuple[Post, Post, Post]:
    """The first merged into the larger, and that into the largest; each brought one verdict."""
    chain = [first]
    for width in (800, 1000):
        correcting.record(chain[-1], make_tag(f"of-{chain[-1].width}"), True, member)
        chain.append(merging.decide(send(width, member).post, Choice.MERGE, member).kept)
    correcting.record(chain[-1], make_tag("of-1000"), True, member)
    for post in chain:
        post.refresh_from_db()
    return tuple(chain)


def said(post: Post) -> list[str]:
    return sorted(post.verdicts.values_list("tag__name", flat=True))


def test_the_first_of_a_chain_of_merges_is_restored_from_what_stands(chain):
    first, larger, largest = chain
    assert said(largest) == ["of-1000", "of-400", "of-800"]
    uploading.restore(first)
    first.refresh_from_db()
    assert (first.status, first.merged_into, first.parent) == (PostStatus.ACTIVE, None, largest)
    assert (said(first), said(larger), said(largest)) == (["of-400"], ["of-800"], ["of-1000", "of-800"])
    assert len(TagIndex.objects.get(post=largest).tag_ids) == 2


def test_the_middle_of_a_chain_of_merges_takes_along_what_came_through_it(chain):
    first, larger, largest = chain
    uploading.restore(larger)
    assert (said(larger), said(largest)) == (["of-400", "of-800"], ["of-1000"])
    uploading.restore(first)
    assert (said(first), said(larger), said(largest)) == (["of-400"], ["of-800"], ["of-1000"])


@pytest.mark.django_db(transaction=True)
def test_a_post_restored_while_its_verdicts_go_on_gets_all_of_them_back(first, member):
    correcting.record(first, make_tag("theirs"), True, member)
    larger = merging.decide(send(800, member).post, Choice.MERGE, member).kept
    held = send(1000, member).post

    with while_another(lambda: uploading.restore(Post.objects.get(pk=first.pk))):
        merging.decide(held, Choice.MERGE, member)
    first.refresh_from_db()
    assert (said(first), said(larger), said(held)) == (["theirs"], [], [])
    assert (first.status, first.merged_into, first.parent) == (PostStatus.ACTIVE, None, held)


def test_restoring_twice_at_once_is_restoring_once(first, member):
    kept = merging.decide(send(800, member).post, Choice.MERGE, member).kept
    one, two = Post.objects.get(pk=first.pk), Post.objects.get(pk=first.pk)
    uploading.restore(one)
    Post.objects.filter(pk=first.pk).update(parent=None)
    uploading.restore(two)
    first.refresh_from_db()
    assert (first.status, first.merged_into, first.parent) == (PostStatus.ACTIVE, None, None)
    assert merging.standing(kept) == kept


@pytest.mark.django_db(transaction=True)
def test_a_file_that_comes_again_while_it_is_skipped_is_not_lost(first, member, data):
    held, stranger, came = send(200, member).post, make_user(), []
    # All of it happens after the row is gone and before its files are.
    with while_another(lambda: came.append(send(200, stranger, near=Choice.KEEP)), joins_at_commit=True):
        merging.decide(held, Choice.SKIP, member)
    (stored,) = came
    assert stored.created and stored.post.pk != held.pk and stored.post.uploader == stranger
    paths = [stored.post.file_path, *(stored.post.thumbnail_path(size) for size in THUMBNAIL_SIZES)]
    assert all((data / "media" / path).is_file() for path in paths)


@pytest.mark.django_db(transaction=True)
def test_of_two_near_copies_that_come_at_one_moment_the_second_is_held(member):
    came = []
    with while_another(lambda: came.append(send(200, member))):
        first = send(400, member).post
    assert [near.post for near in came[0].near] == [first]
    assert came[0].post.status == PostStatus.HELD
