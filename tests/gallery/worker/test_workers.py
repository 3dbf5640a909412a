import os
import signal
import subprocess
import threading
from types import SimpleNamespace

import psutil
import pytest
from celery.signals import celeryd_after_setup
from django.conf import settings
from django.core.cache import cache
from django.urls import reverse

from gallery.celery import app
from gallery.launch.tagging import worker as worker_words
from gallery.worker import workers
from tests.gallery.making import make_post, make_release
from tests.gallery.views.people import signed_in
from tests.gallery.working import environment
from tests.stack import eventually


@pytest.fixture(autouse=True)
def nobody_else():
    cache.delete_many(f"worker:{place}" for place in range(workers.MOST))
    yield
    workers.end()


def begin(name, queue="tagging", held=None):
    workers.begin(name, [queue], lambda: held)
    assert eventually(lambda: name in {one.name for one in workers.alive(queue)})


@pytest.mark.django_db
def test_a_worker_says_what_it_holds_and_its_memory_is_measured():
    release = make_release("held")
    begin("tagging@here", held=workers.Held(release.pk, "initial", "fast", "openvino bf16"))
    (said,) = workers.alive()
    assert (said.name, said.pid, said.held.release_id) == ("tagging@here", os.getpid(), release.pk)
    assert said.memory == pytest.approx(psutil.Process().memory_full_info().pss, rel=0.3)
    page = " ".join(signed_in(is_staff=True).get(reverse("queue")).content.decode().split())
    assert "a worker is there" in page
    assert "holds held, initial stage, in openvino bf16, fast; it takes" in page
    workers.end()
    assert not workers.alive()


def test_a_worker_says_which_posts_it_is_at():
    """By the times of its claims: the sweep gives back the others."""
    at = [1_790_000_000.25]
    workers.begin("tagging@here", ["tagging"], lambda: None, lambda: at)
    assert eventually(lambda: [one.claims for one in workers.alive()] == [at])
    at = []
    workers.tell()
    assert workers.alive()[0].claims == []


def test_a_silent_worker_is_forgotten(monkeypatch):
    monkeypatch.setattr(workers, "FORGOTTEN_SECONDS", 1)
    begin("tagging@here")
    workers._ending.set()  # killed: nobody took its word back
    assert eventually(lambda: not workers.alive(), 5)


def test_a_worker_whose_place_was_taken_moves(monkeypatch):
    begin("first@here")
    other = workers.Worker("second@there", 1, ["tagging"], 1, 0, None, 0)
    cache.set("worker:0", workers.asdict(other), 30)
    workers.tell()
    assert {one.name for one in workers.alive()} == {"first@here", "second@there"}


def test_many_workers_each_have_a_place():
    said = [workers.asdict(workers.Worker(f"w{n}@here", n, ["tagging"], 1, 0, None, 0)) for n in range(3)]
    for place, one in enumerate(said):
        cache.set(f"worker:{place}", one, 30)
    begin("fourth@here")
    assert len(workers.alive()) == 4


def test_a_tagging_worker_takes_the_messages_for_its_device(settings, monkeypatch):
    settings.TAGGER_DEVICE = "cuda"
    for queue, taken in (("default", {"default"}), ("tagging", {"tagging", "tagging.cuda"})):
        monkeypatch.setattr(app.amqp, "queues", app.amqp.Queues({}))
        app.amqp.queues.select(queue)
        celeryd_after_setup.send("here", instance=SimpleNamespace(app=app), conf=app.conf)
        assert set(app.amqp.queues.consume_from) == taken


@pytest.mark.django_db(transaction=True)
def test_a_living_default_worker_does_not_stand_in_for_the_taggers(tmp_path):
    make_post(tagging_state="waiting")
    process = subprocess.Popen(
        worker_words("default", 1),
        cwd=settings.BASE_DIR,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    threading.Thread(target=process.stdout.read, daemon=True).start()
    try:
        assert eventually(lambda: workers.alive("default"), 60)
        page = signed_in(is_staff=True).get(reverse("queue"))
        assert not page.context["worker"]
        assert "no worker answers" in page.content.decode() and "1 post waits" in page.content.decode()
        assert page.context["missing"] == ["exports, gets releases and begins runs"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert eventually(lambda: not workers.alive("default"), 5)
