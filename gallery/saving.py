"""Searches that members keep under names, and how many posts each found since it was last seen."""

from __future__ import annotations

from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import IntegrityError, transaction

from gallery import search
from gallery.models import SavedSearch, typed_name
from gallery.profiles import Thresholds
from gallery.search import nodes

User = AbstractBaseUser | AnonymousUser
_NAME_LENGTH = 60
_RESERVED = ("all", "any", "none")


class SavingError(ValueError):
    """A search that can't be kept so; the text is one sentence for the person."""


class News(NamedTuple):
    """A saved search and how many posts it finds that are newer than what was seen of it."""

    saved: SavedSearch
    count: search.Count
    mistake: str = ""


def of(user: User) -> list[SavedSearch]:
    """A member's saved searches by name; none of a visitor's."""
    return SavedSearch.of(user)


def save(user: User, query: str, name: str, thresholds: Thresholds) -> SavedSearch:
    """Keep a search; without a name it is called after its text. Raises SavingError."""
    text = _readable(query)
    if SavedSearch.objects.filter(owner_id=user.pk).count() >= SavedSearch.MOST:
        raise SavingError(f"You keep {SavedSearch.MOST} searches already: delete one first.")
    row = SavedSearch(owner_id=user.pk, query=text, name=_name(name or text[:_NAME_LENGTH]))
    row.seen = _newest(text, thresholds, user)
    return _stored(row)


def change(row: SavedSearch, query: str, name: str, thresholds: Thresholds) -> SavedSearch:
    """Rename a saved search or mend its text. Raises SavingError."""
    text = _readable(query)
    if text != row.query:
        row.query, row.seen = text, _newest(text, thresholds, row.owner)
    row.name = _name(name)
    return _stored(row)


def news(user: User, thresholds: Thresholds) -> list[News]:
    """Every saved search of a member with what is new in it, all counted together."""
    rows = of(user)
    counts = search.count_texts([_newer(row) for row in rows], thresholds, viewer=user)
    return [
        News(row, search.Count(0, True), count.message) if isinstance(count, search.SearchError) else News(row, count)
        for row, count in zip(rows, counts, strict=True)
    ]


def _newer(row: SavedSearch) -> str:
    """The search for what a saved one finds that is newer than what was seen; itself where it can't be read."""
    try:
        conditions = search.without_shape(search.parse(row.query))
    except search.SearchError:
        return row.query
    return nodes.to_text(nodes.all_of([conditions, nodes.Metatag("id", f">{row.seen}")]))


def mark_seen(rows: list[SavedSearch], page: search.Page, thresholds: Thresholds, user: User) -> None:
    """The first page of these searches was shown: what they find now is no news any more.

    In another order than newest first the page doesn't show which post is the newest.
    """
    if not rows or not page.post_ids:
        return
    for row in rows:
        newest = max(page.post_ids) if page.by_id else _newest(row.query, thresholds, user)
        if row.seen < newest:
            SavedSearch.objects.filter(pk=row.pk, seen__lt=newest).update(seen=newest)


def shown_by(rows: list[SavedSearch], text: str) -> list[SavedSearch]:
    """Those of the rows that a search shows: the same text, or `search:` and their name."""
    tree = search.parse(text)
    printed = search.to_text(tree)
    name = typed_name(tree.value) if isinstance(tree, nodes.Metatag) and tree.name == "search" else ""
    return [row for row in rows if row.query == printed or row.name == name]


def _readable(query: str) -> str:
    """The search as it prints."""
    try:
        tree = search.parse(query)
    except search.SearchError as error:
        raise SavingError(f"This search can't be read. {error.message}") from None
    if tree == nodes.EVERYTHING:
        raise SavingError("There is no search to save: type one first.")
    if any(isinstance(leaf, nodes.Metatag) and leaf.name == "search" for leaf in nodes.leaves(tree)):
        raise SavingError("A saved search can't ask for saved searches: write out what it asks.")
    return search.to_text(tree)


def _name(text: str) -> str:
    name = typed_name(text)
    if not name or not name.isprintable() or '"' in name or "'" in name:
        raise SavingError("Give the search a name without quotation marks.")
    if len(name) > _NAME_LENGTH:
        raise SavingError(f"The name is longer than {_NAME_LENGTH} characters: shorten it.")
    if name in _RESERVED:
        raise SavingError(f"search:{name} has a meaning of its own: choose another name.")
    return name


def _newest(text: str, thresholds: Thresholds, user: User) -> int:
    """The newest post that a search finds now; 0 when there is none, or it takes too long."""
    conditions = search.to_text(search.without_shape(search.parse(text)))
    try:
        return max(search.find(conditions, thresholds, limit=1, viewer=user).post_ids, default=0)
    except search.SearchError:
        return 0


def _stored(row: SavedSearch) -> SavedSearch:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise SavingError(f"You keep this search as {row.name} already.") from None
    return row
