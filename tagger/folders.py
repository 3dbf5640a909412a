"""Pictures in folders, and the tag files beside them that training tools read: picture.png, picture.txt."""

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

# Only still pictures: a video has no one set of tags.
ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff"}
FORMATS = ("txt", "json")


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """Files as named, and all pictures under folders, in order of their names; hidden folders are passed over."""
    endings = ENDINGS & set(Image.registered_extensions())
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            pictures = (name for name in sorted(files) if not name.startswith("."))
            found += [Path(folder, name) for name in pictures if Path(name).suffix.lower() in endings]
    return list(dict.fromkeys(found))


def tag_file(picture: Path, form: str) -> Path:
    return picture.with_suffix(f".{form}")


def unfinished(pictures: Sequence[Path], form: str) -> list[Path]:
    """Those without a tag file. A tag file is written whole or not at all, so one that is there is finished."""
    return [picture for picture in pictures if not tag_file(picture, form).exists()]


def write_tags(
    picture: Path, form: str, tags: dict[str, dict[str, float]], about: dict[str, Any], spaces: bool
) -> None:
    """txt: names by category, most confident first, with commas. json: what `--json` prints. Raises OSError."""
    if form == "txt":
        names = [name for found in tags.values() for name in found]
        text = ", ".join(name.replace("_", " ") if spaces else name for name in names) + "\n"
    else:
        text = json.dumps(about, ensure_ascii=False, indent=1) + "\n"
    target = tag_file(picture, form)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
