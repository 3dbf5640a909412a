from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gallery.index import indexing
from gallery.models import Post, PostStatus, Prediction, TaggingRun, TaggingState
from gallery.profiles import Thresholds
from gallery.releases import retagging
from gallery.releases.retagging import RetaggingError
from gallery.worker import sweeping
from tests.gallery.making import make_post, make_release, make_tag, make_user, predict

HALF = Thresholds(127)


@pytest.fixture
def site(db):
    """Five posts: two seen by the active release, one by an older one, one failed, one waiting as an upload."""
    old, new, hat = make_release("old", active=False), make_release("new"), make_tag("hat")
    seen, also, older = make_post(), make_post(), make_post()
    predict(seen, new, {hat: 0.9})
    predict(also, new, {hat: 0.1})
    predict(older, old, {hat: 0.9})
    failed = make_post(tagging_state=TaggingState.FAILED, tagging_attempts=3, tagging_error="broken")
    upload = make_post(tagging_state=TaggingState.WAITING)
    make_post(status=PostStatus.DELETED)
    posts = {"seen": seen, "also": also, "older": older, "failed": failed, "upload": upload}
    indexing.rebuild(post.pk for post in posts.values())
    return posts


@pytest.mark.parametrize(
    ("scope", "query", "expected"),
    [
        ("all", "", {"seen", "also", "older", "failed"}),
        ("older", "", {"older", "failed"}),
        ("search", "hat", {"seen", "older"}),
    ],
)
def test_a_run_touches_what_was_planned(site, scope, query, expected):
    assert retagging.plan(scope, query, HALF).total == len(expected)
    run = retagging.start(scope, query, make_user(), HALF)
    assert run.total == len(expected)
    touched = Post.objects.filter(tagging_run=run, tagging_state=TaggingState.WAITING, priority=Post.RERUN_PRIORITY)
    assert set(touched.values_list("pk", flat=True)) == {site[name].pk for name in expected}
    assert Post.objects.waiting().first() == site["upload"]
    assert set(touched.values_list("tagging_attempts", "tagging_error")) == {(0, "")}


@pytest.fixture
def elsewhere(db):
    """Another database session, as another process has."""
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as session:
        yield session


def test_a_run_takes_few_posts_at_a_time(site, monkeypatch):
    monkeypatch.setattr(retagging, "_CHUNK", 1)
    with CaptureQueriesContext(connection) as queries:
        run = retagging.start("all", "", None, HALF)
    assert run.total == 4 and run.posts.filter(tagging_state=TaggingState.WAITING).count() == 4
    asked = [each["sql"].split()[0] for each in queries]
    first, *later = [at for at, each in enumerate(queries) if each["sql"].startswith('UPDATE "post"')]
    assert len(later) == 3 and "RELEASE" in asked[first : later[0]]  # each has a transaction of its own


def test_a_run_goes_on_while_posts_are_handed_to_it(site, elsewhere):
    run = retagging.start("all", "", None, HALF)
    run.posts.update(tagging_state=TaggingState.TAGGED)
    elsewhere.execute("select pg_advisory_lock(%s, %s)", [sweeping._LOCK, run.pk])
    sweeping.finish_runs()
    run.refresh_from_db()
    assert run.state == TaggingRun.State.RUNNING
    elsewhere.execute("select pg_advisory_unlock(%s, %s)", [sweeping._LOCK, run.pk])
    sweeping.finish_runs()
    run.refresh_from_db()
    assert run.state == TaggingRun.State.DONE


def test_a_cancelled_run_is_handed_no_more_posts(site):
    run = retagging.start("older", "", None, HALF)
    retagging.cancel(run)
    assert retagging._let_wait(Post.objects.all(), run) is None
    assert not run.posts.exists()


def test_progress_and_end(site):
    run = retagging.start("all", "", None, HALF)
    before = retagging.progress(run)
    assert (before.total, before.done, before.failed) == (4, 0, 0)
    Post.objects.filter(pk=site["seen"].pk).update(tagging_state=TaggingState.TAGGED)
    Post.objects.filter(pk=site["also"].pk).update(tagging_state=TaggingState.FAILED)
    Post.objects.filter(pk=site["older"].pk).update(tagging_state=TaggingState.TAGGING)
    now = retagging.progress(run)
    assert (now.done, now.failed) == (2, 1)


def test_a_cancelled_run_leaves_the_tags_as_they_are(site):
    run = retagging.start("all", "", None, HALF)
    retagging.cancel(run)
    assert run.state == TaggingRun.State.CANCELLED
    states = {name: Post.objects.get(pk=post.pk).tagging_state for name, post in site.items()}
    assert states == {"seen": "tagged", "also": "tagged", "older": "tagged", "failed": "waiting", "upload": "waiting"}
    retagging.cancel(run)
    told = retagging.progress(run)
    assert (told.done, told.total, told.seconds_left) == (0, 4, 0)


def test_a_run_cancelled_half_way_says_how_far_it_came(site):
    run = retagging.start("all", "", None, HALF)
    run.posts.filter(pk=site["seen"].pk).update(tagging_state="tagged")
    retagging.cancel(run)
    assert retagging.progress(run).done == 1


def test_a_deleted_run_lets_its_posts_be_tagged(site):
    run = retagging.start("all", "", None, HALF)
    run.delete()
    assert Post.objects.waiting().count() == 5


def test_failed_posts_are_tried_again(site):
    assert retagging.retry(Post.objects.all()) == 1
    assert Post.objects.get(pk=site["failed"].pk).tagging_state == TaggingState.WAITING
    assert retagging.retry(Post.objects.all()) == 0


def test_runs_that_cannot_be(site):
    Post.objects.filter(pk__in=[site["older"].pk, site["failed"].pk]).delete()
    with pytest.raises(RetaggingError, match="No post"):
        retagging.start("older", "", None, HALF)
    with pytest.raises(RetaggingError, match="not known"):
        retagging.plan("some", "", HALF)
    assert not TaggingRun.objects.exists()


@pytest.mark.django_db
def test_without_a_release_nothing_is_tagged_again():
    make_release(active=False)
    with pytest.raises(RetaggingError, match="activate one"):
        retagging.plan("all", "", HALF)


@pytest.mark.django_db
def test_the_estimate_comes_from_the_speed_measured_lately():
    release, tag, now = make_release(), make_tag("a"), timezone.now()
    for number in range(40):
        row = predict(make_post(), release, {tag: 0.5})
        at = now - timedelta(seconds=number * 0.5 + (3600 if number >= 20 else 0))
        Prediction.objects.filter(pk=row.pk).update(created_at=at)
    assert retagging.plan("all", "", HALF).seconds_estimate == 20
