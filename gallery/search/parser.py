"""Danbooru's search grammar.

    search  = [ or ]
    or      = and { "or" and }
    and     = list { "and" list }
    list    = factor { factor }              factors marked "~" are joined into one "or"
    factor  = { "-" | "~" } expression
    expression = "(" or ")" | metatag | wildcard | tag
    metatag = name ":" value                 a name that is no metatag makes it part of a tag: re:zero
    value   = '"' { any | '\\"' } '"' | "'" { any | "\\'" } "'" | { any but space | '\\ ' }
    wildcard = tag with "*" in it            or wildcard:value, which can hold what ends a term
    tag     = { any but space }

A closing parenthesis at the end of a tag or bare value belongs to it as long as its own
parentheses balance: `(saber_(fate))` is a group of `saber_(fate)`.
"""

from __future__ import annotations

import re
import unicodedata

from gallery.search.errors import Fix, SearchError
from gallery.search.fields import FIELDS
from gallery.search.nodes import (
    EVERYTHING,
    WILDCARD_TERMS,
    And,
    Leaf,
    Metatag,
    Node,
    Or,
    Tag,
    Wildcard,
    all_of,
    any_of,
    inside,
    is_profile,
    is_shape,
    leaves,
    none_of,
    terms,
)
from gallery.search.values import BadValue

MAX_LENGTH = 4000
MAX_TERMS = 100
MAX_DEPTH = 20

_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"\S+")
_NAME = re.compile(r"([A-Za-z0-9_]+):")
_QUOTED = re.compile(r"""(["'])((?:\\.|(?!\1)[^\\])*)\1""", re.DOTALL)
_BARE = re.compile(r"(?:\\ |\S)*")
_DANGLING = re.compile(r"(?:\s+(?:and|or)|(?<![^\s(])[-~]+)?\s*\Z", re.IGNORECASE)
_UNTYPABLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f\ud800-\udfff]")


def parse(text: str) -> Node:
    """The tree of a search; raises SearchError. The empty text means every post."""
    _check_length(text)
    tree = _Parser(text).search()
    _check_terms(tree)
    _check_shape(tree)
    _check_profiles(tree)
    return tree


def _check_length(text: str) -> None:
    if (extra := len(text) - MAX_LENGTH) > 0:
        raise SearchError(f"The search is longer than {MAX_LENGTH:,} characters: shorten it.", MAX_LENGTH, extra)
    if match := _UNTYPABLE.search(text):
        raise SearchError(
            "The search has an unprintable character here: remove it.", match.start(), 1, Fix(match.start(), 1, "")
        )


def _check_terms(tree: Node) -> None:
    if terms(tree) <= MAX_TERMS:
        return
    number, note = 0, ""
    for leaf in leaves(tree):
        number += terms(leaf)
        note = f", as which each wildcard counts {WILDCARD_TERMS} times" if isinstance(leaf, Wildcard) else note
        if number > MAX_TERMS:
            sentence = f"The search has more than {MAX_TERMS} terms{note}: take some out."
            raise SearchError(sentence, leaf.position, leaf.length)


def _check_shape(tree: Node) -> None:
    """`order:`, `limit:`, `random:` and its seed are about the whole list: once each, and at the top."""
    top = tree.children if not isinstance(tree, Or | Leaf) and hasattr(tree, "children") else (tree,)
    seen: set[str] = set()
    for leaf in leaves(tree):
        if not is_shape(leaf):
            continue
        if not any(leaf is node for node in top):
            raise SearchError(
                f"{leaf.name}: is about the whole list: put it outside of groups, and of - and or.",
                leaf.position,
                leaf.length,
            )
        if leaf.name in seen:
            raise _twice(leaf)
        seen.add(leaf.name)


def _twice(leaf: Metatag) -> SearchError:
    again = Fix(leaf.position, leaf.length, "")
    return SearchError(f"{leaf.name}: stands twice: keep one.", leaf.position, leaf.length, again)


def _check_profiles(node: Node, beside: bool = True) -> None:
    """`profile:` is about the terms beside it: once in the search, and once in each group."""
    if isinstance(node, Metatag) and node.name == "profile" and not beside:
        raise SearchError(
            "profile: says whose thresholds count for the terms beside it: it can't be negated or an alternative.",
            node.position,
            node.length,
        )
    found = [child for child in node.children if is_profile(child)] if isinstance(node, And) else []
    if len(found) > 1:
        raise _twice(found[1])
    for child in inside(node):
        _check_profiles(child, isinstance(node, And))


class _Parser:
    """One method per rule; `at` is the position in the text, `open` the starts of the open groups."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.open: list[int] = []

    def search(self) -> Node:
        self.space()
        if self.at == len(self.text):
            return EVERYTHING
        return self.or_()

    def or_(self) -> Node:
        nodes = [self.and_()]
        while self.word("or"):
            nodes.append(self.and_())
        return any_of(nodes)

    def and_(self) -> Node:
        nodes = self.list_()
        while self.word("and"):
            nodes += self.list_()
        return all_of(nodes)

    def list_(self) -> list[Node]:
        nodes: list[Node] = []
        optional: list[Node] = []
        place = 0
        while not nodes and not optional or self.more():
            marked, node = self.factor()
            if marked:
                place = place if optional else len(nodes)
                optional.append(node)
            else:
                nodes.append(node)
        if optional:
            nodes.insert(place, any_of(optional))
        return nodes

    def factor(self) -> tuple[bool, Node]:
        """An expression, and whether a `~` marks it."""
        self.space()
        negated = marked = False
        while self.peek() and self.peek() in "-~":
            negated ^= self.peek() == "-"
            marked |= self.peek() == "~"
            self.at += 1
            self.space()
        node = self.expression()
        return marked, none_of(node) if negated else node

    def expression(self) -> Node:
        self.space()
        if self.peek() == "(":
            return self.group()
        start = self.at
        if self.at == len(self.text) or self.peek() == ")" or self.peek_word() in ("and", "or"):
            self.missing_term()
        return self.metatag() or self.tag(start)

    def group(self) -> Node:
        start = self.at
        if len(self.open) >= MAX_DEPTH:
            raise SearchError(f"Groups are nested deeper than {MAX_DEPTH}: write the search flatter.", start, 1)
        self.open.append(start)
        self.at += 1
        node = self.or_()
        self.space()
        if self.peek() != ")":
            fix = Fix(len(self.text), 0, ")" * len(self.open))
            raise SearchError("This ( is never closed: add a ) where the group ends.", start, 1, fix)
        self.at += 1
        self.open.pop()
        return node

    def metatag(self) -> Node | None:
        start = self.at
        match = _NAME.match(self.text, start)
        name = match[1].lower() if match else ""
        if name not in FIELDS:
            return None
        self.at = match.end()
        value = self.value()
        span = {"position": start, "length": self.at - start}
        try:
            read = FIELDS[name].read(value)
        except BadValue as error:
            raise error.of(name, value, start, self.at - start) from None
        if name == "tag":
            return Tag(_normal(read), **span)
        if name == "wildcard":
            return Wildcard(_normal(read), **span)
        return Metatag(name, _normal(value) if FIELDS[name].takes_tag else value, **span)

    def value(self) -> str:
        start = self.at
        if self.peek() and self.peek() in "\"'":
            if not (match := _QUOTED.match(self.text, start)):
                fix = Fix(len(self.text), 0, self.peek())
                raise SearchError("This quotation mark is never closed: add one at the end.", start, 1, fix)
            self.at = match.end()
            return re.sub(r"""\\(["'\\])""", r"\1", match[2])
        return self.balanced(_BARE).replace("\\ ", " ")

    def tag(self, start: int) -> Node:
        name = _normal(self.balanced(_WORD))
        span = {"position": start, "length": self.at - start}
        return Wildcard(name, **span) if "*" in name else Tag(name, **span)

    def balanced(self, pattern: re.Pattern[str]) -> str:
        """What the pattern matches, less the parentheses at its end that close open groups."""
        found = pattern.match(self.text, self.at)[0]
        trailing = len(found) - len(found.rstrip(")"))
        excess = min(trailing, found.count(")") - found.count("("), len(self.open))
        if excess > 0:
            found = found[:-excess]
        self.at += len(found)
        return found

    def missing_term(self) -> None:
        rest = self.peek_word() if self.at < len(self.text) and self.peek() != ")" else ""
        fix = Fix(*self.dangling())
        if rest:
            fix = Fix(self.at, len(rest), "")
            message = f'"{rest}" needs a term on both sides: add one, or write tag:{rest} for the tag.'
        elif self.peek() == ")" and not self.open:
            fix = Fix(self.at, 1, "")
            message = "This ) closes no group: remove it."
        elif self.peek() == ")":
            message = "There is no term before this ): add one, or remove it."
        else:
            message = "The search ends where a term should follow: add one."
        raise SearchError(message, self.at, len(rest) or (1 if self.peek() == ")" else 0), fix)

    def dangling(self) -> tuple[int, int, str]:
        """What to take out where a term is missing: the signs or the word before, and an empty group with it."""
        start = _DANGLING.search(self.text, 0, self.at).start()
        empty = self.peek() == ")" and self.text[:start].endswith("(")
        return start - empty, self.at - start + 2 * empty, ""

    def more(self) -> bool:
        """Whether another factor follows in this list."""
        self.space()
        if self.at == len(self.text) or (self.peek() == ")" and self.open):
            return False
        return self.peek_word() not in ("and", "or")

    def word(self, word: str) -> bool:
        """Step over this word, if it comes next."""
        self.space()
        if self.peek_word() != word:
            return False
        self.at += len(word)
        return True

    def peek_word(self) -> str:
        """`and` or `or` when they stand as words of their own, else another word or nothing."""
        match = _WORD.match(self.text, self.at)
        word = match[0] if match else ""
        return word.rstrip(")").lower() if self.open else word.lower()

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def space(self) -> None:
        self.at = _SPACE.match(self.text, self.at).end()


def _normal(name: str) -> str:
    """Tag names are lower case and composed, as they are stored."""
    return unicodedata.normalize("NFC", name).lower()
