import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagger import release
from tagger.inference import Predictor
from tagger.vocabulary import Vocabulary
from tests.tagger import releases
from training import compare, dataset
from training.scoring import scores


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (50, 64, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(5)
    rows = [
        {
            "image": picture(n),
            "md5": f"{n:032x}",
            "group": f"subject {n // 2}",
            "tags_general": [f"thing_{t}" for t in np.flatnonzero(draw.random(20) < 0.4)],
            "tags_meta": ["monochrome"],
        }
        for n in range(24)
    ]
    folder = tmp_path_factory.mktemp("data") / "noise"
    return dataset.write(folder, {"train": rows[:4], "test": rows}, {"name": "noise"})


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> release.ReleaseFolder:
    return releases.write(tmp_path_factory.mktemp("releases") / "ours")


def sample(source: Path, cache: Path) -> compare.Sample:
    return compare.Sample.of(dataset.read(source, cache / "datasets"), "test", cache)


def test_a_release_is_judged_as_it_tags_pictures(source: Path, ours: release.ReleaseFolder, tmp_path: Path) -> None:
    given = sample(source, tmp_path)
    engine = Predictor(ours.folder, device="cpu", threads=1)
    right = said = there = 0
    for row in given.rows:
        image = Image.open(io.BytesIO(picture(int(row["md5"], 16))))
        tags, confidences, _ = engine.predict([image])[0]
        on = {
            ours.vocabulary.names[tag]
            for tag, confidence in zip(tags, confidences, strict=True)
            if confidence >= (0.42 if ours.vocabulary.categories[tag] == "general" else 0.30)
            and ours.vocabulary.categories[tag] not in ("rating", "year")  # unknown in this data
        }
        wanted = {*row["tags_general"], *row["tags_meta"]}
        right, said, there = right + len(on & wanted), said + len(on), there + len(wanted)
    for _ in range(2):  # the second time from what was kept
        split = compare.judge(ours, given, ours.vocabulary)
        found = scores.measures(*compare.outcome(ours, split, ours.vocabulary, "balanced").counts())
        assert found["micro_f1"] == pytest.approx(2 * right / (said + there), abs=1e-3)
    assert len(list(tmp_path.glob("features-*.npy"))) == 1


def test_a_part_of_a_split_is_those_pictures(source: Path, ours: release.ReleaseFolder, tmp_path: Path) -> None:
    given = sample(source, tmp_path)
    whole = compare.judge(ours, given, ours.vocabulary).last.logits.yes
    index = np.arange(24) % 3 == 0
    parts = [compare.judge(ours, given.part(np.flatnonzero(chosen)), ours.vocabulary) for chosen in (index, ~index)]
    assert [part.pictures for part in parts] == [8, 16]
    assert (parts[0].last.logits.yes + parts[1].last.logits.yes == whole).all()


def test_of_a_tag_that_it_lacks_a_release_finds_none(source: Path, ours: release.ReleaseFolder, tmp_path: Path) -> None:
    wide = Vocabulary(
        ["new", *ours.vocabulary.names], ["meta", *ours.vocabulary.categories], [1] * (len(ours.vocabulary) + 1)
    )
    split = compare.judge(ours, sample(source, tmp_path), wide)
    narrow = compare.judge(ours, sample(source, tmp_path), ours.vocabulary)
    assert split.last.histogram.no[0, 0] == 24
    assert (split.last.histogram.yes[1:] == narrow.last.histogram.yes).all()


def test_the_command_prints_both_and_their_difference(
    source: Path, ours: release.ReleaseFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = releases.write(tmp_path / "other", seed=1)
    assert compare.main([str(ours.folder), str(other.folder), "--dataset", str(source)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| release | tags | micro F1") and "other minus ours:" in lines
    assert sum(line.startswith("| overall |") for line in lines) == 1
    assert compare.main([str(ours.folder), "--dataset", str(source), "--split", "style"]) == 1
    assert "it has train, test" in capsys.readouterr().err.replace("test, train", "train, test")
