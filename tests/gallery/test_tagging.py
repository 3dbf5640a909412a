import os
import re
import subprocess
import sys
import threading
import time
import weakref
from datetime import timedelta

import numpy as np
import pytest
from celery.signals import worker_shutting_down
from django.conf import settings as site
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from gallery import tagging, tasks, uploading
from gallery.celery import app
from gallery.models import Post, Prediction, Tag, TaggingState, TagIndex
from gallery.profiles import Thresholds
from gallery.releases import handing, releasing, retagging
from gallery.worker import batching, pace
from tagger.inference import Predictor
from tests.gallery.views.people import signed_in
from tests.gallery.working import install, upload, worker


@pytest.fixture(autouse=True)
def data(settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.RELEASES_DIR = tmp_path / "releases"
    settings.TAGGER_BATCH = 4
    settings.TAGGER_THREADS = 1
    settings.TAGGER_IDLE_SECONDS = 0
    monkeypatch.setattr(tagging, "_loaded", None)
    monkeypatch.setattr(tagging, "_timer", None)
    return tmp_path


def states() -> list[str]:
    return list(Post.objects.order_by("pk").values_list("tagging_state", flat=True))


@pytest.mark.django_db
def test_posts_wait_until_a_release_is_active(data):
    post = upload(1)
    assert tasks.tag_waiting() == 0
    assert states() == ["waiting"]
    install(data / "first")
    assert tagging.tag_waiting() == 1
    post.refresh_from_db()
    assert (post.tagging_state, post.tagging_attempts, post.tagging_started_at) == ("tagged", 0, None)


@pytest.mark.django_db
def test_a_release_that_cannot_be_loaded_is_told_to_the_staff(data):
    release, post = install(data / "first"), upload(1)
    weights = release.path / "model.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(b"half of it")
    with pytest.raises(tagging.ReleaseError):
        tagging.tag_waiting()
    post.refresh_from_db()
    assert (post.tagging_state, post.tagging_attempts) == ("waiting", 0)
    assert tagging.problem() in signed_in(is_staff=True).get(reverse("queue")).context["problem"]
    assert tagging.problem().startswith("first (random) can't be loaded")
    weights.write_bytes(sound)
    assert tagging.tag_waiting() == 1
    assert tagging.problem() == ""


@pytest.mark.django_db
def test_predictions_are_packed_and_indexed(data):
    release = install(data / "first")
    posts = [upload(number) for number in range(6)]
    assert tagging.tag_waiting() == 6
    predictor = Predictor(release.path, device="cpu")
    for post in posts:
        row = Prediction.objects.get(post=post, release=release)
        assert row.tag_ids == sorted(row.tag_ids)
        found = predictor.predict_prepared([batching.pixels_of(predictor, post)])[0]
        expected = dict(zip((release.tag_ids[index] for index in found.indices), found.confidences, strict=True))
        assert set(row.tag_ids) == set(expected)
        stored = np.frombuffer(bytes(row.confidences), np.uint8)
        assert np.allclose(stored, [np.floor(expected[tag_id] * 254) for tag_id in row.tag_ids], atol=1)
        index = TagIndex.objects.get(post=post)
        assert set(index.tag_ids) <= set(row.tag_ids)
        assert Tag.objects.filter(pk__in=index.tag_ids, name__startswith="rating_").count() <= 1


@pytest.mark.django_db
def test_a_run_is_done_with_its_last_post(data):
    install(data / "first")
    posts = [upload(number) for number in range(2)]
    tagging.tag_waiting()
    default_storage.delete(posts[0].file_path)
    run = retagging.start("all", "", None, Thresholds(127))
    handing.go_on(run.pk)
    assert tagging.tag_waiting() == 1
    while Post.objects.waiting().exists():
        tagging.tag_waiting()  # the other one again
    run.refresh_from_db()
    assert (run.state, run.total, run.failed) == ("done", 2, 1)


@pytest.mark.django_db
def test_newest_uploads_go_before_reruns(data, settings):
    rerun, first, second = (upload(number) for number in range(3))
    Post.objects.filter(pk=rerun.pk).update(priority=Post.RERUN_PRIORITY)
    install(data / "first")
    settings.TAGGER_BATCH = 1
    tagged = []
    for _ in range(3):
        assert tagging.tag_waiting(seconds=0) == 1
        tagged.append(Post.objects.filter(tagging_state="tagged").exclude(pk__in=tagged).get().pk)
    assert tagged == [second.pk, first.pk, rerun.pk]


@pytest.mark.django_db
def test_another_active_release_replaces_the_loaded_model(data):
    first, second = install(data / "first"), install(data / "second", seed=1, activate=False)
    post = upload(1)
    tagging.tag_waiting()
    releasing.use(second)
    Post.objects.update(tagging_state=TaggingState.WAITING)
    tagging.tag_waiting()
    by_release = {row.release_id: bytes(row.confidences) for row in post.predictions.all()}
    assert set(by_release) == {first.pk, second.pk}
    assert bytes(TagIndex.objects.get(post=post).confidences)[1:] in _without_other_ratings(post, second)


def _without_other_ratings(post: Post, release) -> list[bytes]:
    row = post.predictions.get(release=release)
    ratings = set(Tag.objects.filter(name__startswith="rating_").values_list("pk", flat=True))
    pairs = list(zip(row.tag_ids, bytes(row.confidences), strict=True))
    return [
        bytes(byte for tag_id, byte in pairs if tag_id not in ratings or tag_id == kept) for kept in {*ratings, None}
    ]


@pytest.mark.django_db
def test_a_picture_that_cannot_be_tagged_fails_alone(data):
    install(data / "first")
    posts = [upload(number) for number in range(5)]
    broken, missing = posts[1], posts[3]
    default_storage.delete(missing.file_path)
    default_storage.delete(broken.file_path)
    path = data / "media" / broken.file_path
    path.write_bytes(b"no picture any more")
    assert tagging.tag_waiting() == 3
    assert states() == ["tagged", "failed", "tagged", "failed", "tagged"]
    broken.refresh_from_db()
    missing.refresh_from_db()
    assert "not a picture" in broken.tagging_error
    assert "missing" in missing.tagging_error
    assert broken.tagging_attempts == site.TAGGING_ATTEMPTS


@pytest.mark.django_db
def test_deleted_posts_are_not_tagged(data):
    install(data / "first")
    post = upload(1)
    uploading.delete(post)
    assert tagging.tag_waiting() == 0
    uploading.restore(post)
    assert tagging.tag_waiting() == 1


@pytest.mark.django_db
def test_a_worker_says_which_posts_it_is_at(data):
    install(data / "first")
    posts = [upload(number) for number in range(6)]
    seen = []

    def look() -> bool:
        rows = set(Post.objects.filter(tagging_state=TaggingState.TAGGING).values_list("tagging_started_at", flat=True))
        seen.append(({started.timestamp() for started in rows}, set(batching.claims())))
        return True

    assert batching.tag_until(tagging._active_tagger(), time.monotonic() + 60, look, lambda run: None) == len(posts)
    assert seen[0][0] and all(rows == claims for rows, claims in seen)
    assert batching.claims() == []


@pytest.mark.django_db
def test_a_claim_that_the_sweep_gave_away_stores_nothing(data):
    install(data / "first")
    post, claimed_at = upload(1), timezone.now()
    tagger = tagging._active_tagger()
    Post.objects.update(tagging_state=TaggingState.TAGGING, tagging_started_at=claimed_at + timedelta(seconds=1))
    nothing = (np.array([], np.int32), np.array([], np.float32))
    assert batching.store(tagger, [post], [nothing], claimed_at) == 0
    assert not Prediction.objects.exists()
    assert states() == ["tagging"]


@pytest.mark.django_db
def test_a_worker_that_shuts_down_puts_back_what_it_has_not_begun(data, monkeypatch):
    install(data / "first")
    posts = [upload(number) for number in range(20)]  # more than can be under way
    monkeypatch.setattr(tagging, "_stopping", threading.Event())
    slow = data / "media" / posts[-1].file_path
    picture = slow.read_bytes()
    slow.unlink()
    os.mkfifo(slow)  # whoever opens it to read waits until someone writes

    def shut_down() -> None:
        with slow.open("wb"):  # opens when the first batch is being decoded
            worker_shutting_down.send(sender=None)

    thread = threading.Thread(target=shut_down)
    thread.start()
    tagged = tagging.tag_waiting()
    thread.join()
    slow.unlink()
    slow.write_bytes(picture)
    left = Post.objects.filter(tagging_state=TaggingState.WAITING)
    assert 0 < tagged < 20
    assert tagged + left.count() == 20
    not_begun = left.exclude(pk=posts[-1].pk)  # that one was no picture just now
    assert set(not_begun.values_list("tagging_attempts", "tagging_started_at")) == {(0, None)}
    assert tagging.tag_waiting() == 0
    monkeypatch.setattr(tagging, "_stopping", threading.Event())
    assert tagging.tag_waiting() == 20 - tagged


@pytest.mark.django_db
def test_the_idle_model_is_freed_and_loaded_again(data, settings):
    settings.TAGGER_IDLE_SECONDS = 0
    install(data / "first")
    upload(1)
    tagging.tag_waiting()
    model = weakref.ref(tagging._loaded.predictor)
    settings.TAGGER_IDLE_SECONDS = 0.01
    assert tagging.tag_waiting() == 0
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    assert tagging._loaded is None
    assert model() is None
    upload(2)
    assert tagging.tag_waiting() == 1


@pytest.mark.django_db
def test_one_timer_waits_for_the_idle_model_however_many_messages_come(data, settings, monkeypatch):
    install(data / "first")
    upload(1)
    settings.TAGGER_IDLE_SECONDS = 900
    for _ in range(5):
        tagging.tag_waiting()
    timer = tagging._timer
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert timers == [timer]
    timer.cancel()
    tagging._free_if_idle()  # too early, as it was used since the timer began: it looks again
    later = tagging._timer
    assert tagging._loaded
    assert later is not timer
    assert later.interval <= 900
    later.cancel()
    monkeypatch.setattr(tagging, "_last_used", time.monotonic() - 901)
    tagging._free_if_idle()
    assert tagging._loaded is None
    assert tagging._timer is None


@pytest.mark.django_db
def test_no_model_is_loaded_when_nothing_waits(data):
    install(data / "unused")
    assert tagging.tag_waiting() == 0
    assert tagging._loaded is None


@pytest.mark.django_db
def test_the_rate_counts_the_last_minutes(data, monkeypatch):
    cache.clear()
    assert pace.per_second() == 0
    install(data / "first")
    for number in range(6):
        upload(number)
    tagging.tag_waiting()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    began = now // 10 * 10
    first = pace.per_second()
    assert 6 / 25 <= first <= 6
    monkeypatch.setattr(time, "time", lambda: began + 60)
    pace.count(54)
    assert pace.per_second() == pytest.approx(60 / 60, rel=0.2)
    monkeypatch.setattr(time, "time", lambda: began + 60 + pace.WINDOW_SECONDS + 10)
    assert pace.per_second() == 0


@pytest.mark.django_db(transaction=True)
def test_two_workers_never_tag_one_post_twice(data):
    install(data / "first")
    for number in range(30):
        upload(number)
    workers = [worker("tag_waiting") for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in workers]
    assert [process.returncode for process in workers] == [0, 0], said
    tagged = [int(re.search(r"(\d+) posts are tagged", text)[1]) for text in said]
    assert sum(tagged) == 30
    assert Prediction.objects.count() == 30
    assert set(states()) == {"tagged"}


@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_loses_nothing(data, settings):
    install(data / "first")
    stuck = upload(0)
    pipe = data / "media" / stuck.file_path
    picture = pipe.read_bytes()
    pipe.unlink()
    os.mkfifo(pipe)  # who opens it to read waits until someone writes
    process = worker("tag_waiting")
    with pipe.open("wb"):  # returns when the worker is in the middle of this picture
        assert states() == ["tagging"]
        process.kill()
        process.wait()
    process.stdout.close()
    pipe.unlink()
    pipe.write_bytes(picture)
    assert tagging.sweep() == 0
    settings.TAGGING_STALE_SECONDS = 0
    assert tagging.sweep() == 1
    assert tagging.tag_waiting() == 1
    assert states() == ["tagged"]
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_uploads_and_sweeps_wake_a_worker(data):
    with app.connection_for_read() as connection:
        messages = connection.SimpleQueue("tagging")
        messages.clear()
        upload(1)
        assert messages.get(timeout=5).headers["task"] == "gallery.tasks.tag_waiting"
        install(data / "first")
        messages.clear()
        tagging.sweep()
        assert messages.get(timeout=5).headers["task"] == "gallery.tasks.tag_waiting"
        assert tagging.tag_waiting() == 1
        messages.clear()
        tagging.sweep()
        with pytest.raises(messages.Empty):
            messages.get(block=False)
        messages.close()


def test_the_web_process_never_loads_torch():
    code = (
        "import os, sys, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'gallery.settings'; django.setup();"
        "import gallery.urls, gallery.wsgi, gallery.tasks, gallery.releases.releasing, gallery.exporting;"
        "print(sorted({'torch', 'torchvision', 'datasets', 'tagger.inference'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=site.BASE_DIR, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
