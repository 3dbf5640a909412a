"""What the word before the cursor may become: tags by prefix, any word, alias and likeness; metatags and values.

The count beside a suggestion is of the whole search with it, so that one never picks what finds nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from django.db import connection

from gallery.models import Category
from gallery.profiles import Thresholds
from gallery.search import lexicon
from gallery.search.compiler import resolve, tag_names
from gallery.search.counts import Count
from gallery.search.errors import SearchError
from gallery.search.fields import FIELDS, is_metatag
from gallery.search.forecast import forecast
from gallery.search.lexicon import Hit
from gallery.search.names import Known, Names, like_pattern
from gallery.search.nodes import Leaf, Metatag, Node, Tag, leaves, quoted, rewritten, tag_text, top
from gallery.search.parser import parse
from gallery.search.predicates import both
from gallery.search.scopes import Viewer, asks_for_deleted, expanded, scoped
from gallery.search.tagcounts import tag_count_sql
from gallery.search.terms import Context
from gallery.search.wordlists import words_of

MAX_WORD = 100
_ENOUGH = 5  # with fewer finds, look for names that are only alike
_POOL = 40
_COUNTED = 16  # candidates whose search is counted
_LISTED = ("rating", "filetype")  # metatags of which several words may follow each other
_SAID = ("ai", "human", "rejected")  # those that ask who said what of a tag, not whether it is on
_CATEGORIES = {category.label: int(category) for category in Category}
_HERE = "\ue000"  # stands for the word in the search around it


class Suggestion(NamedTuple):
    """`value` replaces the text from `start` to the cursor; `label` is what to show.

    `count` is of posts that the whole search finds with it under the thresholds, `exact` or about;
    None where that is not known or makes no sense. With `alias_of`, the label is the other name and
    the value that of the tag itself.
    """

    value: str
    label: str
    category: int | None
    count: int | None
    alias_of: str | None
    start: int
    exact: bool = True


class _Found(NamedTuple):
    id: int
    name: str
    category: int
    count: int
    alias: str | None = None


@dataclass
class _Candidate:
    """A suggestion, and the term that it would be; None for what is no whole term, or no condition."""

    suggestion: Suggestion
    term: Leaf | None = None
    tag: _Found | None = None

    @property
    def own_count(self) -> int:
        """The posts that the term alone finds, as far as the tag's histogram tells them; else 0."""
        said = isinstance(self.term, Metatag) and self.term.name in _SAID
        return self.tag.count if self.tag and not said else 0


def suggest(
    text_before_cursor: str, thresholds: Thresholds, limit: int = 10, *, after: str = "", viewer: Viewer = None
) -> list[Suggestion]:
    """Completions of the last word of the text, the likeliest first; none for an empty word.

    `after` is what stands behind the cursor's word.
    """
    start, word = _last_word(text_before_cursor)
    signs = re.match(r"[-~]*", word)[0]
    word = unicodedata.normalize("NFC", word[len(signs) :]).lower()
    if not word or len(word) > MAX_WORD or not word.isprintable():
        return []
    name, colon, value = word.partition(":")
    if colon and is_metatag(name):
        found = _values(name, value.lstrip("\"'"), thresholds, viewer)
    else:
        found = [*_metatags(word), *_saved(word, viewer), *(_of_tag(each) for each in _tags(word, thresholds))]
    around = _around(text_before_cursor[:start], signs, after)
    counted = _counted(found[:_COUNTED], around, thresholds, viewer)
    return [each._replace(value=signs + each.value, start=start) for each in counted[:limit]]


def _last_word(text: str) -> tuple[int, str]:
    """Where the word at the end begins, behind the parentheses of groups, and the word."""
    match = re.search(r"""(?:[A-Za-z_]+:(?:"[^"]*|'[^']*)|\S*)\Z""", text)
    opened = re.match(r"[-~(]*\(", match[0])
    start = match.start() + (opened.end() if opened else 0)
    return start, text[start:]


# Counting


def _around(before: str, signs: str, after: str) -> Node | None:
    """The search with a place in it where the word will be; None when it can't be read."""
    text = f"{before}{signs}{_HERE} {after}"
    for _ in range(3):
        try:
            return parse(text)
        except SearchError as error:
            if not error.fix:
                return None
            text = error.fix.applied(text)
    return None


def _counted(found: list[_Candidate], around: Node | None, thresholds: Thresholds, viewer: Viewer) -> list[Suggestion]:
    """The suggestions with their counts, without those that find nothing; first as they came, then by count."""
    alone = around is None or around == Tag(_HERE)
    # A tag's own count comes from its histogram, which a new tag has not yet.
    wanted = [each for each in found if each.term is not None and not (alone and each.own_count)]
    try:
        counts = _forecast([each.term for each in wanted], around or Tag(_HERE), found, thresholds, viewer)
    except SearchError:
        counts = None
    if counts is None:  # what stands around the word can't be asked: the word alone counts
        return [] if alone else _counted(found, None, thresholds, viewer)
    of_term = dict(zip([id(each) for each in wanted], counts, strict=True))
    shown = []
    for each in found:
        count = of_term.get(id(each))
        if count is not None:
            shown.append(each.suggestion._replace(count=count.number, exact=count.exact))
        elif each.tag and (not alone or id(each) in of_term):  # asked for, and not told in time
            shown.append(each.suggestion._replace(count=None))
        else:
            shown.append(each.suggestion)
    return [each for each in shown if not (each.count == 0 and each.exact)]


def _forecast(
    terms: list[Leaf], around: Node, found: list[_Candidate], thresholds: Thresholds, viewer: Viewer
) -> list[Count | None] | None:
    """What the search finds with each of these terms in its place; None when it speaks of unknown tags."""
    names = Names(quiet=True)
    whole = expanded(around, viewer, names.note)
    asked = [expanded(term, viewer, names.note) for term in terms]
    names.add(_tag_names(whole).union(*map(_tag_names, asked)))
    unknown = any(isinstance(leaf, Tag) and leaf.name != _HERE and not names.find(leaf.name) for leaf in leaves(whole))
    if unknown or asks_for_deleted(whole):
        return None
    names.tags.update((tag.name, Known(tag.id, tag.name, tag.category)) for each in found if (tag := each.tag))
    context = scoped(whole, Context(names, thresholds, viewer))
    # What stands around the word is resolved once for all that it may become.
    here = [node for node in top(whole) if Tag(_HERE) in leaves(node)]
    around_it = [resolve(node, context) for node in top(whole) if node not in here]
    return forecast(
        [both([*around_it, *(resolve(rewritten(node, _put(term)), context) for node in here)]) for term in asked]
    )


def _put(term: Node) -> Callable[[Leaf], Node]:
    return lambda leaf: term if leaf == Tag(_HERE) else leaf


def _tag_names(tree: Node) -> set[str]:
    return set(tag_names(tree)) - {_HERE}


# Metatags


def _metatags(word: str) -> list[_Candidate]:
    """Names of metatags that begin so; a name alone goes on with a colon."""
    names = [name for name, field in FIELDS.items() if field.offered and name.startswith(word)]
    found = [_Candidate(Suggestion(f"{name}:", f"{name}:", None, None, None, 0)) for name in names]
    return found[:3] if len(word) > 1 else []


def _saved(word: str, viewer: Viewer) -> list[_Candidate]:
    """One's own saved searches that are called so."""
    names = [name for name in words_of("search", viewer) if name.startswith(word)] if len(word) > 1 else []
    return [_of_value("search", name) for name in names[:3]]


def _values(name: str, value: str, thresholds: Thresholds, viewer: Viewer) -> list[_Candidate]:
    """What may follow `name:`."""
    field = FIELDS[name]
    if field.takes_tag:
        confidence = name == "ai" and "," in value  # the name before it is written
        found = _tags(value, thresholds, _CATEGORIES.get(name)) if value and not confidence else []
        return [_of_tag(each, name) for each in found]
    head, comma, begun = value.rpartition(",") if name in _LISTED else ("", "", value)
    words = dict.fromkeys([*field.words, *words_of(name, viewer, value)])
    found = [word for word in words if word.lower().startswith(begun) and word not in head.split(",")]
    return [_of_value(name, head + comma + word, viewer) for word in found[:_POOL]]


def _of_value(name: str, word: str, viewer: Viewer = None) -> _Candidate:
    suggestion = Suggestion(f"{name}:{quoted(word)}", f"{name}:{word}", None, None, None, 0)
    term = Metatag(name, word)
    # Deleted posts are not among those that are counted, and members may find some.
    deleted = asks_for_deleted(term) and viewer is not None and viewer.is_authenticated
    uncounted = FIELDS[name].shape or name == "profile" or deleted
    return _Candidate(suggestion, None if uncounted else term)


# Tags


def _of_tag(found: _Found, name: str = "") -> _Candidate:
    """A tag, by itself or as the value of a metatag; a quoted name says the same to every one of them."""
    prefix = f"{name}:" if name else ""
    value = prefix + (quoted(found.name) if name else tag_text(found.name))
    label = prefix + (found.alias or found.name)
    suggestion = Suggestion(value, label, found.category, found.count, found.name if found.alias else None, 0)
    term = Metatag(name, found.name) if name and name != "tag" else Tag(found.name)
    return _Candidate(suggestion, term, found)


# A tag whose name is an alias now has no posts of its own.
_TAGS = (
    "select t.id, null from tag t"
    " where not t.deprecated and t.category = any(%(categories)s)"
    " and not exists (select from tag_alias a where a.name = t.name) and "
)
_BEGINS = _TAGS + "t.name like %(prefix)s order by post_count desc limit %(limit)s"
_WITH_WORD = _TAGS + "t.name like %(word)s order by post_count desc limit %(limit)s"
_WITH_ALIAS = (
    "select t.id, a.name from tag_alias a join tag t on t.id = a.tag_id"
    " where not t.deprecated and t.category = any(%(categories)s) and a.name like %(prefix)s"
    " order by post_count desc limit %(limit)s"
)
_ALIKE = _TAGS + "t.name %% %(typed)s order by similarity(name, %(typed)s) desc, post_count desc limit %(limit)s"
_NEW = _TAGS + "t.id > %(newest)s and (t.name like %(prefix)s or t.name like %(word)s) limit %(limit)s"


def _tags(word: str, thresholds: Thresholds, category: int | None = None) -> list[_Found]:
    """Tags for a word: beginning so, then an alias that does, then with such a word inside, then alike."""
    known = lexicon.current() if "*" not in word else None
    if known is None:
        found = _merged([_asked(way, word, category) for way in (_BEGINS, _WITH_ALIAS, _WITH_WORD)], thresholds)
    else:
        new = _asked(_NEW, word, category, known.newest)
        ways = (known.begins, known.with_alias, known.with_word)
        found = _merged([*(way(word, _COUNTED, category) for way in ways), new], thresholds)
    if len(found) < _ENOUGH and len(word) > 2:
        hits = _asked(_ALIKE, word, category) if known is None else known.alike(word, _COUNTED, category)
        alike = {each.id: each for each in _merged([hits], thresholds)}
        seen = {each.id for each in found}
        found += [alike[tag_id] for tag_id, _ in hits if tag_id in alike and tag_id not in seen]
    return found


def _asked(statement: str, word: str, category: int | None, newest: int = 0) -> list[Hit]:
    stem = like_pattern(word)
    asked = {
        "prefix": stem if "*" in word else stem + "%",
        "word": rf"%\_{stem}%",
        "typed": word,
        "categories": [*_CATEGORIES.values()] if category is None else [category],
        "limit": _POOL,
        "newest": newest,
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, asked)
        return cursor.fetchall()


def _merged(ways: list[list[Hit]], thresholds: Thresholds) -> list[_Found]:
    """Each way's finds by their count under the thresholds, one way after the other, no tag twice."""
    if not any(ways):
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            f"select t.id, t.name, t.category, {tag_count_sql(thresholds)} from tag t"
            " where t.id = any(%s) and not t.deprecated",
            [list({tag_id for way in ways for tag_id, _ in way})],
        )
        rows = {row[0]: _Found(*row) for row in cursor.fetchall()}
    found: dict[int, _Found] = {}
    for way in ways:
        some = [rows[tag_id]._replace(alias=alias) for tag_id, alias in way if tag_id in rows]
        for each in sorted(some, key=lambda each: -each.count):
            found.setdefault(each.id, each)
    return list(found.values())
