import numpy as np
import pytest

from gallery import uploading
from gallery.likeness import matrix, search, vectors
from gallery.likeness.features import pack, unpack
from gallery.models import Feature
from tests.gallery.likeness.made import WIDTH, add, make_features
from tests.gallery.making import make_post, make_release

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture(params=["matrix", "graph"])
def release(request, monkeypatch):
    """A release whose features are searched in either way; `release.step()` brings the graph in step."""
    found = make_release()
    found.step = lambda: None
    if request.param == "graph":
        monkeypatch.setattr(vectors, "LEAST", 1)
        if not vectors.prepare():
            pytest.fail("This Postgres has no pgvector; the embedded one has.")
        found.step = lambda: vectors.catch_up(found.pk) or pytest.fail("not in step")
    yield found
    vectors.available.cache_clear()


def expected(posts, directions, number):
    cosines = directions @ directions[number]
    order = [i for i in np.argsort(-cosines, kind="stable") if i != number]
    return [posts[i].pk for i in order], cosines[order]


def test_the_nearest_come_first_with_their_cosine(release):
    posts, directions = make_features(release, 700)
    release.step()
    for number in (0, 350, 699):
        found = search.of_post(posts[number], 10)
        ids, cosines = expected(posts, directions, number)
        assert [each.post_id for each in found] == ids[:10]
        assert [each.likeness for each in found] == pytest.approx(cosines[:10].tolist(), abs=2e-3)


def test_new_features_are_found_at_once_and_deleted_posts_never(release):
    posts, directions = make_features(release, 60)
    release.step()
    search.of_post(posts[0], 5)
    twin = add(release, directions[0])
    assert search.of_post(posts[0], 5)[0].post_id == twin.pk
    uploading.delete(twin)
    near, _ = expected(posts, directions, 0)
    for post in posts[1:]:
        if post.pk in near[:50]:
            uploading.delete(post)
    assert [each.post_id for each in search.of_post(posts[0], 5)] == near[50:55]
    uploading.restore(twin)
    assert search.of_post(posts[0], 5)[0].post_id == twin.pk


def test_releases_are_not_mixed(release):
    posts, directions = make_features(release, 20)
    other = make_release("other", active=False)
    Feature.objects.create(post=make_post(), release=other, codes=pack(directions[0]))
    release.step()
    assert len(search.of_post(posts[0], 40)) == 19


def test_a_post_that_no_release_saw_has_no_look_alikes():
    assert search.of_post(make_post(), 5) is None
    release = make_release()
    post = make_post()
    Feature.objects.create(post=post, release=release, codes=b"")
    assert search.of_post(post, 5) is None
    assert search.of_direction(release.pk, unpack(bytes(range(1, WIDTH + 1))), 5) == []


def test_rows_committed_late_and_a_torn_file_are_caught_up(data):
    release = make_release()
    posts, directions = make_features(release, 30)
    late = Feature.objects.get(post=posts[3])
    Feature.objects.filter(pk=late.pk).delete()
    assert posts[3].pk not in {each.post_id for each in search.of_post(posts[0], 40)}
    late.save(force_insert=True)
    assert posts[3].pk in {each.post_id for each in search.of_post(posts[0], 40)}
    file = next((data / "likeness").glob("*.codes"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert len(search.of_post(posts[0], 40)) == 29
    assert sorted(file.read_bytes()) == sorted(whole)


def test_a_file_of_another_database_is_made_anew(data):
    release = make_release()
    make_features(release, 10)
    matrix.refresh(release.pk, WIDTH)
    Feature.objects.all().delete()
    posts, _ = make_features(release, 5, seed=2)
    assert set(matrix.refresh(release.pk, WIDTH)["post"].tolist()) == {post.pk for post in posts}
    matrix.forget(release.pk)
    assert not list((data / "likeness").glob("*.codes"))
