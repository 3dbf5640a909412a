"""Every Celery task, under ten lines each. They carry ids only and are safe to run twice."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import celeryd_after_setup, worker_ready, worker_shutdown, worker_shutting_down

from gallery import tagging
from gallery.likeness import search, vectors
from gallery.worker import batching, trying, workers


@celeryd_after_setup.connect
def take_checks(instance: Any, **about: Any) -> None:
    """A tagging worker also takes what only workers on such a device can do."""
    queues = instance.app.amqp.queues
    if tagging.QUEUE in queues.consume_from:
        queues.select_add(tagging.queue_of(tagging.device()))


@worker_ready.connect
def begin(sender: Any, **about: Any) -> None:
    workers.begin(sender.hostname, sorted(sender.app.amqp.queues.consume_from), tagging.held, batching.claims)


@worker_shutdown.connect
def end(**about: Any) -> None:
    workers.end()


@worker_shutting_down.connect
def stop(**about: Any) -> None:
    """Ctrl-C: the task that tags ends between batches, long before the launcher's patience does."""
    tagging.stop()


@shared_task
def tag_waiting() -> int:
    return tagging.tag_waiting()


@shared_task
def try_pictures() -> None:
    tagging.try_pictures()


@shared_task
def predict_posts(release_id: int, *post_ids: int) -> int:
    return tagging.predict_posts(release_id, *post_ids)


@shared_task
def fill_features() -> int:
    return tagging.fill_features()


@shared_task
def index_features() -> bool:
    release_id = search.release_id()
    return release_id is None or vectors.catch_up(release_id)


@shared_task
def sweep() -> int:
    from gallery import exporting
    from gallery.index import partitions
    from gallery.releases import importing, running

    trying.forget_old()
    partitions.make_ahead()
    partitions.tidy()
    return tagging.sweep() + exporting.sweep() + importing.sweep() + running.sweep()


@shared_task
def refresh_histograms() -> bool:
    from gallery.index import histograms

    return histograms.refresh()


@shared_task
def rebuild_after_change() -> int:
    from gallery.releases import releasing

    return releasing.rebuild_after_change()


@shared_task
def rebuild_posts(*post_ids: int) -> None:
    from gallery.index import indexing

    indexing.rebuild(post_ids)


@shared_task
def rebuild_with_tags(*tag_ids: int) -> int:
    from gallery.index import indexing

    return indexing.rebuild_with_tags(tag_ids)


@shared_task
def run_export(export_id: int) -> None:
    from gallery import exporting

    exporting.run(export_id)


@shared_task
def hand_out(run_id: int) -> None:
    from gallery.releases import handing

    handing.go_on(run_id)


@shared_task
def check_fast(release_id: int) -> bool:
    from gallery.releases import running

    return running.check(release_id)


@shared_task
def get_release(import_id: int) -> None:
    from gallery.releases import importing

    importing.run(import_id)


@shared_task
def install_seed() -> int:
    from gallery import seeding

    return seeding.install_seed(seeding.remember)
