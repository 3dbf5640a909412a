from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple


class Fix(NamedTuple):
    """What would mend a text: `length` characters at `position` become `text`."""

    position: int
    length: int
    text: str

    def applied(self, text: str) -> str:
        return (text[: self.position] + self.text + text[self.position + self.length :]).strip()


class SearchError(ValueError):
    """A search that can't be answered: one sentence with the remedy, and where in the text it went wrong.

    `position` and `length` count characters of the text as typed. `fix` is there when one change is
    the likely remedy.
    """

    def __init__(self, message: str, position: int = 0, length: int = 0, fix: Fix | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.length = length
        self.fix = fix


class SearchTimeout(SearchError):
    """A search that was given up because it took too long: its text is right."""


class PageError(SearchError):
    """A page of a search that can't be shown; the search itself is right."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was most likely meant to be."""
    written = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), written, 1, 0.6)
    return written[found[0]] if found else None


def did_you_mean(near: str | None) -> str:
    """ " Did you mean x?" or nothing, to put behind a sentence."""
    return f" Did you mean {near}?" if near else ""
