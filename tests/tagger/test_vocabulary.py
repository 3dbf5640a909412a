from pathlib import Path

import pytest

from tagger.vocabulary import CATEGORIES, Vocabulary, VocabularyError
from tests.tagger import releases


def test_round_trip_keeps_order_and_odd_names(tmp_path: Path) -> None:
    vocabulary = Vocabulary([":d", 'say_"hi"', "ポケモン"], ["general", "meta", "copyright"], [3, 0, 12])
    vocabulary.write(tmp_path / "vocabulary.json")
    again = Vocabulary.read(tmp_path / "vocabulary.json")
    assert again == vocabulary
    assert [again.index(name) for name in again.names] == [0, 1, 2]
    assert ":d" in again
    assert "missing" not in again
    with pytest.raises(KeyError):
        again.index("missing")


def test_indices_of_a_category() -> None:
    vocabulary = releases.vocabulary()
    assert len(vocabulary) == len(releases.TAGS)
    assert [vocabulary.names[index] for index in vocabulary.indices_of("year")] == ["year_2020", "year_2021"]
    assert sum(len(vocabulary.indices_of(category)) for category in CATEGORIES) == len(vocabulary)


@pytest.mark.parametrize(
    ("names", "categories", "counts", "words"),
    [
        (["a", "b"], ["general"], [1, 1], "one category"),
        ([], [], [], "at least one tag"),
        (["a", "a"], ["general", "meta"], [1, 1], "a stands in the vocabulary twice"),
        (["a"], ["species"], [1], "the category 'species'"),
        (["a"], ["general"], [-1], "the count -1"),
        ([""], ["general"], [1], "no name"),
    ],
)
def test_a_wrong_vocabulary_is_refused(names: list, categories: list, counts: list, words: str) -> None:
    with pytest.raises(VocabularyError, match=words):
        Vocabulary(names, categories, counts)


@pytest.mark.parametrize("config", [{}, {"tags": 3}, {"tags": [{"name": "a"}]}, {"tags": ["a"]}])
def test_a_file_of_another_shape_is_refused(config: dict) -> None:
    with pytest.raises(VocabularyError, match="list of tags"):
        Vocabulary.from_config(config)
