"""What would make an empty search find something: a term less, or a profile that lets more tags count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from gallery import profiles
from gallery.profiles import Thresholds
from gallery.search.counts import Count, count
from gallery.search.errors import SearchError
from gallery.search.fields import FIELDS
from gallery.search.nodes import Metatag, Node, all_of, is_profile, to_text, top
from gallery.search.parser import parse
from gallery.search.scopes import Viewer

_TRIED = 8  # terms that are left out one by one


class Remedy(NamedTuple):
    """The search to try and what it finds: without one term, with one alone, or by another profile."""

    text: str
    count: Count = Count(0, True)
    without: str = ""
    alone: str = ""
    profile: str = ""


def remedies(text: str, thresholds: Thresholds, *, viewer: Viewer = None) -> list[Remedy]:
    """Searches near to one that finds nothing, the one that finds most first; raises SearchError."""
    tree = parse(text)
    terms = [node for node in top(tree) if not (isinstance(node, Metatag) and FIELDS[node.name].shape)]
    terms = terms[:_TRIED] if len(terms) > 1 else []
    fewer = [Remedy(to_text(all_of(n for n in top(tree) if n is not term)), without=to_text(term)) for term in terms]
    single = [Remedy(to_text(term), alone=to_text(term)) for term in terms if not is_profile(term)]
    found = [
        *_counted(fewer, thresholds, viewer),
        *_counted(_with_another_profile(tree, thresholds), thresholds, viewer),
    ]
    found = found or list(_counted(single, thresholds, viewer))
    return sorted(found, key=lambda each: -each.count.number)


def _with_another_profile(tree: Node, thresholds: Thresholds) -> Iterator[Remedy]:
    """The site's profile that lets the most tags count, if it is another one."""
    shipped = profiles.site_profiles()
    if not shipped or any(map(is_profile, top(tree))):
        return
    widest = min(shipped, key=lambda profile: (sum(profile.by_category.values()), profile.overall))
    if profiles.resolve(widest) != thresholds:
        yield Remedy(to_text(all_of([*top(tree), Metatag("profile", widest.key)])), profile=widest.name)


def _counted(remedies: Iterable[Remedy], thresholds: Thresholds, viewer: Viewer) -> Iterator[Remedy]:
    """Those that find something, with how much."""
    for remedy in remedies:
        with suppress(SearchError):
            found = count(remedy.text, thresholds, viewer=viewer)
            if found.number:
                yield remedy._replace(count=found)
