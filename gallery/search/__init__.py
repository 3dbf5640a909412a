"""Search: text -> tree -> predicate -> plan -> page.

`parser` reads Danbooru's grammar into the tree of `nodes`; `fields` knows the metatags; `compiler`
resolves names and thresholds into `predicates` and runs them; `planner` chooses the way from the
`sample`. A bare tag means *on for the profile* whose thresholds are given.
"""

from gallery.search.companions import RelatedTag, RelatedTags, related
from gallery.search.counts import Count, count, count_of, count_texts
from gallery.search.errors import PageError, SearchError, SearchTimeout
from gallery.search.listing import MAX_PAGE, Page, beside, find, matching_ids, neighbours
from gallery.search.matching import conditions, matching, without_aliases
from gallery.search.nodes import Node, tag_text, to_text
from gallery.search.parser import parse
from gallery.search.remedies import Remedy, remedies
from gallery.search.scopes import is_personal, without_shape
from gallery.search.sidebar import page_tags
from gallery.search.suggest import Suggestion, suggest

__all__ = [
    "MAX_PAGE",
    "conditions",
    "matching",
    "PageError",
    "Remedy",
    "SearchTimeout",
    "beside",
    "RelatedTag",
    "RelatedTags",
    "related",
    "remedies",
    "Count",
    "Node",
    "Page",
    "SearchError",
    "Suggestion",
    "count",
    "count_of",
    "count_texts",
    "find",
    "is_personal",
    "matching_ids",
    "neighbours",
    "page_tags",
    "parse",
    "suggest",
    "tag_text",
    "to_text",
    "without_aliases",
    "without_shape",
]
