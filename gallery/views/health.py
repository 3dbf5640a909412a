from __future__ import annotations

import uuid
from collections.abc import Callable

from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """What the site stands on, for probes: 200 when all of it answers, else 503 with the reasons."""
    checks = {"database": _reason(_database), "redis": _reason(_redis), "disk": _reason(_disk)}
    sound = not any(checks.values())
    body = {"status": "ok" if sound else "failing", **{name: reason or "ok" for name, reason in checks.items()}}
    return JsonResponse(body, status=200 if sound else 503)


def _reason(check: Callable[[], None]) -> str:
    """Empty when `check` passes. The kind of error only: messages name hosts and folders."""
    try:
        check()
    except Exception as error:  # whatever a driver raises is a failed check
        return type(error).__name__
    return ""


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select 1")


def _redis() -> None:
    cache.set("health", 1, timeout=10)


def _disk() -> None:
    probe = settings.DATA_DIR / f".health-{uuid.uuid4().hex}"
    probe.touch()
    probe.unlink()
