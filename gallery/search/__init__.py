"""Search: text -> tree -> predicate -> plan -> page.

`parser` reads Danbooru's grammar into the tree of `nodes`; `fields` knows the metatags; `compiler`
resolves names and thresholds into `predicates` and runs them; `planner` chooses the way from the
`sample`. A bare tag means *on for the profile* whose thresholds are given.
"""

from gallery.search.counts import Count, count
from gallery.search.errors import SearchError
from gallery.search.listing import Page, find, matching_ids, neighbours
from gallery.search.nodes import Node, tag_text, to_text
from gallery.search.parser import parse

__all__ = [
    "Count",
    "Node",
    "Page",
    "SearchError",
    "count",
    "find",
    "matching_ids",
    "neighbours",
    "parse",
    "tag_text",
    "to_text",
]
