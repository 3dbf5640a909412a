import json
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset

from tagger.vocabulary import Vocabulary
from tests.training import made
from training import dataset
from training.config import Data
from training.dataset import DatasetError
from training.feeding import targets
from training.feeding.pictures import Source, fingerprint

TAGS = ["red", "new", "absent", "rating_general", "rating_explicit", "year_2020"]
VOCABULARY = Vocabulary(TAGS, ["general"] * 3 + ["rating"] * 2 + ["year"], [1] * 6)


def test_a_written_folder_opens_as_it_is(tmp_path: Path) -> None:
    folder = made.shapes(tmp_path / "shapes", train=250, validation=3)
    opened = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in opened.items()} == {"train": 250, "validation": 3}
    assert opened["train"][4]["image"].size == (48, 48)
    assert opened["train"][4]["tags_general"] == ["green", "square"]
    about = json.loads((folder / "dataset.json").read_text())
    assert about["counts"] == {"train": 250, "validation": 3}
    assert {"name": "flat", "category": "meta", "count": 253} in about["vocabulary"]


def test_any_split_name_is_kept(tmp_path: Path) -> None:
    splits = {name: [made.row(i)] for i, name in enumerate(("train", "test", "style", "seen"))}
    dataset.write(tmp_path / "d", splits, {})
    assert set(dataset.read(tmp_path / "d", tmp_path / "cache").splits) == set(splits)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "dataset.json").unlink(), "it has no dataset.json"),
        (lambda folder: (folder / "dataset.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "dataset.json").write_text("{}"), "is not a manabooru-dataset"),
        (lambda folder: (folder / "dataset.json").write_text("[]"), "is not a manabooru-dataset"),
        (lambda folder: next((folder / "data").glob("train*")).write_bytes(b"no"), "cannot be opened"),
        (lambda folder: next((folder / "data").glob("train*")).unlink(), "no pictures in a split named train"),
    ],
)
def test_a_broken_folder_is_one_sentence(tmp_path: Path, spoil, says: str) -> None:
    folder = made.shapes(tmp_path / "shapes", train=2, validation=2)
    spoil(folder)
    with pytest.raises(DatasetError, match=says) as error:
        dataset.read(folder, tmp_path / "cache")
    assert "\n" not in str(error.value)


def test_rows_without_a_value_are_refused_and_a_missing_picture_is_only_unreadable(tmp_path: Path) -> None:
    rows = [made.row(0), made.row(1, md5=None), made.row(2, verified=None), made.row(3, complete=None)]
    folder = dataset.write(tmp_path / "null", {"train": rows}, {"vocabulary": []})
    with pytest.raises(DatasetError, match="without a value in md5, complete, verified; write an empty"):
        dataset.read(folder, tmp_path / "cache")
    rows = [made.row(0), {**made.row(1), "image": None}]
    split = dataset.read(dataset.write(tmp_path / "few", {"train": rows}, {}), tmp_path / "cache").splits["train"]
    assert "has no picture" in Source(split, Data(size=32).preprocess()).decode(1)
    assert len(fingerprint(split, Data(size=32).preprocess())) == 16


def test_predictions_without_their_confidences_are_named() -> None:
    row = dataset.complete_row({"image": b"", "md5": "ab", "predicted_tags": ["red"], "complete": False})
    with pytest.raises(DatasetError, match="ab has 1 predicted tags and 0 confidences"):
        targets.build([row], VOCABULARY)


def known(**columns: object) -> dict[str, str]:
    """Each tag of VOCABULARY: yes, no, or ? for unknown."""
    row = dataset.complete_row({"image": b"", **columns})
    truth, sure = targets.build([row], VOCABULARY).known(np.array([0]))
    return {tag: ("yes" if t else "no") if s else "?" for tag, t, s in zip(TAGS, truth[0], sure[0], strict=True)}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"tags_general": ["red"]}, "yes no no ? ? ?"),
        ({"tags_general": ["red"], "rejected": ["red"]}, "no no no ? ? ?"),
        ({"rating": "general", "year": 2020}, "no no no yes no yes"),
        ({"rating": "general", "verified": ["rating_explicit"]}, "no no no no yes ?"),
        ({"tags_general": ["red"], "complete": False}, "? ? ? ? ? ?"),
        ({"complete": False, "verified": ["new"], "rejected": ["red"]}, "no yes ? ? ? ?"),
        ({"complete": False, "rating": "general", "verified": ["rating_general"]}, "? ? ? yes no ?"),
    ],
)
def test_what_is_known_of_each_cell(columns: dict, expected: str) -> None:
    assert " ".join(known(**columns).values()) == expected


def test_unknown_cells_lean_on_what_was_predicted() -> None:
    columns = {"complete": False, "verified": ["new"], "release": "starter"}
    judged = dataset.complete_row(
        {"image": b"", **columns, "predicted_tags": ["red", "new"], "predicted_confidences": [0.75, 0.1]}
    )
    plain = dataset.complete_row({"image": b"", "complete": False})
    values, weights = targets.build([judged, plain], VOCABULARY).batch(np.array([0, 1]), soft_weight=0.5)
    assert values[0].tolist() == [0.75, 1, 0, 0, 0, 0]
    assert weights[0].tolist() == [0.5, 1, 0.5, 0.5, 0.5, 0.5]
    assert not weights[1].any()


def test_a_vocabulary_grows_at_its_end(tmp_path: Path) -> None:
    rows = [dataset.complete_row({"image": b"", "complete": False, "verified": ["red", "lamp"]})] * 2
    grown = targets.grow_vocabulary(VOCABULARY, rows, {"lamp": "meta"}, Data(minimum_count=2))
    assert grown.names == [*TAGS, "lamp"]
    assert grown.categories[-1] == "meta" and grown.counts[0] == 3 and grown.counts[-1] == 2
    assert len(targets.grow_vocabulary(VOCABULARY, rows, {}, Data(minimum_count=3))) == len(TAGS)
