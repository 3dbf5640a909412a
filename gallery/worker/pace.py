"""How fast posts are tagged: workers count in the cache, ten seconds to a counter; the staff page reads."""

from __future__ import annotations

import logging
import time

from django.core.cache import cache

WINDOW_SECONDS = 180
_STEP_SECONDS = 10

logger = logging.getLogger(__name__)


def count(posts: int) -> None:
    """Posts were tagged just now. A cache that is down loses the count, never the tags."""
    key = _key(int(time.time()) // _STEP_SECONDS)
    try:
        cache.add(key, 0, timeout=WINDOW_SECONDS + 2 * _STEP_SECONDS)
        cache.incr(key, posts)
    except Exception as error:  # redis has many, and the counter may have just expired
        logger.warning("Tagged posts could not be counted: %s", error)


def per_second() -> float:
    """Posts a second over the last three minutes, or since tagging began within them; 0 when none was."""
    now = time.time()
    last = int(now) // _STEP_SECONDS
    steps = {_key(step): step for step in range(last - WINDOW_SECONDS // _STEP_SECONDS + 1, last + 1)}
    try:
        counts = cache.get_many(steps)
    except Exception:
        return 0.0
    if not counts:
        return 0.0
    began = min(steps[key] for key in counts) * _STEP_SECONDS
    return sum(counts.values()) / max(now - began, 1.0)


def _key(step: int) -> str:
    return f"tagged-in:{step}"
