"""What would make an empty search find something: a term less, or a profile that lets more tags count."""

from __future__ import annotations

from collections.abc import Iterator
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
    """The search to try, what it leaves out or adds, and what it finds."""

    text: str
    without: str
    profile: str
    count: Count


def remedies(text: str, thresholds: Thresholds, *, viewer: Viewer = None) -> list[Remedy]:
    """Searches near to one that finds nothing, the one that finds most first; raises SearchError."""
    tree = parse(text)
    found = [*_with_less(tree, thresholds, viewer), *_with_another_profile(tree, thresholds, viewer)]
    return sorted((each for each in found if each.count.number), key=lambda each: -each.count.number)


def _with_less(tree: Node, thresholds: Thresholds, viewer: Viewer) -> Iterator[Remedy]:
    terms = [node for node in top(tree) if not (isinstance(node, Metatag) and FIELDS[node.name].shape)]
    if len(terms) < 2:
        return
    for term in terms[:_TRIED]:
        rest = to_text(all_of(node for node in top(tree) if node is not term))
        yield from _counted(Remedy(rest, to_text(term), "", Count(0, True)), thresholds, viewer)


def _with_another_profile(tree: Node, thresholds: Thresholds, viewer: Viewer) -> Iterator[Remedy]:
    """The site's profile that lets the most tags count, if it is another one."""
    shipped = profiles.site_profiles()
    if not shipped or any(map(is_profile, top(tree))):
        return
    widest = min(shipped, key=lambda profile: (sum(profile.by_category.values()), profile.overall))
    if profiles.resolve(widest) != thresholds:
        text = to_text(all_of([*top(tree), Metatag("profile", widest.key)]))
        yield from _counted(Remedy(text, "", widest.name, Count(0, True)), thresholds, viewer)


def _counted(remedy: Remedy, thresholds: Thresholds, viewer: Viewer) -> Iterator[Remedy]:
    try:
        yield remedy._replace(count=count(remedy.text, thresholds, viewer=viewer))
    except SearchError:
        return
