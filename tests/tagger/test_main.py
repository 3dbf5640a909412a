import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tagger import __main__ as command
from tagger import fast
from tests.tagger import releases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release named `one`, two pictures and two files that are none."""
    releases.write(tmp_path / "one")
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (50, 70, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    (tmp_path / "fake.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:2000])
    return tmp_path


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    parts = [sys.executable, "-m", "tagger", *map(str, words)]
    return subprocess.run(parts, capture_output=True, text=True, env=env, timeout=120)


def test_command_prints_json_lines_and_bad_pictures_fail_alone(folder: Path) -> None:
    files = [folder / name for name in ("0.png", "fake.png", "cut.png", "1.png", "gone.png")]
    result = run(*files, "--release", folder / "one", "--json", "--device", "cpu")
    assert result.returncode == 1, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(file) for file in files]
    assert [("error" in line) for line in lines] == [False, True, True, False, True]
    assert "no such file" in result.stderr
    assert "cannot be opened as a picture" in result.stderr
    assert "Traceback" not in result.stderr
    good = lines[0]
    assert (good["release"], good["stage"], good["profile"]) == ("one", "refined", "category-specific")
    assert len(good["tags"]["rating"]) == 1
    assert min(good["tags"]["general"].values()) >= 0.42
    for tags in good["tags"].values():
        assert list(tags.values()) == sorted(tags.values(), reverse=True)


def test_a_damaged_file_fails_alone_whatever_its_decoder_says(tmp_path: Path) -> None:
    """Pillow's AVIF decoder answers some damage with a RuntimeError."""
    memory = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(memory, "AVIF")
    whole, file = memory.getvalue(), tmp_path / "damaged.avif"
    predictor = SimpleNamespace(draft=lambda image: None, prepare=np.asarray)
    said = []
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + b"\0" + whole[place + 1 :])
        said.append(isinstance(command.prepare(predictor, file), str))
    assert any(said) and not all(said)


def test_text_shows_tags_by_category(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(folder / "0.png"), "--release", str(folder / "one"), "--profile", "high-recall"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(str(folder / "0.png"))
    assert "\n  general\n" in text
    assert "%  " in text


def test_profiles_cut_differently(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {}
    for profile in ("category-specific", "high-precision"):
        words = [str(folder / "0.png"), "--release", str(folder / "one"), "--json", "--profile", profile]
        assert command.main([*words, "--stage", "initial"]) == 0
        counts[profile] = len(json.loads(capsys.readouterr().out)["tags"].get("general", {}))
    assert counts["high-precision"] < counts["category-specific"]


def test_a_picture_on_its_side_is_turned_upright(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upright = Image.open(folder / "0.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "side.png", exif=exif)
    assert (
        command.main([str(folder / "0.png"), str(folder / "side.png"), "--release", str(folder / "one"), "--json"]) == 0
    )
    first, second = (json.loads(line)["tags"] for line in capsys.readouterr().out.splitlines())
    assert first == second


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--profile", "best"], "no profile 'best'; choose one of overall"),
        (["--release", "nowhere"], "no release folder at nowhere"),
        (["--release", "model.pt"], "pickle"),
        (["--device", "abacus"], "No device is called"),
        (["--threads", "-2"], "The number of threads is -2; it must be at least 1"),
        (["--top", "0"], "--top is 0; it must be at least 1"),
    ],
)
def test_what_cannot_start_says_why(
    folder: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(folder / "0.png"), "--release", str(folder / "one"), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_fast_mode_runs_where_its_check_passed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder / "0.png"), "--release", str(folder / "one"), "--mode", "fast", "--device", "cpu"]
    words += ["--engine", "torch", "--stage", "initial"]

    def said() -> str:
        monkeypatch.setattr(command, "report", lambda options, predictor, *rest: print(predictor.engine.title) or True)
        assert command.main(words) == 0
        said = capsys.readouterr()
        return said.out.strip() + "|" + said.err

    monkeypatch.setattr(fast, "has_amx", lambda: False)
    assert said().startswith("torch fp32|Exact mode is used. Fast mode needs a GPU")
    monkeypatch.setattr(fast, "has_amx", lambda: True)
    unknown = "torch fp32|Exact mode is used. How far torch bf16 keeps the tags of its initial stage is not known: run"
    fast.keep(folder / "one", fast.Gate("torch bf16", 1.0, 9, True))  # of the other stage
    assert said() == f"{unknown} python -m tagger check-fast {folder / 'one'} --stage initial --engine torch.\n"
    fast.keep(folder / "one", fast.Gate("torch bf16", 0.5, 9, False, "Half of them.", "initial"))
    assert said() == "torch fp32|Exact mode is used. Half of them.\n"
    fast.keep(folder / "one", fast.Gate("torch bf16", 0.99, 9, True, "", "initial"))
    assert said() == "torch bf16|"
    fast.keep(folder / "one", fast.Gate("torch bf16", 0.5, 9, False, "Half of them.", "initial"))
    words.append("--anyway")
    assert said() == "torch bf16|"


def test_a_picture_that_breaks_the_model_fails_alone() -> None:
    def predict(arrays: list[int]) -> list[int]:
        if 2 in arrays:
            raise FloatingPointError("its scores are not finite")
        return [10 * array for array in arrays]

    said = "The tagger fails on this picture (its scores are not finite)."
    assert command.predicted(SimpleNamespace(predict_prepared=predict), [1, 2, 3]) == [10, said, 30]
    assert command.predicted(SimpleNamespace(predict_prepared=predict), []) == []


def test_without_a_starter_the_command_asks_for_a_release(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "STARTER", folder / "starter")
    assert command.main([str(folder / "0.png")]) == 2
    assert "--release FOLDER" in capsys.readouterr().err
