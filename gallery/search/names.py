"""Tag names to tag rows: aliases, wildcards, and the nearest name for one that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from django.db import connection

from gallery.models import Tag, TagAlias
from gallery.search.errors import SearchTimeout, did_you_mean, nearest
from gallery.search.values import BadValue, Sql

WILDCARD_TAGS = 100  # as Danbooru
_ADVISED = 5  # names that are no tag, for which one search looks for the nearest
_ADVICE_MS = 100  # and how long for each

_WITH_HISTOGRAMS = 12  # names whose tags' histograms are read along: a search of so few may be counted by them

_LOAD = """
    select name, false, case when %(few)s then histogram end, id, name, category, deprecated
      from tag where name = any(%(names)s)
    union all
    select a.name, true, case when %(few)s then t.histogram end, t.id, t.name, t.category, t.deprecated
      from tag_alias a join tag t on t.id = a.tag_id where a.name = any(%(names)s)
"""


@dataclass(frozen=True)
class Known:
    """What search needs of a tag row."""

    id: int
    name: str
    category: int
    deprecated: bool = False


@dataclass
class Names:
    """The tags that one search speaks of, and what there is to say about them."""

    tags: dict[str, Known] = field(default_factory=dict)
    aliases: dict[str, Known] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    near: dict[str, str] = field(default_factory=dict)  # names that are no tag, and what was probably meant
    missing: set[str] = field(default_factory=set)  # names that are no tag
    apart: dict[tuple[str, ...], str] = field(default_factory=dict)  # words that are a tag's when joined, and that tag
    quiet: bool = False  # whoever asks wants no advice, which takes time
    asked: set[str] = field(default_factory=set)  # names that were looked up, found or not
    wild: dict[str, list[Known]] = field(default_factory=dict)  # what the first so many tags of a pattern are
    # Posts of a tag by confidence byte, as far as they were read along; None where a tag has none yet.
    histograms: dict[int, list[int] | None] = field(default_factory=dict)

    @classmethod
    def load(cls, names: Iterable[str]) -> Names:
        """One query, and one more for each link when an alias leads to a name that is an alias, too."""
        found = cls()
        found.add(names)
        return found

    def add(self, names: Iterable[str]) -> None:
        """Read what there is about these names, too."""
        wanted = set(names) - self.asked
        while wanted:
            self.asked |= wanted
            few = len(wanted) <= _WITH_HISTOGRAMS
            with connection.cursor() as cursor:
                cursor.execute(_LOAD, {"names": list(wanted), "few": few})
                for name, is_alias, histogram, *row in cursor.fetchall():
                    known = Known(*row)
                    (self.aliases if is_alias else self.tags)[name] = known
                    if few:
                        self.histograms[known.id] = histogram
            wanted = {known.name for known in self.aliases.values()} - self.asked

    def join(self, runs: Iterable[tuple[str, ...]]) -> None:
        """Find what was typed as `long hair` and is the tag long_hair: runs of words of which one is no tag."""
        known = self.tags.keys() | self.aliases.keys()
        wholes = {run: "_".join(run) for run in runs if not known.issuperset(run)}
        if wholes and not self.quiet:
            self.add(wholes.values())
            self.apart = {run: name for run, name in wholes.items() if name in self.tags or name in self.aliases}

    def quietly(self) -> Names:
        """The same names for other searches, without a word about them."""
        return Names(
            self.tags,
            self.aliases,
            near=self.near,
            quiet=True,
            asked=self.asked,
            wild=self.wild,
            histograms=self.histograms,
        )

    def find(self, name: str) -> Known | None:
        """The tag called so, or the one it is an alias of; a missing one leaves a note."""
        known = self.tags.get(name)
        seen: set[str] = set()
        while name in self.aliases and name not in seen:
            seen.add(name)
            known = self.aliases[name]
            name = known.name
        if known is None and name not in self.missing and not self.quiet:
            self.missing.add(name)
            joined = next((whole for run, whole in self.apart.items() if name in run), None)
            near = joined or (nearest_tag(name) if len(self.missing) <= _ADVISED else None)
            self.note(f"No tag is called {name}.{did_you_mean(near)}")
            if near:
                self.near[name] = near
        return known

    def ids(self, name: str) -> list[int]:
        """The tag's id and those of tags now aliased to it, whose old predictions mean it, too."""
        known = self.find(name)
        ids = [known.id] if known else []
        frontier = ids
        while frontier:
            names = TagAlias.objects.filter(tag_id__in=frontier).values("name")
            twins = Tag.objects.filter(name__in=names).exclude(id__in=ids)
            frontier = list(twins.values_list("id", flat=True))
            ids = ids + frontier
        return ids

    def matching(self, pattern: str) -> list[Known]:
        """Tags that a wildcard stands for, the most used first; what is cut leaves a note."""
        if pattern not in self.wild:
            self.wild[pattern] = _most_used(pattern)
        found = self.wild[pattern]
        if not found:
            self.note(f"No tag matches {pattern}.")
        elif len(found) > WILDCARD_TAGS:
            many = f"more than {WILDCARD_TAGS} tags"  # how many more would mean reading them all
            self.note(f"{pattern} matches {many}: the {WILDCARD_TAGS} most used were searched.")
        return found[:WILDCARD_TAGS]

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def _most_used(pattern: str) -> list[Known]:
    """The most used tags that a pattern matches, one more than are searched."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select id, name, category from tag where name like %s order by post_count desc, name limit %s",
            [like_pattern(pattern), WILDCARD_TAGS + 1],
        )
        return [Known(*row) for row in cursor.fetchall()]


_COMMON = 1000  # names that a misspelt one is compared with letter by letter


def like_pattern(pattern: str) -> str:
    """A pattern with `*` as SQL's LIKE wants it."""
    return re.sub(r"([\\%_])", r"\\\1", pattern).replace("*", "%")


def nearest_tag(name: str) -> str | None:
    """The most alike tag name by trigrams, the more used one among equals; None for what no tag is called like."""
    from gallery.search.fields import FIELDS

    if len(name) > Tag._meta.get_field("name").max_length:
        return None
    prefix, colon, value = name.partition(":")
    if colon and (near := nearest(prefix, FIELDS)):
        with suppress(BadValue):  # fate:saber is no date
            FIELDS[near].read(value)
            return f"{near}:{value}"
    # Two swapped letters change most trigrams of a short word: compare it with the commonest of its letter.
    return _most_alike(name) or nearest(name, _common_names(name[:1]))


def _most_alike(name: str) -> str | None:
    from gallery.search.planner import Way
    from gallery.search.running import Planned, run

    order = "similarity(name, %s) desc, post_count desc"
    statement = Sql(f"select name from tag where name %% %s order by {order} limit 1", (name, name))
    try:
        rows = run(Planned(statement, Way.FREE, False), _ADVICE_MS)
    except SearchTimeout:  # a name like thousands of others
        return None
    return rows[0][0] if rows else None


def _common_names(prefix: str) -> list[str]:
    names = Tag.objects.filter(name__startswith=prefix).order_by("-post_count")
    return list(names.values_list("name", flat=True)[:_COMMON])
