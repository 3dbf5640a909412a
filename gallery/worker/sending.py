"""Messages to the workers. They are hints: the rows are the truth, and the sweep finds what a lost one was about."""

from __future__ import annotations

import logging

from celery import current_app

logger = logging.getLogger(__name__)

# Without these a broker that is down holds every upload up for six seconds of reconnecting.
_IMPATIENT = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
}


def send(task: str, *ids: int, queue: str | None = None) -> bool:
    """Send a message to the workers, by this queue or the task's own; False when the broker can't be reached.

    Rows are the truth, so nobody retries.
    """
    try:
        with current_app.connection_for_write() as connection:
            connection.transport_options = {**connection.transport_options, **_IMPATIENT}
            current_app.send_task(f"gallery.tasks.{task}", args=ids, retry=False, connection=connection, queue=queue)
    except Exception as error:  # a broker that is down must never fail an upload
        logger.warning("The message %s could not be sent: %s", task, error)
        return False
    return True


def wake() -> None:
    """Tell a worker that posts wait. Only a hint: when it is lost, the sweep finds them."""
    send("tag_waiting")
