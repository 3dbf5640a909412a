from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from gallery import profiles

_THEMES = ("light", "dark")


def site(request: HttpRequest) -> dict[str, Any]:
    """What every page shows of the site itself and of the visitor; asked of the database when shown."""
    theme = request.COOKIES.get("theme")
    return {
        "SITE_NAME": settings.SITE_NAME,
        "SITE_MODE": settings.SITE_MODE,
        "theme": theme if theme in _THEMES else "",
        "chosen_profile": SimpleLazyObject(lambda: profiles.chosen(request)),
        "profile_choices": SimpleLazyObject(lambda: profiles.offered(request)),
    }
