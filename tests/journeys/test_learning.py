"""The demonstration of learning from corrections, small: coloured shapes, a family with a dark ground left out."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from gallery.models import Verdict
from tagger import release as releases
from tests.benchmarks import learning
from tests.training import made
from training import dataset, publish

SETTINGS = ("train.threads=1", "train.epochs=40", "train.batch_size=8", "train.learning_rate=3e-3")


def dark(number: int) -> dict:
    """The same shapes, negative: what the release learned of colours is wrong there."""
    row = made.row(number)
    file = io.BytesIO()
    ImageOps.invert(Image.open(io.BytesIO(row["image"]))).save(file, "PNG")
    return {**row, "image": file.getvalue(), "family": "dark"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [made.row(number) for number in range(200)]
    splits = {
        "train": rows[:90],
        "validation": rows[90:150],
        "test": rows[150:],
        "style": [dark(n) for n in range(200, 290)],
    }
    return dataset.write(tmp_path_factory.mktemp("data") / "shapes", splits, {"name": "shapes"})


@pytest.fixture(scope="module")
def start(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that never saw the family; trained in a process of its own, as DeepSpeed keeps its first group."""
    folder = tmp_path_factory.mktemp("start")
    words = [word for setting in (*made.FAST, "train.epochs=30") for word in ("--set", setting)]
    command = ["training.train", "tiny", "--dataset", source, "--run", folder / "run", *words]
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True, capture_output=True, cwd=learning.ROOT)
    publish.publish(folder / "run", folder / "shapes", "shapes", "Shapes", "CC0-1.0")
    return folder / "shapes"


@pytest.mark.django_db(transaction=True)
def test_verdicts_on_a_strange_family_teach_the_release(source: Path, start: Path, tmp_path: Path, settings) -> None:
    settings.RELEASES_DIR = tmp_path / "installed"
    pool, held, rest = learning.halves(source, "style", tmp_path)
    assert not {row["group"] for row in pool.rows} & {row["group"] for row in held.rows}
    gallery = learning.Gallery(start)
    gallery.fill(learning.pictures(pool))
    assert len(gallery.truth) == len(pool.rows)
    judge = learning.Judge(start, held, rest)
    (learned,) = learning.demonstrate(gallery, judge, start, tmp_path, ways=["review"], counts=[60], settings=SETTINGS)
    verdicts = list(Verdict.objects.select_related("tag"))
    assert len(verdicts) == 60 and all(v.answer == (v.tag.name in gallery.truth[v.post_id]) for v in verdicts)
    exported = dataset.read(tmp_path / "review-60", tmp_path / "read").splits["train"]
    assert sum(len(row["verified"]) + len(row["rejected"]) for row in dataset.labels(exported)) == 60
    assert learned.wrong > 10 and learned.posts == len(exported)
    met = releases.read(tmp_path / "release-review-60").metrics["verdicts"]
    assert met["cells"] == 60 and met["after"] > met["before"], met
    assert learned.rest_before > 80 > learned.family_before, learned  # the family is strange to the release
    assert list(learning.row(learned))[:2] == ["review", 60] and learning.summary([learned]) == {}
