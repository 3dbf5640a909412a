"""The tree's rules: who may import whom, and that the web process never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gallery", "tagger", "training")

# A room may import its own row and the rows below it.
ROWS = (
    ("urls", "wsgi", "admin"),
    ("views", "management", "templatetags", "forms", "captions", "context", "middleware", "http", "apps"),
    (
        "blacklisting",
        "accounts",
        "backups",
        "releases",
        "uploading",
        "merging",
        "correcting",
        "editing",
        "exporting",
        "saving",
        "reviewing",
        "seeding",
        "search",
    ),
    ("tasks",),
    ("reindexing",),
    ("tagging",),
    ("worker",),
    (
        "index",
        "likeness",
        "locking",
        "pictures",
        "profiles",
        "prose",
    ),
    ("models",),
)


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names of what a module imports; with `top_level`, only when it is imported itself."""
    for node in tree.body if top_level else ast.walk(tree):  # type: ignore[attr-defined]
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("tagger", ("django", "gallery", "training")), ("training", ("django", "gallery")), ("gallery", ("training",))],
)
def test_packages_meet_in_one_direction(package: str, forbidden: tuple[str, ...]) -> None:
    for name, tree in modules(package):
        broken = [target for target in imported(tree) if under(target, *forbidden)]
        assert not broken, f"{name} imports {broken}"


def test_gallery_meets_the_tagger_only_in_the_seam() -> None:
    meeting = {name for name, tree in modules("gallery") if any(under(target, "tagger") for target in imported(tree))}
    assert meeting == {"gallery.tagging"}


def test_imports_inside_the_gallery_point_downwards() -> None:
    row_of = {room: number for number, row in enumerate(ROWS) for room in row}
    for name, tree in modules("gallery"):
        room = name.split(".")[1] if "." in name else ""
        if room not in row_of or "migrations" in name:
            continue
        for target in imported(tree, top_level=True):
            parts = target.split(".")
            if parts[0] == "gallery" and len(parts) > 1 and parts[1] in row_of:
                assert row_of[parts[1]] >= row_of[room], f"{name} imports {target}, which lies above it"


def test_every_room_of_the_gallery_has_a_row() -> None:
    aside = {"settings", "celery", "checks", "migrations", "launch"}
    known = {room for row in ROWS for room in row} | aside
    for path in (ROOT / "gallery").iterdir():
        if path.suffix == ".py" or (path / "__init__.py").exists():
            room = path.stem
            assert room == "__init__" or room in known, f"gallery/{path.name} has no row"


def test_the_launch_stands_on_nothing_but_itself() -> None:
    """It runs before settings are read, part of it before any package is installed."""
    for name, tree in modules("gallery/launch"):
        above = [target for target in imported(tree, top_level=True) if under(target, "gallery", "django")]
        assert all(under(target, "gallery.launch") for target in above), f"{name} imports {above}"


def loads_torch(code: str) -> bool:
    script = f"import sys; {code}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.strip().splitlines()[-1] == "True"


def test_the_web_process_never_loads_torch() -> None:
    setup = "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'gallery.settings'; import django; django.setup()"
    assert not loads_torch(f"{setup}; import gallery.urls, gallery.tasks, gallery.wsgi")
    assert loads_torch("import tagger.model")
