"""THE SEAM: claims waiting posts in batches, asks the tagger, stores predictions, rebuilds the tag index."""

from __future__ import annotations

import logging

from celery import current_app

logger = logging.getLogger(__name__)


def wake() -> None:
    """Tell a worker that posts wait. Only a hint: when it is lost, the sweep finds them."""
    try:
        current_app.send_task("gallery.tasks.tag_waiting", retry=False)
    except Exception as error:  # a broker that is down must never fail an upload
        logger.warning("No worker could be woken, the next sweep will do it: %s", error)
