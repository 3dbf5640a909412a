"""Metatags about parents and children: a post that is a version of another one has it as its parent."""

from __future__ import annotations

from gallery.search import values
from gallery.search.errors import nearest
from gallery.search.predicates import Condition, Predicate, neither
from gallery.search.terms import Context, Field, not_here
from gallery.search.values import BadValue, Sql

_STATUSES = ("active", "deleted")
_NEVER = ("pending", "flagged", "appealed", "banned", "modqueue", "unmoderated")  # Danbooru's, which no post has
_WORDS = ("any", "none", *_STATUSES)
_CHILDREN = "select from post c where c.parent_id = i.post_id"

HAS_PARENT = Condition(Sql("p.parent_id is not null"))
HAS_CHILD = Condition(Sql(f"exists ({_CHILDREN} and c.status = 'active')"))


def child_count_sql(status: str = "") -> str:
    """How many children a post has, of one status if one is given, as an expression over `tag_index i`."""
    of_status = f" and c.status = '{status}'" if status else ""
    return f"(select count(*) from post c where c.parent_id = i.post_id{of_status})"


def _relative(text: str) -> str | int:
    """A post's number, or a word."""
    word = text.lower()
    if word in (*_WORDS, *_NEVER, "all"):
        return word
    try:
        return values.whole(text).start
    except BadValue:
        raise BadValue(f"give the number of a post, or one of {', '.join(_WORDS)}.", nearest(word, _WORDS)) from None


def _parent(value: str | int, context: Context) -> Predicate:
    """A post's children and itself, as on Danbooru; or posts by whether and what parent they have."""
    if isinstance(value, int):
        return Condition(Sql("(p.parent_id = %s or i.post_id = %s)", (value, value)), selective=True)
    if value in _NEVER:
        return not_here(f"parent:{value}", context)
    if value in _STATUSES:
        return Condition(Sql("exists (select from post c where c.id = p.parent_id and c.status = %s)", (value,)))
    return neither(HAS_PARENT) if value == "none" else HAS_PARENT


def _child(value: str | int, context: Context) -> Predicate:
    """The parent of a post; or posts by whether and what children they have."""
    if isinstance(value, int):
        where = "i.post_id in (select c.parent_id from post c where c.id = %s and c.parent_id is not null)"
        return Condition(Sql(where, (value,)), selective=True)
    if value in _NEVER:
        return not_here(f"child:{value}", context)
    if value in _STATUSES:
        return Condition(Sql(f"exists ({_CHILDREN} and c.status = %s)", (value,)))
    return neither(HAS_CHILD) if value == "none" else HAS_CHILD


PARENT = Field(_relative, _parent, _WORDS)
CHILD = Field(_relative, _child, _WORDS)
