import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagger import __main__ as command
from tagger.folders import find_pictures, write_tags
from tests.tagger import releases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release, and a folder tree with three pictures, a broken one, and files that are none."""
    releases.write(tmp_path / "one")
    art = tmp_path / "art"
    (art / "deep" / "er").mkdir(parents=True)
    (art / ".thumbnails").mkdir()
    for number, name in enumerate(("a.png", "deep/b.JPG", "deep/er/c.webp", ".thumbnails/a.png")):
        noise = np.random.default_rng(number).integers(0, 255, (50, 70, 3), dtype=np.uint8)
        Image.fromarray(noise).save(art / name)
    (art / "broken.png").write_text("no picture")
    (art / "notes.md").write_text("# Notes")
    return tmp_path


def run(folder: Path, *words: str) -> int:
    return command.main([str(folder / "art"), "--release", str(folder / "one"), "--device", "cpu", *words])


def written(folder: Path, ending: str) -> list[str]:
    return sorted(str(file.relative_to(folder / "art")) for file in (folder / "art").rglob(f"*.{ending}"))


def test_pictures_of_a_tree_in_order_and_each_once(folder: Path) -> None:
    art = folder / "art"
    found = find_pictures([art, art / "a.png", folder / "gone.png"])
    names = ["a.png", "broken.png", "deep/b.JPG", "deep/er/c.webp"]
    assert found == [*(art / name for name in names), folder / "gone.png"]


def test_text_files_beside_pictures_and_finished_ones_are_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--write", "txt", "--top", "2") == command.SOME_FAILED
    output = capsys.readouterr()
    assert output.out == ""
    assert "broken.png: This file cannot be opened as a picture" in output.err
    assert "3 tagged, 0 had a tag file, 1 failed" in output.err
    assert written(folder, "txt") == ["a.txt", "deep/b.txt", "deep/er/c.txt"]
    names = (folder / "art" / "a.txt").read_text().strip().split(", ")
    assert set(names) <= {name for name, _ in releases.TAGS}
    for beginning in ("thing_", "painter_", "person_"):
        assert sum(name.startswith(beginning) for name in names) <= 2
    (folder / "art" / "a.txt").write_text("mine")
    (folder / "art" / "broken.png").unlink()
    (folder / "art" / "deep" / "b.txt").unlink()
    assert run(folder, "--write", "txt") == 0
    assert "1 tagged, 2 had a tag file, 0 failed" in capsys.readouterr().err
    assert (folder / "art" / "a.txt").read_text() == "mine"
    assert run(folder, "--write", "txt") == 0
    assert "0 tagged, 3 had a tag file" in capsys.readouterr().err
    assert run(folder, "--write", "txt", "--again", "--spaces") == 0
    assert (folder / "art" / "a.txt").read_text() != "mine"
    assert "_" not in (folder / "art" / "a.txt").read_text()


def test_json_files_hold_what_json_lines_hold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "art" / "broken.png").unlink()
    assert run(folder, "--write", "json") == 0
    assert run(folder, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert json.loads(Path(line["file"]).with_suffix(".json").read_text()) == line


def test_a_folder_without_pictures_cannot_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    assert command.main([str(folder / "empty"), "--release", str(folder / "one")]) == command.CANNOT_START
    assert "no pictures in these folders" in capsys.readouterr().err


def test_a_tag_file_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_tags(tmp_path / "a.png", "json", {}, {"tags": object()}, False)
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_tags(tmp_path / "b.png", "txt", {"general": {"sky": 0.5}}, {}, False)
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_a_place_that_cannot_be_written_fails_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "art" / "broken.png").unlink()
    (folder / "art" / "a.json").mkdir()
    assert run(folder, "--write", "json", "--again") == command.SOME_FAILED
    assert "Its tag file cannot be written" in capsys.readouterr().err
    assert written(folder, "json") == ["a.json", "deep/b.json", "deep/er/c.json"]
