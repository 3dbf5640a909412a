"""Which of a few posts some searches find: asked of those posts alone, all searches in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gallery.profiles import Thresholds
from gallery.search.compiler import by_own_names, resolve, tag_names
from gallery.search.errors import SearchError
from gallery.search.names import Names
from gallery.search.nodes import Node
from gallery.search.planner import Way
from gallery.search.predicates import Predicate
from gallery.search.running import Planned, run
from gallery.search.scopes import Viewer, expanded, scoped
from gallery.search.terms import Context
from gallery.search.values import Sql

_TIMEOUT_MS = 500


class Conditions(NamedTuple):
    """What each of some trees asks of a post, or why it can't be asked; the trees by the tags' own names; and notes
    about names that nothing is called.
    """

    predicates: list[Predicate | SearchError]
    trees: list[Node]
    notes: list[str]


def conditions(trees: Sequence[Node], thresholds: Thresholds, *, viewer: Viewer = None) -> Conditions:
    """Trees without an order or limit, resolved; their names are read together."""
    names = Names()
    whole = [expanded(tree, viewer, names.note) for tree in trees]
    names.add({name for tree in whole for name in tag_names(tree)})
    context = Context(names, thresholds, viewer)
    found: list[Predicate | SearchError] = []
    for tree in whole:
        try:
            found.append(resolve(tree, scoped(tree, context)))
        except SearchError as error:
            found.append(error)
    return Conditions(found, [by_own_names(tree, names) for tree in trees], names.notes)


def without_aliases(tree: Node) -> Node:
    """A tree by the tags' own names, which are looked up."""
    return by_own_names(tree, Names.load(set(tag_names(tree))).quietly())


def matching(predicates: Sequence[Predicate], post_ids: Sequence[int]) -> list[set[int]]:
    """Those of the posts for which each predicate holds; raises SearchTimeout."""
    if not predicates or not post_ids:
        return [set() for _ in predicates]
    parts = [predicate.sql() for predicate in predicates]
    statement = Sql(
        f"select i.post_id, {', '.join(part.text for part in parts)} from tag_index i join post p on p.id = i.post_id"
        " where i.post_id = any(%s)",
        (*(value for part in parts for value in part.params), tuple(post_ids)),
    )
    rows = run(Planned(statement, Way.FREE, True), _TIMEOUT_MS)
    return [{row[0] for row in rows if row[place]} for place in range(1, len(parts) + 1)]
