"""The orders of a list, and cursors that say where in it a page ends.

Every order is a few expressions and then the post's id, all in one direction, so that one row
comparison finds what comes after a cursor.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from gallery.models import Category
from gallery.profiles import Thresholds
from gallery.search import shuffling
from gallery.search.absent import ABSENT_ORDERS
from gallery.search.errors import PageError, nearest
from gallery.search.families import child_count_sql
from gallery.search.tagcounts import VERDICT_COUNT, on_count
from gallery.search.values import BadValue, Sql

_RATIO = "p.width::float8 / greatest(p.height, 1)"
_COUNTABLE = tuple(category for category in Category if category != Category.RATING)

# name: (expression, type of its value in a cursor); an expression of None is the id alone.
# Categories stand for the number of tags in them that are on.
_COLUMNS: dict[str, tuple[str | tuple[Category, ...] | None, str]] = {
    "id": (None, ""),
    "created_at": ("p.created_at", "timestamptz"),
    "created": ("p.created_at", "timestamptz"),
    "change": ("i.updated_at", "timestamptz"),
    "width": ("p.width", "int"),
    "height": ("p.height", "int"),
    "filesize": ("p.file_size", "bigint"),
    "mpixels": ("p.width::bigint * p.height", "bigint"),
    "ratio": (_RATIO, "float8"),
    "md5": ("p.md5", "text"),
    **{
        f"{prefix}{name}": (child_count_sql(status), "bigint")
        for prefix, status in (("", ""), ("active_", "active"), ("deleted_", "deleted"))
        for name in ("child_count", "children")
    },
    **dict.fromkeys(("verdict_count", "verdicts"), (VERDICT_COUNT, "bigint")),
    "tagcount": (_COUNTABLE, "bigint"),
    "gentags": ((Category.GENERAL,), "bigint"),
    "arttags": ((Category.ARTIST,), "bigint"),
    "copytags": ((Category.COPYRIGHT,), "bigint"),
    "chartags": ((Category.CHARACTER,), "bigint"),
    "metatags": ((Category.META,), "bigint"),
    "yeartags": ((Category.YEAR,), "bigint"),
}
ORDERS: dict[str, str] = {
    "id": "id_asc",  # Danbooru's exception: order:id is ascending
    "id_asc": "id_asc",
    "id_desc": "id_desc",
    "none": "id_desc",
    "landscape": "ratio_desc",
    "portrait": "ratio_asc",
    "random": "random",
    "custom": "custom",
    **{name: f"{name}_desc" for name in _COLUMNS if name != "id"},
    **{f"{name}_{way}": f"{name}_{way}" for name in _COLUMNS for way in ("asc", "desc")},
    **{name + ending: "missing" for name in ABSENT_ORDERS for ending in ("", "_asc", "_desc")},
}
TWO_WAYS = tuple(_COLUMNS)  # each with _asc or _desc, too
ONE_WAY = ("landscape", "portrait", "random", "custom", "none")
# While typing, the ways one goes most first; what finds no order here not at all.
_FIRST = ("random", "filesize", "mpixels", "tagcount", "landscape", "portrait", "id", "created", "change")
OFFERED = tuple(
    dict.fromkeys(
        [
            *_FIRST,
            *(
                name
                for name, meaning in ORDERS.items()
                if meaning != "missing" and not name.endswith(("_asc", "_desc"))
            ),
            *(name for name, meaning in ORDERS.items() if meaning != "missing"),
        ]
    )
)


def read_order(text: str) -> str:
    """A name of ORDERS, or `random_` and its seed; raises BadValue."""
    word = text.lower()
    if word in ORDERS or re.fullmatch(r"random_[0-9]{1,9}", word):
        return word
    listed = f"{', '.join(TWO_WAYS)}, with _asc or _desc if you like, or {', '.join(ONE_WAY)}"
    raise BadValue(f"give one of {listed}.", nearest(word, OFFERED))


@dataclass(frozen=True)
class Order:
    """How a list is sorted: by `keys`, then by the post's id, all descending or all ascending.

    `name` tells lists apart, so that a cursor of one is refused by another.
    """

    name: str
    keys: tuple[Sql, ...] = ()
    types: tuple[str, ...] = ()
    descending: bool = True
    seed: int | None = None  # of a shuffled list
    weighed: bool = False  # the key of each post takes counting
    categories: tuple[Category, ...] = ()  # of the tags that are counted

    @property
    def by_id(self) -> bool:
        return not self.keys

    @property
    def newest_first(self) -> bool:
        return self.by_id and self.descending

    def columns(self) -> Sql:
        """What to select: the id, then the keys."""
        text = "".join(f", {key.text}" for key in self.keys)
        return Sql("i.post_id" + text, tuple(value for key in self.keys for value in key.params))

    def clause(self, backwards: bool = False) -> str:
        way = "desc" if self.descending != backwards else "asc"
        places = [str(place) for place in range(2, len(self.keys) + 2)] + ["i.post_id"]
        return ", ".join(f"{place} {way}" for place in places)

    def beyond(self, row: tuple[Any, ...], backwards: bool = False) -> Sql:
        """Rows strictly behind (or before) a row of `columns`."""
        sign = "<" if self.descending != backwards else ">"
        keys = ", ".join([*(key.text for key in self.keys), "i.post_id"])
        marks = ", ".join([*(f"%s::{kind}" for kind in self.types), "%s::bigint"])
        params = (*(value for key in self.keys for value in key.params), *row[1:], row[0])
        return Sql(f"({keys}) {sign} ({marks})", params)


def order_named(name: str | None, thresholds: Thresholds, listed: tuple[int, ...] = (), seed: int = 0) -> Order:
    """The order of `order:name`; `listed` are the ids of `order:custom`, `seed` shuffles `order:random`."""
    meaning = ORDERS.get(name or "id_desc", "random")
    if meaning == "random":
        given = int(name.partition("_")[2] or seed) if name else seed
        return Order(f"random_{given}", shuffling.keys(given), ("bigint", "bigint"), descending=False, seed=given)
    if meaning == "custom":
        key = Sql("coalesce(array_position(%s::bigint[], i.post_id), 2147483647)", (listed,))
        return Order("custom", (key,), ("int",), descending=False) if listed else Order("id_desc")
    if meaning == "missing":
        return Order("id_desc")
    column, _, way = meaning.rpartition("_")
    expression, kind = _COLUMNS[column]
    if expression is None:
        return Order(meaning, descending=way == "desc")
    categories = expression if isinstance(expression, tuple) else ()
    key = on_count(thresholds, categories) if isinstance(expression, tuple) else Sql(expression)
    weighed = key.text.startswith("(select count(*)")
    return Order(meaning, (key,), (kind,), descending=way == "desc", weighed=weighed, categories=categories)


def new_seed() -> int:
    return secrets.randbelow(10**9)


@dataclass(frozen=True)
class Cursor:
    """A place in a list: what lies behind its row, or `backwards` before it."""

    order: str
    backwards: bool
    row: tuple[Any, ...]

    def __str__(self) -> str:
        """Opaque, and good in URLs."""
        row = [value.isoformat() if hasattr(value, "isoformat") else value for value in self.row]
        packed = json.dumps([self.order, int(self.backwards), *row], separators=(",", ":"))
        return base64.urlsafe_b64encode(packed.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Raises PageError."""
        try:
            name, backwards, *row = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            well_formed = isinstance(name, str) and row and all(map(_storable, row))
        except (ValueError, TypeError, RecursionError):
            raise stale_cursor() from None
        if not well_formed or type(row[0]) is not int or abs(row[0]) >= 2**63:
            raise stale_cursor()
        return cls(name, bool(backwards), tuple(row))

    def fits(self, order: Order) -> bool:
        return self.order == order.name and len(self.row) == len(order.keys) + 1

    @property
    def seed(self) -> int | None:
        """The seed of the random list that the cursor comes from."""
        match = re.fullmatch(r"random_([0-9]{1,9})", self.order)
        return int(match[1]) if match else None


def _storable(value: object) -> bool:
    """Whether a key of a row can be so; what can't be printed, half a surrogate pair too, no row holds."""
    return value.isprintable() if isinstance(value, str) else type(value) in (int, float)


def stale_cursor() -> PageError:
    return PageError("This page link does not fit this search: start from the first page.")
