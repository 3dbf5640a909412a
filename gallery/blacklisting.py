"""What a member would rather not meet: lines of search expressions, and which posts of a page they are about.

Lines are asked of the posts of one page when it is read. Searches and their counts stay whole: what a page hides, it
counts and shows on request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser
from django.core.cache import cache

from gallery import search
from gallery.models import Preference
from gallery.profiles import Thresholds
from gallery.search import nodes
from gallery.search.predicates import Predicate

MOST = 100  # lines
LONGEST = 20_000  # characters
_TERMS = 400
_KEPT_SECONDS = 60  # a new alias takes so long to count


class Rule(NamedTuple):
    """A readable line. `wanted` are its terms that a post must have: who searches for all of them wants to see it.

    They go by the tags' own names once it is resolved to its `predicate`.
    """

    key: str
    text: str
    wanted: frozenset[nodes.Node]
    predicate: Predicate | None = None


class Mistake(NamedTuple):
    """A line that can't be read, and why."""

    line: int
    text: str
    error: search.SearchError


class Match(NamedTuple):
    """A rule and the posts of a page that it is about."""

    rule: Rule
    post_ids: frozenset[int]


class Matches(NamedTuple):
    """What the rules are about on a page; `problems` are sentences about rules that could not be asked."""

    found: list[Match]
    problems: list[str]


def mistakes(text: str) -> list[Mistake]:
    """Lines of a blacklist that can't be kept so."""
    found, terms = [], 0
    for number, line in enumerate(_lines(text), 1):
        if not (rule := _said(line)):
            continue
        try:
            terms += nodes.terms(_condition(rule))
        except search.SearchError as error:
            found.append(Mistake(number, rule, error))
    if len(list(filter(_said, _lines(text)))) > MOST or terms > _TERMS or len(text) > LONGEST:
        sentence = f"A blacklist has at most {MOST} lines with {_TERMS} terms: shorten it."
        found.append(Mistake(0, "", search.SearchError(sentence)))
    return found


def advice(text: str, thresholds: Thresholds, user: AbstractBaseUser) -> list[str]:
    """Sentences about names in a readable blacklist that nothing is called."""
    trees = [_condition(rule) for line in _lines(text) if (rule := _said(line))]
    found = search.conditions(trees, thresholds, viewer=user)
    return [*found.notes, *(each.message for each in found.predicates if isinstance(each, search.SearchError))]


def store(user: AbstractBaseUser, text: str) -> None:
    """Keep a blacklist without mistakes."""
    kept = "\n".join(_lines(text)).strip()
    Preference.objects.update_or_create(user_id=user.pk, defaults={"blacklist": kept})


def rules(text: str) -> list[Rule]:
    """The readable lines, each once."""
    found: dict[str, Rule] = {}
    for line in _lines(text):
        try:
            if said := _said(line):
                tree = _condition(said)
                key = hashlib.sha256(said.encode()).hexdigest()[:12]
                found[key] = Rule(key, said, _wanted(tree))
        except search.SearchError:  # it was readable when it was stored
            continue
    return list(found.values())


def matches(text: str, post_ids: Sequence[int], thresholds: Thresholds, user: AbstractBaseUser) -> Matches:
    """Which of these posts each rule of a blacklist is about; rules about none of them are left out."""
    if not text or not post_ids:
        return Matches([], [])
    asked, problems = _resolved(text, thresholds, user)
    try:
        found = search.matching([rule.predicate for rule in asked], post_ids)
    except search.SearchTimeout:
        return Matches([], ["Your blacklist takes too long to look through, so nothing is hidden: shorten it."])
    return Matches([Match(rule, frozenset(ids)) for rule, ids in zip(asked, found, strict=True) if ids], problems)


def _resolved(text: str, thresholds: Thresholds, user: AbstractBaseUser) -> tuple[list[Rule], list[str]]:
    """The rules as the database is asked them; kept for a minute, so that a page asks only about its posts."""
    asked = repr((text, user.pk, thresholds.overall, sorted(thresholds.by_category.items()), thresholds.by_tag))
    key = f"blacklist:{hashlib.sha256(asked.encode()).hexdigest()}"
    if (kept := cache.get(key)) is not None:
        return kept
    every = rules(text)
    found = search.conditions([_condition(rule.text) for rule in every], thresholds, viewer=user)
    resolved, problems = [], []
    for rule, predicate, tree in zip(every, found.predicates, found.trees, strict=True):
        if isinstance(predicate, search.SearchError):
            problems.append(f"“{rule.text}” on your blacklist can't be asked. {predicate.message}")
        else:
            resolved.append(rule._replace(predicate=predicate, wanted=_wanted(tree)))
    cache.set(key, (resolved, problems), _KEPT_SECONDS)
    return resolved, problems


def is_asked_for(rule: Rule, tree: nodes.Node) -> bool:
    """Whether a search, by the tags' own names, names what the rule is about."""
    return bool(rule.wanted) and rule.wanted <= set(nodes.top(tree))


def _wanted(tree: nodes.Node) -> frozenset[nodes.Node]:
    return frozenset(node for node in nodes.top(tree) if not isinstance(node, nodes.Not))


def hidden(found: Iterable[Match], shown: Iterable[str]) -> set[int]:
    """Posts of rules that are not shown."""
    keys = set(shown)
    return {post_id for match in found if match.rule.key not in keys for post_id in match.post_ids}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def _said(line: str) -> str:
    """A line without remarks."""
    return "" if line.startswith("#") else line


def _condition(line: str) -> nodes.Node:
    """The tree of a line; raises SearchError."""
    tree = search.parse(line)
    kept = nodes.top(search.without_shape(tree))
    if shape := [node for node in nodes.top(tree) if node not in kept]:
        sentence = f"{shape[0].name}: is about a whole list: a blacklist has no use for it."
        raise search.SearchError(sentence, shape[0].position, shape[0].length)
    return tree
