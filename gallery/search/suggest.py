"""What the word before the cursor may become: tags by prefix, any word, alias and likeness; metatags and values."""

from __future__ import annotations

import re
from typing import NamedTuple

from django.contrib.auth import get_user_model
from django.db import connection

from gallery.models import Release
from gallery.profiles import Thresholds
from gallery.search.counts import upper_count
from gallery.search.fields import FIELDS, is_metatag
from gallery.search.names import like_pattern
from gallery.search.nodes import tag_text

MAX_WORD = 100
_ENOUGH = 5  # with fewer finds, look for names that are only alike
_POOL = 40


class Suggestion(NamedTuple):
    """`value` replaces the text from `start` to the cursor; `label` is what to show.

    `count` is of posts under the thresholds, None for what is no tag. With `alias_of`, the label is
    the other name and the value that of the tag itself.
    """

    value: str
    label: str
    category: int | None
    count: int | None
    alias_of: str | None
    start: int


class _Found(NamedTuple):
    name: str
    category: int
    count: int
    alias: str | None = None


def suggest(text_before_cursor: str, thresholds: Thresholds, limit: int = 10) -> list[Suggestion]:
    """Completions of the last word of the text, the likeliest first; none for an empty word."""
    start, word = _last_word(text_before_cursor)
    signs = re.match(r"[-~]*", word)[0]
    word = word[len(signs) :].lower()
    if not word or len(word) > MAX_WORD or not word.isprintable():
        return []
    name, colon, value = word.partition(":")
    if colon and is_metatag(name):
        found = _values(name, value.lstrip("\"'"), thresholds, limit)
    else:
        tags = [_of_tag(each, tag_text(each.name)) for each in _tags(word, thresholds, limit)]
        found = _metatags(word)[:3] + tags
    return [each._replace(value=signs + each.value, start=start) for each in found[:limit]]


def _last_word(text: str) -> tuple[int, str]:
    """Where the word at the end begins, behind the parentheses of groups, and the word."""
    match = re.search(r"""(?:[A-Za-z_]+:(?:"[^"]*|'[^']*)|\S*)\Z""", text)
    opened = re.match(r"[-~(]*\(", match[0])
    start = match.start() + (opened.end() if opened else 0)
    return start, text[start:]


def _of_tag(found: _Found, value: str, prefix: str = "") -> Suggestion:
    label = prefix + (found.alias or found.name)
    return Suggestion(prefix + value, label, found.category, found.count, found.name if found.alias else None, 0)


def _metatags(word: str) -> list[Suggestion]:
    """Names of metatags that begin so; a name alone goes on with a colon."""
    names = [name for name, field in FIELDS.items() if field.offered and name.startswith(word)]
    return [Suggestion(f"{name}:", f"{name}:", None, None, None, 0) for name in names] if len(word) > 1 else []


def _values(name: str, value: str, thresholds: Thresholds, limit: int) -> list[Suggestion]:
    """What may follow `name:`."""
    field = FIELDS[name]
    if field.takes_tag:
        if not value:
            return []
        # A quoted name says the same to every field, whatever characters it has.
        return [_of_tag(each, _metatag_value(each.name), f"{name}:") for each in _tags(value, thresholds, limit)]
    words = [word for word in (*field.words, *_rows(name, value)) if word.lower().startswith(value)]
    return [Suggestion(f"{name}:{_metatag_value(word)}", f"{name}:{word}", None, None, None, 0) for word in words]


def _metatag_value(word: str) -> str:
    return f'"{word}"' if re.search(r"[\s()]", word) else word


def _rows(name: str, value: str) -> list[str]:
    """Values that are rows: users, releases."""
    if name in ("user", "uploader"):
        users = get_user_model().objects.filter(username__istartswith=value, posts__isnull=False)
        return list(users.order_by("username").distinct().values_list("username", flat=True)[:_POOL])
    if name == "release":
        return list(Release.objects.filter(name__startswith=value).values_list("name", flat=True)[:_POOL])
    return []


# A tag whose name is an alias now has no posts of its own.
_TAGS = (
    "select id, name, category, histogram, post_count, null as alias from tag"
    " where not deprecated and not exists (select from tag_alias a where a.name = tag.name) and "
)
_PREFIX = _TAGS + "name like %(prefix)s"
_ANY_WORD = _TAGS + "name like %(word)s"
_ALIAS = (
    "select t.id, t.name, t.category, t.histogram, t.post_count, a.name as alias"
    " from tag_alias a join tag t on t.id = a.tag_id where not t.deprecated and a.name like %(prefix)s"
)
_ALIKE = _TAGS + "name %% %(typed)s"


def _tags(word: str, thresholds: Thresholds, limit: int) -> list[_Found]:
    """Tags for a word: beginning so, then an alias that does, then with such a word inside, then alike."""
    stem = like_pattern(word)
    params = {"prefix": stem if "*" in word else stem + "%", "word": rf"%\_{stem}%", "typed": word}
    ways = [(_PREFIX, "post_count desc"), (_ALIAS, "post_count desc"), (_ANY_WORD, "post_count desc")]
    found = _ranked(ways, params, thresholds, limit)
    if len(found) < min(_ENOUGH, limit) and len(word) > 2:
        alike = _ranked([(_ALIKE, "similarity(name, %(typed)s) desc, post_count desc")], params, thresholds, limit)
        known = {each.name for each in found}
        found += [each for each in alike if each.name not in known]
    return found[:limit]


def _ranked(ways: list[tuple[str, str]], params: dict[str, str], thresholds: Thresholds, limit: int) -> list[_Found]:
    """Each way's finds by their count under the thresholds, one way after the other, no tag twice."""
    found: dict[str, _Found] = {}
    with connection.cursor() as cursor:
        for statement, order in ways:
            if len(found) >= limit:
                break
            cursor.execute(f"{statement} order by {order} limit {_POOL}", params)
            some = [
                _Found(name, category, upper_count(histogram, posts, thresholds.byte(tag_id, category)), alias)
                for tag_id, name, category, histogram, posts, alias in cursor.fetchall()
            ]
            if statement is not _ALIKE:
                some.sort(key=lambda each: -each.count)
            for each in some:
                found.setdefault(each.name, each)
    return list(found.values())
