from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, User

from gallery import search, uploading
from gallery.index import indexing
from gallery.models import Post, Profile, Release, SavedSearch
from gallery.profiles import Thresholds
from tests.gallery.search.reference import is_on
from tests.gallery.search.world import World, make_world

HALF, LOW, HIGH = Thresholds(127), Thresholds(26), Thresholds(229)


@pytest.fixture
def world(db) -> World:
    world = make_world(40)
    release = Release.objects.get()
    for key, overall in (("high-recall", 0.1), ("high-precision", 0.9)):
        Profile.objects.create(release=release, key=key, name=key, overall=overall)
    Profile.objects.create(owner=User.objects.get(username="anna"), key="my-own", name="My own", overall=0.9)
    return world


def _on(world: World, name: str, thresholds: Thresholds) -> set[int]:
    return {post.id for post in world.posts if is_on(post, name, thresholds, world)}


def _found(text: str, viewer=None) -> set[int]:
    return set(search.find(text, HALF, limit=200, viewer=viewer).post_ids)


def test_a_profile_in_the_search_reads_the_whole_of_it(world):
    strict = _on(world, "solo", HIGH) - _on(world, "1girl", HIGH)
    assert _found("solo profile:high-precision -1girl") == strict != _found("solo -1girl")
    assert _found("profile:HIGH_precision solo -1girl") == strict
    assert search.count("solo profile:high-precision -1girl", HALF).number == len(strict)
    assert search.find("solo profile:high-precision", HALF).thresholds == HIGH
    text = "profile:high-precision order:tagcount"
    by_count = search.find(text, HALF, limit=99).post_ids
    assert by_count == search.find("order:tagcount", HIGH, limit=99).post_ids


def test_a_profile_in_a_group_reads_the_group(world):
    gained = _on(world, "solo", LOW) - _on(world, "solo", HIGH)
    assert _found("(solo profile:high-recall) -(solo profile:high-precision)") == gained != set()
    assert _found("1girl (solo profile:high-precision)") == _on(world, "1girl", HALF) & _on(world, "solo", HIGH)
    assert _found("1girl or solo profile:high-precision") == _on(world, "1girl", HALF) | _on(world, "solo", HIGH)


def test_a_profile_is_ones_own_or_the_sites(world):
    anna = User.objects.get(username="anna")
    assert _found("solo profile:my-own", anna) == _on(world, "solo", HIGH)
    for viewer in (None, AnonymousUser(), User.objects.get(username="Bert_x")):
        with pytest.raises(search.SearchError) as caught:
            _found("solo profile:my-own", viewer)
        assert "high-precision, high-recall" in caught.value.message
        assert (caught.value.position, caught.value.length) == (5, 14)
    with pytest.raises(search.SearchError, match="Did you mean high-recall") as caught:
        _found("profile:hi-recall")
    assert caught.value.fix.applied("profile:hi-recall") == "profile:high-recall"


@pytest.mark.parametrize("text", ["-profile:x", "a or profile:x", "-(b or profile:x)", "~profile:x ~a"])
def test_a_profile_is_no_condition(text):
    with pytest.raises(search.SearchError, match="can't be negated or an alternative"):
        search.parse(text)


def test_one_profile_a_group():
    with pytest.raises(search.SearchError, match="stands twice") as caught:
        search.parse("a profile:x profile:y")
    assert caught.value.fix.applied("a profile:x profile:y") == "a profile:x"


@pytest.mark.parametrize(
    "text", ["a (b profile:x)", "a -(b profile:x)", "(a profile:x) (b profile:y) or c", "profile:x"]
)
def test_a_group_with_a_profile_stays_one(text):
    assert search.to_text(search.parse(text)) == search.to_text(search.parse(search.to_text(search.parse(text))))
    assert search.to_text(search.parse("a (b profile:x)")) == "a (b profile:x)"
    assert search.to_text(search.parse("(b profile:x)")) == "b profile:x"
    assert search.to_text(search.parse("a and b profile:x and c")) == "a b profile:x c"


def _save(owner: User, name: str, *queries: str) -> None:
    SavedSearch.objects.bulk_create(SavedSearch(owner=owner, name=name, query=query) for query in queries)


def test_saved_searches_of_one_name_are_found_together(world):
    anna, bert = (User.objects.get(username=name) for name in ("anna", "Bert_x"))
    _save(anna, "hair", "blue_hair order:id limit:3", "red_hair -solo")
    _save(anna, "cats", "wada")
    _save(bert, "hair", "saber")
    hair = _on(world, "blue_hair", HALF) | (_on(world, "red_hair", HALF) - _on(world, "solo", HALF))
    assert _found("search:hair", anna) == _found("search:HAIR", anna) == hair
    assert _found("1girl -search:hair", anna) == _on(world, "1girl", HALF) - hair
    assert _found("search:all", anna) == hair | _on(world, "wada", HALF)
    assert _found("search:hair", bert) == _on(world, "saber_(fate)", HALF)


def test_a_saved_search_that_is_not_there_finds_nothing_and_says_so(world):
    anna = User.objects.get(username="anna")
    _save(anna, "hair", "blue_hair")
    page = search.find("search:hiar", HALF, viewer=anna)
    assert (page.post_ids, page.notes) == ([], ["You have no saved search called hiar. Did you mean hair?"])
    page = search.find("search:all", HALF, viewer=User.objects.get(username="Bert_x"))
    assert (page.post_ids, page.notes[0][:32]) == ([], "You have no saved searches yet: ")
    page = search.find("search:hair", HALF)
    assert (page.post_ids, page.notes) == ([], ["Saved searches belong to an account: sign in to use search:."])


def test_a_visitor_is_told_to_sign_in_for_file_names(world):
    told = [search.find("filename:a", HALF, viewer=who).notes[0] for who in (AnonymousUser(), User.objects.first())]
    assert [note.rpartition(": ")[2] for note in told] == ["sign in first.", "yours were searched."]


def test_a_misspelt_person_is_put_right_whatever_the_case(world):
    Post.objects.update(uploader=User.objects.get(username="Bert_x"))
    for text in ("user:bret", "judge:Bret", "user:BERTX"):
        page = search.find(text, HALF)
        assert page.post_ids == [] and page.notes[0].endswith("Did you mean Bert_x?"), text


def test_saved_searches_that_cannot_be_used_are_named(world):
    anna = User.objects.get(username="anna")
    _save(anna, "bad", "solo", "(solo", "search:bad")
    page = search.find("search:bad", HALF, limit=99, viewer=anna)
    assert set(page.post_ids) == _on(world, "solo", HALF)
    assert "(solo” can't be read" in page.notes[0] and "leads to others" in page.notes[1]
    _save(anna, "gone", "wada release:startr")
    with pytest.raises(search.SearchError, match="A saved search can't be asked.*Did you mean starter") as caught:
        search.find("solo search:gone", HALF, viewer=anna)
    assert (caught.value.position, caught.value.length, caught.value.fix) == (5, 11, None)
    many = " ".join(f"tag{number}" for number in range(97))
    _save(anna, "long", *(f"solo or {many} {number}" for number in range(5)))
    assert any("too many terms" in note for note in search.find("search:long", HALF, viewer=anna).notes)


@pytest.fixture
def deleted(world) -> list[int]:
    """Two posts of anna's and one of nobody's, deleted."""
    anna = User.objects.get(username="anna")
    ids = [post.id for post in world.posts[:3]]
    Post.objects.filter(id__in=ids[:2]).update(uploader=anna)
    Post.objects.filter(id=ids[2]).update(uploader=None)
    indexing.rebuild(Post.objects.values_list("id", flat=True))
    for post in Post.objects.filter(id__in=ids):
        uploading.delete(post)
    return ids


def test_deleted_posts_are_found_by_their_people_only(world, deleted):
    anna, bert = (User.objects.get(username=name) for name in ("anna", "Bert_x"))
    staff = User.objects.create(username="staff", is_staff=True)
    assert _found("status:deleted", staff) == set(deleted)
    assert _found("status:deleted", anna) == set(deleted[:2])
    assert _found("status:deleted", bert) == _found("status:deleted") == _found("is:deleted", AnonymousUser()) == set()
    assert search.find("status:deleted", HALF).notes and search.find("status:deleted", HALF, viewer=anna).notes
    assert not _found("", staff) & set(deleted)
    assert not _found("-solo", staff) & set(deleted)


def test_deleted_posts_are_searched_by_the_tags_they_would_have(world, deleted):
    staff = User.objects.create(username="staff", is_staff=True)
    before = {text: _found(f"{text} id:{','.join(map(str, deleted))} status:any", staff) for text in ("solo", "-solo")}
    assert before["solo"] | before["-solo"] == set(deleted)
    for post in Post.objects.filter(id__in=deleted):
        uploading.restore(post)
    for text, found in before.items():
        assert _found(f"{text} id:{','.join(map(str, deleted))}") == found


def test_every_status_together_and_apart(world, deleted):
    staff = User.objects.create(username="staff", is_staff=True)
    every, active = {post.id for post in world.posts}, {post.id for post in world.posts} - set(deleted)
    assert _found("status:any", staff) == _found("status:all", staff) == every
    assert _found("status:active", staff) == _found("-status:deleted", staff) == active
    assert _found("-status:active", staff) == _found("-is:active", staff) == set(deleted)
    assert _found("status:any") == _found("status:any", AnonymousUser()) == active
    assert search.find("solo -status:deleted", HALF).notes == []  # nobody need sign in to leave them out
    assert search.count("status:deleted", HALF, viewer=staff) == (3, True)
    newest = max(deleted)
    assert search.neighbours("status:deleted", HALF, newest, viewer=staff)[:2] == (None, sorted(deleted)[1])
