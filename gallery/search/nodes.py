"""The tree of a search, and how it prints back to text.

A tree is in normal form: no group has fewer than two members, or a member of its own kind unless that
has a `profile:` of its own; nothing is negated twice. `to_text` prints a tree so that parsing the text
gives an equal tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from gallery.search.fields import FIELDS, is_metatag


@dataclass(frozen=True)
class Leaf:
    """One term; `position` and `length` tell where it stands in the text and don't count in ==."""

    position: int = field(default=0, compare=False, kw_only=True)
    length: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True)
class Tag(Leaf):
    """A tag that is on for the profile."""

    name: str


@dataclass(frozen=True)
class Wildcard(Leaf):
    """Any tag whose name matches; `*` is any run of characters."""

    pattern: str


@dataclass(frozen=True)
class Metatag(Leaf):
    """`name:value`, the name being one of those in the table of fields."""

    name: str
    value: str


@dataclass(frozen=True)
class Not:
    child: Node


@dataclass(frozen=True)
class And:
    """All of the children; with none, every post: what the empty text means."""

    children: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    children: tuple[Node, ...]


WILDCARD_TERMS = 5  # as many terms a wildcard counts: its tags have to be looked for first
Node = Tag | Wildcard | Metatag | Not | And | Or
EVERYTHING = And(())


def all_of(nodes: Iterable[Node]) -> Node:
    """The conjunction in normal form."""
    children = _flat(nodes, And)
    return children[0] if len(children) == 1 else And(children)


def any_of(nodes: Iterable[Node]) -> Node:
    """The disjunction in normal form; there must be at least one node."""
    children = _flat(nodes, Or)
    return children[0] if len(children) == 1 else Or(children)


def none_of(node: Node) -> Node:
    """The negation in normal form."""
    return node.child if isinstance(node, Not) else Not(node)


def _flat(nodes: Iterable[Node], kind: type[And] | type[Or]) -> tuple[Node, ...]:
    return tuple(
        inner
        for node in nodes
        for inner in (node.children if isinstance(node, kind) and not any(map(is_profile, node.children)) else (node,))
    )


def is_profile(node: Node) -> bool:
    """Whether this says whose thresholds count for the terms beside it."""
    return isinstance(node, Metatag) and node.name == "profile"


def inside(node: Node) -> tuple[Node, ...]:
    """What a node is made of; nothing, for a term."""
    if isinstance(node, Not):
        return (node.child,)
    return node.children if isinstance(node, And | Or) else ()


def leaves(node: Node) -> Iterator[Leaf]:
    """Every term, from left to right."""
    if isinstance(node, Leaf):
        yield node
    for child in inside(node):
        yield from leaves(child)


def terms(node: Node) -> int:
    """How many terms a tree has, as limits count them.

    An order, a limit and a seed are none, of which there is one each at most: those of a list's links come on top.
    """
    return sum(WILDCARD_TERMS if isinstance(leaf, Wildcard) else not is_shape(leaf) for leaf in leaves(node))


def is_shape(node: Node) -> bool:
    """Whether it orders or limits the whole list, and is no condition."""
    return isinstance(node, Metatag) and FIELDS[node.name].shape


def rewritten(node: Node, change: Callable[[Leaf], Node]) -> Node:
    """The tree with each term changed, in normal form."""
    if isinstance(node, Not):
        return none_of(rewritten(node.child, change))
    if isinstance(node, And | Or):
        return (all_of if isinstance(node, And) else any_of)([rewritten(child, change) for child in node.children])
    return change(node)


def top(node: Node) -> tuple[Node, ...]:
    """The terms and groups that must all hold."""
    return node.children if isinstance(node, And) else (node,)


def to_text(node: Node) -> str:
    """The text of a tree: `a (b or c) -(d e) rating:g`."""
    if isinstance(node, Or):
        return " or ".join(to_text(child) for child in node.children)
    if isinstance(node, And):
        return " ".join(_grouped(child) for child in node.children)
    if isinstance(node, Not):
        return "-" + _grouped(node.child)
    if isinstance(node, Metatag):
        return f"{node.name}:{quoted(node.value)}"
    if isinstance(node, Wildcard):
        return node.pattern if "*" in node.pattern and _is_plain(node.pattern) else f"wildcard:{quoted(node.pattern)}"
    return tag_text(node.name)


def _grouped(node: Node) -> str:
    text = to_text(node)
    if not isinstance(node, And | Or):
        return text
    # A closing parenthesis right behind saber_(* would be taken for that term's own.
    last = text.rpartition(" ")[2]
    return f"({text} )" if last.count("(") > last.count(")") else f"({text})"


def tag_text(name: str) -> str:
    """How a tag is written in a search: its name, or `tag:"name"` when that would mean something else."""
    plain = "*" not in name and name not in ("and", "or") and _is_plain(name)
    return name if plain else f"tag:{quoted(name)}"


def _is_plain(word: str) -> bool:
    """Whether a word is one term as it stands, alone and before the end of a group."""
    return (
        not re.match(r"[-~()]", word)
        and not re.search(r"\s", word)
        and word.count(")") <= word.count("(")
        and not is_metatag(word.partition(":")[0])
    )


def quoted(value: str) -> str:
    """A metatag's value, in quotation marks unless it is one plain word."""
    if value and not re.search(r"[\s\"'\\()]", value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
