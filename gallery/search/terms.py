"""What a metatag is: how its value reads, and what it asks of a post."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from gallery.profiles import Thresholds
from gallery.search.errors import nearest
from gallery.search.names import Names
from gallery.search.predicates import NOTHING, Predicate
from gallery.search.values import BadValue


@dataclass(frozen=True)
class Context:
    """What a condition may ask: tags by name, the thresholds, who looks, and whether deleted posts are read.

    `known` keeps what was worked out for this search, so that nothing is looked for twice.
    """

    names: Names
    thresholds: Thresholds
    viewer: AbstractBaseUser | AnonymousUser | None = None
    deleted: bool = False
    known: dict[Any, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Field:
    """`read` turns the text of a value into what `condition` wants, or raises BadValue.

    `words` are offered while typing, and the field itself if `offered`; `tags` says which tag names
    a value speaks of. A field of `shape` is not a condition: it orders or limits the whole list.
    """

    read: Callable[[str], Any]
    condition: Callable[[Any, Context], Predicate]
    words: tuple[str, ...] = ()
    tags: Callable[[Any], tuple[str, ...]] = field(default=lambda value: ())
    takes_tag: bool = False
    shape: bool = False
    offered: bool = True


def choice(words: dict[str, Any], value: str, unlisted: Container[str] = ()) -> Any:
    """The meaning of one word of a closed list; a mistake is told which there are, without the `unlisted` ones."""
    word = value.lower()
    if word not in words:
        listed = ", ".join(name for name in words if len(name) > 1 and name not in unlisted)
        raise BadValue(f"give one of {listed}.", nearest(word, words))
    return words[word]


def each_of(text: str, read: Callable[[str], Any]) -> list[Any]:
    """What each part of a list such as `g,s` means; the remedy for one leaves the others as they are."""
    parts, found = [part.strip() for part in text.split(",")], []
    for at, part in enumerate(parts):
        try:
            found.append(read(part))
        except BadValue as error:
            error.near = error.near and ",".join([*parts[:at], error.near, *parts[at + 1 :]])
            raise
    return found


def choices(predicates: dict[str, Predicate]) -> Field:
    return Field(partial(choice, predicates), lambda predicate, context: predicate, tuple(predicates))


def named(condition: Callable[[str, Context], Predicate], words: tuple[str, ...], absent: Container[str]) -> Field:
    """One word of a closed list, about which the condition asks the context; the `absent` ones find nothing here."""
    return Field(partial(choice, {word: word for word in words}, unlisted=absent), condition, words)


def not_here(term: str, context: Context) -> Predicate:
    """What Danbooru has and this site does not: finds nothing, and says so."""
    context.names.note(f"This site keeps nothing that {term} could find.")
    return NOTHING


def something(what: str, text: str) -> str:
    if not text:
        raise BadValue(f"give {what}")
    return text
