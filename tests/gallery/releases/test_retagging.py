from datetime import timedelta

import psycopg
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gallery import saving, search, tagging
from gallery.index import indexing
from gallery.models import Post, PostStatus, Prediction, Release, TaggingRun, TaggingState
from gallery.profiles import Thresholds
from gallery.releases import handing, retagging
from gallery.releases.retagging import RetaggingError
from gallery.worker import sweeping
from tests.gallery.making import make_post, make_release, make_tag, make_user, predict
from tests.gallery.working import worker
from tests.stack import eventually

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


def ready(scope: str, query: str = "") -> TaggingRun:
    """A run that a worker got ready."""
    run = retagging.start(scope, query, None, HALF)
    handing.go_on(run.pk)
    run.refresh_from_db()
    return run


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
    assert run.state == "preparing" and not run.posts.exists()
    handing.go_on(run.pk)
    run.refresh_from_db()
    assert (run.state, run.total, run.wanted) == ("running", len(expected), len(expected))
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
    monkeypatch.setattr(handing, "_CHUNK", 1)
    with CaptureQueriesContext(connection) as queries:
        run = ready("all")
    assert run.total == 4 and run.posts.filter(tagging_state=TaggingState.WAITING).count() == 4
    asked = [each["sql"].split()[0] for each in queries]
    first, *later = [at for at, each in enumerate(queries) if each["sql"].startswith('UPDATE "post"')]
    assert len(later) == 3 and "RELEASE" in asked[first : later[0]]  # each has a transaction of its own


def test_a_run_goes_on_while_posts_are_handed_to_it(site, elsewhere):
    run = ready("all")
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
    run = ready("older")
    retagging.cancel(run)
    handing.go_on(run.pk)
    assert not run.posts.exists()
    early = retagging.start("older", "", None, HALF)
    retagging.cancel(early)
    handing.go_on(early.pk)
    early.refresh_from_db()
    assert early.state == TaggingRun.State.CANCELLED and not early.posts.exists()


def test_a_run_cancelled_while_it_gets_ready_gives_back_what_it_had(site, monkeypatch):
    monkeypatch.setattr(handing, "_CHUNK", 1)
    run, sent = retagging.start("all", "", None, HALF), []
    monkeypatch.setattr(tagging, "send", lambda *message: sent.append(message) or True)

    def let_wait(*asked, once=handing._let_wait):
        went_on = once(*asked)
        if run.posts.count() == 3:
            retagging.cancel(run)
        return went_on

    monkeypatch.setattr(handing, "_let_wait", let_wait)
    handing.go_on(run.pk)
    run.refresh_from_db()
    assert (run.state, run.total, run.left) == ("cancelled", 3, 3)
    assert not run.posts.exists() and retagging.progress(run).done == 0


def test_a_search_that_can_be_asked_no_more_ends_the_run_with_a_sentence(site):
    run = retagging.start("search", "hat", None, HALF)
    TaggingRun.objects.update(query="release:gone")
    handing.go_on(run.pk)
    run.refresh_from_db()
    assert run.state == "failed" and run.error.startswith("The search can't be asked any more.")
    assert not run.posts.exists() and run.finished_at


@pytest.mark.parametrize("scope", ["all", "older"])
def test_a_run_ends_when_another_release_is_activated_while_it_gets_ready(site, monkeypatch, scope):
    monkeypatch.setattr(handing, "_CHUNK", 1)
    run, other = retagging.start(scope, "", None, HALF), make_release("third", active=False)

    def let_wait(*asked, once=handing._let_wait):
        Release.objects.update(active=False)
        Release.objects.filter(pk=other.pk).update(active=True)
        return once(*asked)

    monkeypatch.setattr(handing, "_let_wait", let_wait)
    handing.go_on(run.pk)
    run.refresh_from_db()
    assert (run.state, run.total, run.left) == ("failed", 1, 1) and not run.posts.exists()
    assert run.error == f"While it got ready, {other.title} was activated: start it again, with that one."


def test_a_run_whose_release_is_removed_while_it_gets_ready_ends_quietly(site, monkeypatch):
    run = retagging.start("all", "", None, HALF)

    def let_wait(*asked, once=handing._let_wait):
        went_on = once(*asked)
        TaggingRun.objects.filter(pk=run.pk).delete()
        return went_on

    monkeypatch.setattr(handing, "_let_wait", let_wait)
    handing.go_on(run.pk)
    assert Post.objects.waiting().count() == 5


def test_a_run_gets_ready_without_a_cache(site, settings, tmp_path):
    settings.CACHES = {
        **settings.CACHES,
        "default": {**settings.CACHES["default"], "LOCATION": f"unix://{tmp_path}/no"},
    }
    run = ready("all")
    assert (run.state, run.total) == ("running", 4) and retagging.progress(run).seconds_to_ready is None


def test_a_mistake_while_a_run_gets_ready_is_told_and_the_posts_are_given_back(site, monkeypatch):
    monkeypatch.setattr(handing, "_CHUNK", 1)

    def let_wait(run, *asked, once=handing._let_wait):
        if run.total == 2:
            raise ValueError("no such number")
        return once(run, *asked)

    monkeypatch.setattr(handing, "_let_wait", let_wait)
    run = ready("all")
    assert (run.state, run.left) == ("failed", 2) and not run.posts.exists()
    assert run.error == "Getting it ready broke off: no such number. Start it again."


def test_a_run_that_is_done_stays_so_when_it_is_cancelled_late(site):
    run = ready("all")
    late = TaggingRun.objects.get(pk=run.pk)
    run.posts.update(tagging_state=TaggingState.TAGGED)
    sweeping.finish_runs()
    again = Post.objects.filter(pk=site["seen"].pk)
    again.update(tagging_state=TaggingState.WAITING)  # somebody tries a failed one again
    retagging.cancel(late)
    assert late.state == "done" and again.get().tagging_state == "waiting"


def test_a_run_that_is_cancelled_while_the_sweep_looks_stays_cancelled(site):
    run = ready("all")
    seen = TaggingRun.objects.get(pk=run.pk)
    retagging.cancel(run)
    sweeping.finish(seen)
    run.refresh_from_db()
    assert run.state == "cancelled"


def test_failed_posts_of_a_cancelled_run_are_tried_again_and_stay_so(site):
    run = ready("all")
    run.posts.filter(pk=site["seen"].pk).update(tagging_state="failed")
    retagging.cancel(run)
    assert retagging.retry(Post.objects.filter(pk=site["seen"].pk)) == 1
    sweeping.sweep()
    handing.go_on(run.pk)
    assert Post.objects.get(pk=site["seen"].pk).tagging_state == "waiting"


def test_the_thresholds_and_the_person_of_the_search_are_kept(site):
    user = make_user()
    saving.save(user, "hat", "mine", HALF)
    run = retagging.start("search", "search:mine", user, Thresholds(20, {0: 20}, {999: 3}))
    handing.go_on(run.pk)
    run.refresh_from_db()
    assert run.total == 3  # the one at 0.1, too


def test_a_run_of_a_saved_search_fails_when_its_owner_is_gone(site):
    user = make_user()
    saving.save(user, "hat", "mine", HALF)
    run = retagging.start("search", "search:mine", user, HALF)
    user.delete()
    handing.go_on(run.pk)
    run.refresh_from_db()
    assert run.state == "failed" and "somebody who has no account any more" in run.error


def test_posts_picked_by_chance_are_those_of_the_plan(site):
    for _ in range(3):
        planned = retagging.plan("search", "random:2 -is:waiting order:id", HALF)
        shown = search.find(planned.query, HALF).post_ids
        assert (planned.total, len(shown)) == (2, 2)
        run = ready("search", planned.query)
        assert set(run.posts.values_list("pk", flat=True)) == set(shown)
        retagging.cancel(run)
        Post.objects.filter(pk=site["failed"].pk).update(tagging_state=TaggingState.FAILED)
    assert ready("search", "random:1 hat").query.startswith("random:1 hat order:random_")


@pytest.mark.django_db(transaction=True)
def test_a_run_goes_on_where_a_killed_worker_left_it(tagging_site):
    """A process of its own gets it ready, a post at a time, waits for a post that is locked, and is killed there."""
    posts = [make_post() for _ in range(4)]
    make_release()
    run = retagging.start("all", "", None, HALF)
    script = f"from gallery.releases import handing; handing._CHUNK = 1; handing.go_on({run.pk})"
    with transaction.atomic():
        Post.objects.select_for_update().get(pk=posts[2].pk)
        process = worker("shell", "-v", "0", "-c", script)
        assert eventually(lambda: _seen_elsewhere(run) == 2, 60)
        process.kill()
        process.communicate()
    run.refresh_from_db()
    assert (run.state, run.total, run.wanted) == ("preparing", 2, 4)
    assert eventually(lambda: _goes_on(run), 20)
    run.refresh_from_db()
    assert (run.state, run.total) == ("running", 4)
    assert run.posts.filter(tagging_state="waiting").count() == 4


def _seen_elsewhere(run: TaggingRun) -> int:
    return TaggingRun.objects.values_list("total", flat=True).get(pk=run.pk)


def _goes_on(run: TaggingRun) -> bool:
    """What the sweep has a worker do; the dead one's session may take a moment to end."""
    handing.go_on(run.pk)
    return TaggingRun.objects.get(pk=run.pk).state != "preparing"


def test_the_sweep_has_a_worker_go_on_with_a_run(site, monkeypatch):
    sent = []
    monkeypatch.setattr(sweeping, "send", lambda *message: sent.append(message))
    monkeypatch.setattr(sweeping, "wake", lambda: None)
    run = retagging.start("all", "", None, HALF)
    sweeping.sweep()
    assert sent == []  # a worker may take it at any moment
    TaggingRun.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    sweeping.sweep()
    assert sent == [("hand_out", run.pk)]


def test_what_a_run_did_is_not_read_for_what_it_has_not_done(site):
    """An index serves the sweep's question of each run that ended early, and the counts of a run's page."""
    run = ready("all")
    retagging.cancel(run)
    done = {"tagging_state": TaggingState.TAGGED, "tagging_run": run, "ext": "png", "file_size": 1}
    Post.objects.bulk_create(Post(sha256=f"{n:064}", width=1, height=1, **done) for n in range(3000))
    with connection.cursor() as cursor:
        cursor.execute("analyze post, tagging_run")
    for ask in (lambda: sweeping._go_on_with_runs(timezone.now()), lambda: retagging.progress(run)):
        with CaptureQueriesContext(connection) as asked:
            ask()
        plans = [_plan(query["sql"]) for query in asked if '"tagging_state"' in query["sql"]]
        assert plans and all("post_of_run" in plan for plan in plans), plans


def _plan(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"explain {sql}")
        return "\n".join(line for (line,) in cursor.fetchall())


def test_the_page_of_a_large_run_asks_less_often(site, monkeypatch):
    run = ready("all")
    assert retagging.progress(run).seconds_to_next == 1
    monkeypatch.setattr(retagging, "_COUNTED_A_SECOND", 2)
    assert retagging.progress(run).seconds_to_next == 3


def test_without_a_broker_the_run_says_so(site, monkeypatch, django_capture_on_commit_callbacks):
    monkeypatch.setattr(tagging, "send", lambda *message: False)
    with django_capture_on_commit_callbacks(execute=True):
        run = retagging.start("all", "", None, HALF)
    run.refresh_from_db()
    assert run.state == "failed" and "No worker could be reached" in run.error


def test_progress_and_end(site):
    run = ready("all")
    before = retagging.progress(run)
    assert (before.total, before.done, before.failed) == (4, 0, 0)
    Post.objects.filter(pk=site["seen"].pk).update(tagging_state=TaggingState.TAGGED)
    Post.objects.filter(pk=site["also"].pk).update(tagging_state=TaggingState.FAILED)
    Post.objects.filter(pk=site["older"].pk).update(tagging_state=TaggingState.TAGGING)
    now = retagging.progress(run)
    assert (now.done, now.failed) == (2, 1)


def test_a_cancelled_run_leaves_the_tags_as_they_are(site):
    run = ready("all")
    retagging.cancel(run)
    assert run.state == TaggingRun.State.CANCELLED
    states = {name: Post.objects.get(pk=post.pk).tagging_state for name, post in site.items()}
    assert states == {"seen": "tagged", "also": "tagged", "older": "tagged", "failed": "waiting", "upload": "waiting"}
    retagging.cancel(run)
    told = retagging.progress(run)
    assert (told.done, told.total, told.seconds_left) == (0, 4, 0)


def test_a_run_cancelled_half_way_says_how_far_it_came(site):
    run = ready("all")
    run.posts.filter(pk=site["seen"].pk).update(tagging_state="tagged")
    retagging.cancel(run)
    assert retagging.progress(run).done == 1


def test_a_deleted_run_lets_its_posts_be_tagged(site):
    run = ready("all")
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
