"""A release's tags in the order of the model's outputs.

`vocabulary.json`: {"tags": [{"name": "1girl", "category": "general", "count": 123}, ...]}; the position is the index,
the count is how many training pictures carried the tag. Ratings are rating_general, rating_sensitive,
rating_questionable and rating_explicit; years are year_2021.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

CATEGORIES = ("general", "artist", "copyright", "character", "meta", "rating", "year")


class VocabularyError(ValueError):
    """A sentence saying which tag is wrong."""


@dataclass(frozen=True)
class Vocabulary:
    names: list[str]
    categories: list[str]
    counts: list[int]

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.categories) == len(self.counts):
            raise VocabularyError("A vocabulary needs one category and one count for each name.")
        if not self.names:
            raise VocabularyError("A vocabulary needs at least one tag.")
        for index, (name, category, count) in enumerate(zip(self.names, self.categories, self.counts, strict=True)):
            if not isinstance(name, str) or not name:
                raise VocabularyError(f"Tag {index} has no name.")
            if category not in CATEGORIES:
                raise VocabularyError(f"Tag {name} has the category {category!r}; use one of {', '.join(CATEGORIES)}.")
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise VocabularyError(f"Tag {name} has the count {count!r}; it must be a whole number of at least 0.")
        if len(self._positions) != len(self.names):
            twice = next(name for index, name in enumerate(self.names) if self._positions[name] != index)
            raise VocabularyError(f"Tag {twice} stands in the vocabulary twice.")

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def category_codes(self) -> np.ndarray:
        """Position in CATEGORIES of each tag's category, int8 [tags]."""
        codes = {category: code for code, category in enumerate(CATEGORIES)}
        return np.array([codes[category] for category in self.categories], dtype=np.int8)

    def index(self, name: str) -> int:
        """Where a tag stands; KeyError when the vocabulary lacks it."""
        return self._positions[name]

    def indices_of(self, category: str) -> np.ndarray:
        """Indices of a category's tags, ascending."""
        return np.flatnonzero(self.category_codes == CATEGORIES.index(category))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Vocabulary":
        try:
            tags = [(tag["name"], tag["category"], tag["count"]) for tag in config["tags"]]
        except (KeyError, TypeError) as error:
            raise VocabularyError("A vocabulary is a list of tags, each with name, category and count.") from error
        return cls([tag[0] for tag in tags], [tag[1] for tag in tags], [tag[2] for tag in tags])

    def to_config(self) -> dict[str, Any]:
        rows = zip(self.names, self.categories, self.counts, strict=True)
        return {"tags": [{"name": name, "category": category, "count": count} for name, category, count in rows]}

    @classmethod
    def read(cls, file: Path | str) -> "Vocabulary":
        return cls.from_config(json.loads(Path(file).read_text("utf-8")))

    def write(self, file: Path | str) -> None:
        """One tag a line, so that two vocabularies can be compared by eye."""
        lines = ",\n".join(json.dumps(tag, ensure_ascii=False) for tag in self.to_config()["tags"])
        Path(file).write_text('{"tags": [\n' + lines + "\n]}\n", "utf-8")
