from pathlib import Path

from tagger import fast
from tests.tagger import releases
from tests.training import made
from training import dataset, picturing
from training.run import RunFolder


def run_on(folder: Path, licence: str, broken: tuple[int, ...] = ()) -> RunFolder:
    """A run of a dataset of which every third picture has no licence stated."""
    rows = [
        made.row(number, licence=licence if number % 3 else "", artist_credit=f"Ada {number}", source="https://a.test")
        for number in range(24)
    ]
    for number in broken:
        rows[number]["image"] = b"no picture"
    dataset.write(folder / "data", {"train": rows[:9], "validation": rows[9:]}, {"name": "shapes"})
    run = RunFolder(folder / "run")
    run.state["dataset"] = str(folder / "data")
    return run


def test_a_release_gets_pictures_that_may_be_given_away(tmp_path: Path) -> None:
    folder = releases.write(tmp_path / "release").folder
    assert picturing.add_pictures(folder, run_on(tmp_path, "CC0-1.0")) == 10
    assert len(fast.calibration_pictures(folder)) == 10
    credits = (folder / "calibration/CREDITS.md").read_text()
    assert "- 0000.webp: Ada 10, CC0-1.0, https://a.test" in credits
    assert "Ada 12," not in credits  # no licence
    assert "Ada 1," not in credits  # learned from


def test_pictures_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    folder = releases.write(tmp_path / "release").folder
    run = run_on(tmp_path, "CC0-1.0", broken=(10, 14))
    assert picturing.add_pictures(folder, run) == 8
    credits = (folder / "calibration/CREDITS.md").read_text()
    assert "- 0000.webp: Ada 11, CC0-1.0" in credits and "Ada 10," not in credits and "Ada 14," not in credits


def test_private_pictures_and_lost_datasets_give_none(tmp_path: Path) -> None:
    folder = releases.write(tmp_path / "release").folder
    run = run_on(tmp_path, "")
    assert picturing.add_pictures(folder, run) == 0
    run.state["dataset"] = str(tmp_path / "gone")
    assert picturing.add_pictures(folder, run) == 0
    assert not (folder / "calibration").exists()
