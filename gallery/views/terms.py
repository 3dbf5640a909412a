"""Tags beside a search, and the searches that their links lead to."""

from __future__ import annotations

from dataclasses import dataclass

from gallery import search
from gallery.search import nodes


@dataclass(frozen=True)
class Row:
    """A tag of the sidebar: its count, or in what part of the search's posts it is."""

    name: str
    category: int
    count: int | None
    share: float | None
    alone: str
    narrowed: str
    without: str


def row_of(tree: nodes.Node, name: str, category: int, count: int | None = None, share: float | None = None) -> Row:
    """The search with the tag and without it; what it said of the tag before is replaced."""
    term = nodes.Tag(name)
    kept = [node for node in nodes.top(tree) if node not in (term, nodes.Not(term))]
    return Row(
        name=name,
        category=category,
        count=count,
        share=share,
        alone=search.to_text(term),
        narrowed=search.to_text(nodes.all_of([*kept, term])),
        without=search.to_text(nodes.all_of([*kept, nodes.none_of(term)])),
    )
