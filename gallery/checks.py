from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import Error, Tags, register


@register(Tags.files)
def data_folder_is_writable(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Say before the first upload that pictures can't be stored."""
    try:
        settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
        probe = settings.DATA_DIR / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return [
            Error(
                f"The data folder {settings.DATA_DIR} can't be written: {error.strerror}.",
                hint="Make it writable for the user that runs Manabooru, or set MANABOORU_DATA to another folder.",
                id="gallery.E001",
            )
        ]
    return []
