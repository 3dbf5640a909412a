"""The README's maps and tables say what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_map_names_only_what_exists_and_every_room() -> None:
    named = set(re.findall(r"^\| `([\w./]+)` \|", section("Map of the code"), re.M))
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing
    rooms = {
        f"{package}/{path.name}" + ("/" if path.is_dir() else "")
        for package in ("gallery", "tagger", "training")
        for path in (ROOT / package).iterdir()
        if (path.is_dir() and any(path.rglob("*.py"))) or path.suffix == ".py"
        if path.name not in ("__init__.py", "__pycache__")
    }
    assert not rooms - named


def test_settings_table_names_every_setting() -> None:
    read = set()
    for path in [ROOT / "gallery/settings.py", *sorted((ROOT / "gallery/launch").glob("*.py"))]:
        text = path.read_text(encoding="utf-8")
        read |= set(re.findall(r"_(?:text|integer|choice|flag|list)\(\s*\"([A-Z_]+)\"", text))
        read |= set(re.findall(r"environ(?:\.get\(|\[)\"(MANABOORU_[A-Z_]*)\"", text))
    read.discard("MANABOORU_LAUNCHED")  # the launcher's own word to its children
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", section("Settings"), re.M))
    assert table == read


def test_first_screen_has_exactly_the_two_commands() -> None:
    first = README.split("\n## ", 2)[0] + README.split("\n## ", 2)[1]
    assert re.findall(r"^python3 manage\.py \w+", first, re.M) == ["python3 manage.py up", "python3 manage.py test"]
