"""What would make an empty search find something: a term less, or a profile that lets more tags count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from django.contrib.auth.models import AnonymousUser

from gallery import profiles
from gallery.profiles import Thresholds
from gallery.search.compiler import Query, prepare, tag_names
from gallery.search.counts import Count, count_each
from gallery.search.errors import SearchError
from gallery.search.names import Names
from gallery.search.nodes import Metatag, Node, all_of, is_profile, is_shape, to_text, top
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


def remedies(text: str, thresholds: Thresholds, *, viewer: Viewer = None, names: Names | None = None) -> list[Remedy]:
    """Searches near to one that finds nothing, the one that finds most first; raises SearchError.

    `names` are those of the search, if they are read already.
    """
    tree, names = parse(text), (names or Names()).quietly()
    names.add(tag_names(tree))
    terms = [node for node in top(tree) if not is_shape(node)]
    terms = terms[:_TRIED] if len(terms) > 1 else []
    fewer = [Remedy(to_text(all_of(n for n in top(tree) if n is not term)), without=to_text(term)) for term in terms]
    single = [Remedy(to_text(term), alone=to_text(term)) for term in terms if not is_profile(term)]
    wider = _with_another_profile(tree, thresholds, viewer)
    found = _counted([*fewer, *wider], thresholds, viewer, names) or _counted(single, thresholds, viewer, names)
    return sorted(found, key=lambda each: -each.count.number)


def _with_another_profile(tree: Node, thresholds: Thresholds, viewer: Viewer) -> Iterator[Remedy]:
    """The site's profile that lets the most tags count, if it is another one."""
    offered = profiles.choices(viewer or AnonymousUser())
    shipped = [profile for profile in offered if profile.owner_id is None]
    if not shipped or any(map(is_profile, top(tree))):
        return
    widest = min(shipped, key=lambda profile: (sum(profile.by_category.values()), profile.overall))
    if profiles.resolve(widest) != thresholds:
        yield Remedy(to_text(all_of([*top(tree), Metatag("profile", widest.key)])), profile=widest.name)


def _counted(remedies: Iterable[Remedy], thresholds: Thresholds, viewer: Viewer, names: Names) -> list[Remedy]:
    """Those that find something, with how much."""
    asked: list[tuple[Remedy, Query]] = []
    for remedy in remedies:
        with suppress(SearchError):
            asked.append((remedy, prepare(remedy.text, thresholds, viewer=viewer, names=names)))
    counts = count_each([query for _, query in asked])
    return [remedy._replace(count=found) for (remedy, _), found in zip(asked, counts, strict=True) if found.number]
