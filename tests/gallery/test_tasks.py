"""Which worker does what."""

from django.conf import settings

from gallery import tasks
from gallery.celery import app
from gallery.launch import tagging
from gallery.launch.dotenv import ROOT


def queues() -> dict[str, str]:
    ours = [name for name in app.tasks if name.startswith("gallery.tasks.")]
    return {name.rpartition(".")[2]: app.amqp.router.route({}, name)["queue"].name for name in ours}


def test_long_work_never_stands_before_what_is_looked_after_every_half_minute():
    assert tasks.sweep.name in app.tasks
    found = queues()
    assert found["sweep"] == found["refresh_histograms"] == "default"
    long = {"run_export", "get_release", "install_seed", "rebuild_after_change", "rebuild_posts", "rebuild_with_tags"}
    assert {found[name] for name in long} == {"long"}
    models = {"tag_waiting", "try_pictures", "predict_posts", "check_fast", "fill_features"}
    assert {name for name, queue in found.items() if queue == "tagging"} == models


def test_every_queue_has_a_worker():
    started = (ROOT / "gallery/launch/launcher.py").read_text(encoding="utf-8")
    served = {tagging.QUEUE} | {queue for queue in ("default", "long") if f'worker("{queue}"' in started}
    assert set(queues().values()) <= served
    assert {entry["task"].rpartition(".")[2] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= set(queues())
