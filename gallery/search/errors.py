from __future__ import annotations

import difflib
from collections.abc import Iterable


class SearchError(ValueError):
    """A search that can't be answered: one sentence with the remedy, and where in the text it went wrong.

    `position` and `length` count characters of the text as typed.
    """

    def __init__(self, message: str, position: int = 0, length: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.length = length


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was most likely meant to be."""
    found = difflib.get_close_matches(word.lower(), list(known), 1, 0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ " Did you mean x?" or nothing, to put behind a sentence."""
    name = nearest(word, known)
    return f" Did you mean {name}?" if name else ""
