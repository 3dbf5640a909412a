"""The slow and obvious search: one post at a time in Python, and made queries that it can answer."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from django.db import connection
from hypothesis import strategies as st

from gallery.models import Category, Rating
from gallery.profiles import Thresholds
from gallery.search import shuffling
from gallery.search.nodes import tag_text
from tests.gallery.search.world import ALIASES, EPOCH, TAGS, UNUSED, MadePost, World

_EPSILON = 1e-9


@dataclass
class Asked:
    """A query's text and what it means of one post."""

    text: str
    matches: Callable[[MadePost, Thresholds, World], bool]
    group: bool = False  # whether it must stand in parentheses inside another


def is_on(post: MadePost, name: str, thresholds: Thresholds, world: World) -> bool:
    if name.startswith("rating_"):
        return post.rating is not None and Rating(post.rating).tag_name == name
    return post.tags.get(name, 0) >= thresholds.byte(world.tags[name].id, TAGS[name])


def expected(asked: Asked, thresholds: Thresholds, world: World) -> list[int]:
    """What the search finds, newest first."""
    return [post.id for post in reversed(world.posts) if asked.matches(post, thresholds, world)]


def _tag(name: str) -> Asked:
    target = {**ALIASES, UNUSED: "blue_eyes"}.get(name, name)
    return Asked(tag_text(name), lambda p, t, w: target in TAGS and is_on(p, target, t, w))


def _wildcard(pattern: str) -> Asked:
    # A tag that is an alias now is in no index.
    names = [name for name in TAGS if fnmatch.fnmatchcase(name, pattern)]
    return Asked(pattern, lambda p, t, w: any(is_on(p, name, t, w) for name in names))


def _rating(words: list[str]) -> Asked:
    meant = {"none": None} | {rating.label[0]: int(rating) for rating in Rating}
    values = {meant[word[0] if word != "none" else word] for word in words}
    return Asked(f"rating:{','.join(words)}", lambda p, t, w: p.rating in values)


def _compared(value: float, low: float | None, high: float | None, low_in: bool, high_in: bool) -> bool:
    above = low is None or value > low or (low_in and abs(value - low) < _EPSILON)
    below = high is None or value < high or (high_in and abs(value - high) < _EPSILON)
    return above and below


@st.composite
def ranges(draw: Any, numbers: st.SearchStrategy[int]) -> tuple[str, Callable[[float], bool]]:
    """A range as text and as a test of a number."""
    a, b = draw(numbers), draw(numbers)
    low, high = min(a, b), max(a, b)
    return draw(
        st.sampled_from(
            [
                (f"{a}", lambda v: _compared(v, a, a, True, True)),
                (f">{a}", lambda v: _compared(v, a, None, False, True)),
                (f">={a}", lambda v: _compared(v, a, None, True, True)),
                (f"{a}..", lambda v: _compared(v, a, None, True, True)),
                (f"<{a}", lambda v: _compared(v, None, a, True, False)),
                (f"<={a}", lambda v: _compared(v, None, a, True, True)),
                (f"..{a}", lambda v: _compared(v, None, a, True, True)),
                (f"{a}..{b}", lambda v: _compared(v, low, high, True, True)),
                (f"{a}...{b}", lambda v: _compared(v, low, high, True, False)),
                (f"{a},>{b}", lambda v: v == a or v > b),
            ]
        )
    )


def _tag_count(post: MadePost, thresholds: Thresholds, world: World, categories: set[Category]) -> int:
    return sum(is_on(post, name, thresholds, world) for name, category in TAGS.items() if category in categories)


_NUMBERS: dict[str, tuple[Callable[[MadePost, Thresholds, World], float], st.SearchStrategy[Any]]] = {
    "id": (lambda p, t, w: p.id, st.integers(0, 300)),
    "width": (lambda p, t, w: p.width, st.sampled_from([100, 640, 1280, 1281])),
    "height": (lambda p, t, w: p.height, st.sampled_from([99, 480, 720])),
    "filesize": (lambda p, t, w: p.file_size, st.sampled_from([500, 1000, 204800])),
    "mpixels": (lambda p, t, w: p.width * p.height / 1e6, st.sampled_from(["0.01", "0.9216", "1.3824"]).map(float)),
    "ratio": (lambda p, t, w: round(p.width / p.height + _EPSILON, 2), st.sampled_from([1.78, 1.33, 1, 12.8])),
    "tagcount": (lambda p, t, w: _tag_count(p, t, w, set(Category) - {Category.RATING}), st.integers(0, 9)),
    "gentags": (lambda p, t, w: _tag_count(p, t, w, {Category.GENERAL}), st.integers(0, 5)),
    "arttags": (lambda p, t, w: _tag_count(p, t, w, {Category.ARTIST}), st.integers(0, 2)),
    "yeartags": (lambda p, t, w: _tag_count(p, t, w, {Category.YEAR}), st.integers(0, 1)),
    "verdicts": (lambda p, t, w: len(p.verdicts), st.integers(0, 3)),
    "active_child_count": (lambda p, t, w: sum(each.parent == p.id for each in w.posts), st.integers(0, 4)),
}


@st.composite
def _numbers(draw: Any) -> Asked:
    name = draw(st.sampled_from(sorted(_NUMBERS)))
    value, numbers = _NUMBERS[name]
    text, within = draw(ranges(numbers))
    return Asked(f"{name}:{text}", lambda p, t, w: within(value(p, t, w)))


@st.composite
def _confidences(draw: Any) -> Asked:
    name = draw(st.sampled_from([*TAGS, *ALIASES, UNUSED]))
    target = {**ALIASES, UNUSED: "blue_eyes"}.get(name, name)
    sources = [target, UNUSED] if target == "blue_eyes" else [target]
    percent = draw(st.integers(1, 99))
    limit = Fraction(percent * 254, 100)
    ending, within = draw(
        st.sampled_from(
            [
                ("", lambda b: b >= 127),
                (f",>{percent}%", lambda b: b > limit),
                (f",>={percent}", lambda b: b >= limit),
                (f",<{percent}%", lambda b: b < limit),
                (f",{percent}..{percent}", lambda b: b == limit),
                (f",{percent}%", lambda b: limit <= b < limit + Fraction(254, 100)),
                (",0", lambda b: b == 0),
            ]
        )
    )
    text = f'ai:"{name}{ending}"' if ")" in name else f"ai:{name}{ending}"
    return Asked(text, lambda p, t, w: within(max(p.predicted.get(source, 0) for source in sources)))


@st.composite
def _verdicts(draw: Any) -> Asked:
    field, answer = draw(st.sampled_from([("human", True), ("rejected", False)]))
    name = draw(st.sampled_from([*TAGS, *ALIASES]))
    target = ALIASES.get(name, name)
    return Asked(f'{field}:"{name}"', lambda p, t, w: p.verdicts.get(target) is answer)


@st.composite
def _dates(draw: Any) -> Asked:
    day = EPOCH + timedelta(days=draw(st.integers(0, 200)))
    end = day + timedelta(days=1)
    text = f"{day:%Y-%m-%d}"
    ago = draw(st.integers(1, 30))
    named = draw(st.sampled_from([f"{day:%Y%m%d}", f"{day:%d_%B_%Y}", f'"{day:%b %d %Y}"']))
    return draw(
        st.sampled_from(
            [
                Asked(f"date:{named}", lambda p, t, w: day <= p.created_at < end),
                Asked(f"date:{text}T06:00", lambda p, t, w: p.created_at == day + timedelta(hours=6)),
                Asked(f"tagged:{text}", lambda p, t, w: bool(p.predicted) and day <= p.tagged_at < end),
                Asked(f"tagged:>{text}", lambda p, t, w: bool(p.predicted) and p.tagged_at >= end),
                Asked(f"judged:<={text}", lambda p, t, w: bool(p.verdicts) and p.judged_at < end),
                Asked(f"change:>{text}", lambda p, t, w: p.changed_at >= end),
                Asked(f"date:{text}", lambda p, t, w: day <= p.created_at < end),
                Asked(f"date:>{text}", lambda p, t, w: p.created_at >= end),
                Asked(f"date:<={text}", lambda p, t, w: p.created_at < end),
                Asked(f"date:..{text}", lambda p, t, w: p.created_at < end),
                Asked("date:2024-02", lambda p, t, w: (p.created_at.year, p.created_at.month) == (2024, 2)),
                Asked(f"age:<{ago}mo", lambda p, t, w: datetime.now(UTC) - p.created_at < timedelta(days=30 * ago)),
            ]
        )
    )


def nearness(post: MadePost, others: list[MadePost]) -> list[tuple[float, int]]:
    """Likeness to a post and number of each that has one, the most alike first."""
    seen = [each for each in others if each.id != post.id and each.direction is not None]
    return sorted(((float(each.direction @ post.direction), each.id) for each in seen), reverse=True)


@st.composite
def _similar(draw: Any) -> Asked:
    """`similar:`, asked of the world's post of this place, if it has one; `SIMILAR_MOST` are meant."""
    number, percent = draw(st.integers(1, 210)), draw(st.sampled_from([None, 50, 70, 80, 90]))

    def matches(post: MadePost, thresholds: Thresholds, world: World) -> bool:
        own = next((each for each in world.posts if each.id == number), None)
        if own is None or own.direction is None:
            return False
        found = [(likeness, pk) for likeness, pk in nearness(own, world.posts) if likeness >= (percent or 0) / 100]
        return post.id in [pk for _, pk in found[:SIMILAR_MOST]]

    return Asked(f"similar:{number}" if percent is None else f"similar:{number},>={percent}%", matches)


SIMILAR_MOST = 12

_FIXED = [
    Asked("credit:BY*cc0", lambda p, t, w: p.credit == "by Anna, CC0"),
    Asked('credit:"by bert"', lambda p, t, w: p.credit == "by bert"),
    Asked("has:credit", lambda p, t, w: p.credit != ""),
    Asked("credit:none", lambda p, t, w: p.credit == ""),
    Asked("judge:ANNA", lambda p, t, w: bool(p.verdicts) and p.judge == "anna"),
    Asked("judge:*x", lambda p, t, w: bool(p.verdicts) and p.judge == "Bert_x"),
    Asked("judge:any", lambda p, t, w: bool(p.verdicts) and p.judge != ""),
    Asked("judge:none", lambda p, t, w: not p.verdicts or p.judge == ""),
    Asked("has:verdicts", lambda p, t, w: bool(p.verdicts)),
    Asked("verdict:person", lambda p, t, w: bool(p.verdicts)),
    Asked("verdict:seed", lambda p, t, w: False),
    Asked("sha256:" + f"{7:064x},{9:064X}", lambda p, t, w: p.id in (7, 9)),
    Asked("filename:none", lambda p, t, w: False),
    Asked("is:g", lambda p, t, w: p.rating == 0),
    Asked("is:safe", lambda p, t, w: p.rating == 1),
    Asked("verdict:yes", lambda p, t, w: True in p.verdicts.values()),
    Asked("verdict:no", lambda p, t, w: False in p.verdicts.values()),
    Asked("verdict:none", lambda p, t, w: not p.verdicts),
    Asked("is:animated", lambda p, t, w: p.animated),
    Asked("is:sfw", lambda p, t, w: p.rating in (0, 1)),
    Asked("is:png", lambda p, t, w: p.ext == "png"),
    Asked("filetype:jpg,gif", lambda p, t, w: p.ext in ("jpg", "gif")),
    Asked("has:source", lambda p, t, w: p.source != ""),
    Asked("source:none", lambda p, t, w: p.source == ""),
    Asked("source:https://A.example/100%", lambda p, t, w: p.source.startswith("https://a.example/100%")),
    Asked("source:*example*_x", lambda p, t, w: p.source.endswith("_x")),
    Asked('source:"book"', lambda p, t, w: p.source == "Book"),
    Asked("user:ANNA", lambda p, t, w: p.uploader == "anna"),
    Asked("uploader:bert_x", lambda p, t, w: p.uploader == "Bert_x"),
    Asked("user:none", lambda p, t, w: not p.uploader),
    Asked("filesize:200kb", lambda p, t, w: p.file_size == 204800),
    Asked("filesize:>1mb", lambda p, t, w: p.file_size > 1024 * 1024),
    Asked("ratio:16:9", lambda p, t, w: abs(p.width / p.height - 16 / 9) < 0.005),
    Asked("status:deleted", lambda p, t, w: False),
    Asked("status:any", lambda p, t, w: True),
    Asked("release:starter", lambda p, t, w: bool(p.predicted)),
    Asked("release:none", lambda p, t, w: not p.predicted),
    Asked("fav:anna", lambda p, t, w: False),
    Asked("parent:none", lambda p, t, w: p.parent is None),
    Asked("parent:any", lambda p, t, w: p.parent is not None),
    Asked("is:child", lambda p, t, w: p.parent is not None),
    Asked("parent:active", lambda p, t, w: p.parent is not None),
    Asked("parent:deleted", lambda p, t, w: False),
    Asked("parent:banned", lambda p, t, w: False),
    Asked("child:any", lambda p, t, w: p.id in {each.parent for each in w.posts}),
    Asked("has:children", lambda p, t, w: p.id in {each.parent for each in w.posts}),
    Asked("child:none", lambda p, t, w: p.id not in {each.parent for each in w.posts}),
    Asked("children:>1", lambda p, t, w: sum(each.parent == p.id for each in w.posts) > 1),
    Asked("artist:wada", lambda p, t, w: is_on(p, "wada", t, w)),
    Asked("artist:solo", lambda p, t, w: False),
    Asked("unaliased:blue_hair", lambda p, t, w: is_on(p, "blue_hair", t, w)),
    Asked("unaliased:azure_hair", lambda p, t, w: False),
]

terms = st.one_of(
    st.sampled_from([*TAGS, *ALIASES, UNUSED, "no_such_tag"]).map(_tag),
    st.sampled_from([*TAGS]).map(_tag),
    st.sampled_from(["blue_*", "*hair", "*", "*_e*", "nothing*", "rating_*"]).map(_wildcard),
    st.lists(st.sampled_from(["g", "s", "questionable", "e", "none"]), min_size=1, max_size=3).map(_rating),
    _numbers(),
    _confidences(),
    _verdicts(),
    _dates(),
    _similar(),
    st.sampled_from(_FIXED),
)


def _inside(asked: Asked) -> str:
    return f"({asked.text})" if asked.group else asked.text


def _and(parts: list[Asked], word: str) -> Asked:
    text = word.join(_inside(part) for part in parts)
    return Asked(text, lambda p, t, w: all(part.matches(p, t, w) for part in parts), True)


def _or(parts: list[Asked], tilde: bool) -> Asked:
    text = " ".join("~" + _inside(part) for part in parts) if tilde else " or ".join(map(_inside, parts))
    return Asked(text, lambda p, t, w: any(part.matches(p, t, w) for part in parts), True)


def _not(part: Asked) -> Asked:
    return Asked("-" + _inside(part), lambda p, t, w: not part.matches(p, t, w))


BY_KEY = {"strict": Thresholds(229), "mild": Thresholds(60, {int(Category.GENERAL): 30})}


def _by_profile(part: Asked, key: str, first: bool) -> Asked:
    """A group that is read by a profile of its own."""
    inner = _inside(part)
    text = f"(profile:{key} {inner})" if first else f"({inner} profile:{key})"
    return Asked(text, lambda p, t, w: part.matches(p, BY_KEY[key], w))


def _grown(parts: st.SearchStrategy[Asked]) -> st.SearchStrategy[Asked]:
    several = st.lists(parts, min_size=2, max_size=4)
    return st.one_of(
        st.builds(_and, several, st.sampled_from([" ", "  and ", " AND "])),
        st.builds(_or, several, st.booleans()),
        parts.map(_not),
        st.builds(_by_profile, parts, st.sampled_from(sorted(BY_KEY)), st.booleans()),
    )


queries = st.recursive(terms, _grown, max_leaves=6)

profiles = st.builds(
    Thresholds,
    overall=st.sampled_from([1, 60, 127, 128, 200, 254]),
    by_category=st.dictionaries(st.sampled_from([int(c) for c in Category]), st.integers(1, 254), max_size=3),
)


def with_overrides(thresholds: Thresholds, by_name: dict[str, int], world: World) -> Thresholds:
    by_tag = {world.tags[name].id: byte for name, byte in by_name.items()}
    return Thresholds(thresholds.overall, thresholds.by_category, by_tag)


overrides = st.dictionaries(st.sampled_from(sorted(TAGS)), st.integers(1, 254), max_size=3)

# order: what to sort by; the id breaks ties in the same direction
ORDER_KEYS: dict[str, tuple[Callable[[MadePost, Thresholds, World], Any], bool]] = {
    "id": (lambda p, t, w: 0, False),
    "id_desc": (lambda p, t, w: 0, True),
    "created": (lambda p, t, w: p.created_at, True),
    "created_at_asc": (lambda p, t, w: p.created_at, False),
    "width": (lambda p, t, w: p.width, True),
    "height_asc": (lambda p, t, w: p.height, False),
    "filesize": (lambda p, t, w: p.file_size, True),
    "mpixels_asc": (lambda p, t, w: p.width * p.height, False),
    "ratio": (lambda p, t, w: p.width / p.height, True),
    "portrait": (lambda p, t, w: p.width / p.height, False),
    "md5": (lambda p, t, w: p.md5, True),
    "tagcount": (lambda p, t, w: _tag_count(p, t, w, set(Category) - {Category.RATING}), True),
    "gentags_asc": (lambda p, t, w: _tag_count(p, t, w, {Category.GENERAL}), False),
    "verdicts": (lambda p, t, w: len(p.verdicts), True),
    "active_children_asc": (lambda p, t, w: sum(each.parent == p.id for each in w.posts), False),
    "yeartags": (lambda p, t, w: _tag_count(p, t, w, {Category.YEAR}), True),
    "score": (lambda p, t, w: 0, True),
    "change": (lambda p, t, w: p.changed_at, True),
    "change_asc": (lambda p, t, w: p.changed_at, False),
    "random_7": (lambda p, t, w: _shuffled(7, p.id), False),
    "random_123456789": (lambda p, t, w: _shuffled(123456789, p.id), False),
}


@functools.cache
def _shuffled(seed: int, post_id: int) -> tuple[int, int]:
    """Where a seed puts a post: by the database's hash of its lot, then of itself."""
    with connection.cursor() as cursor:
        lot = post_id % shuffling.LOTS
        cursor.execute("select hashint8extended(%s, %s), hashint8extended(%s, %s)", [lot, seed, post_id, seed])
        return cursor.fetchone()


def expected_in_order(asked: Asked, order: str, thresholds: Thresholds, world: World) -> list[int]:
    key, descending = ORDER_KEYS[order]
    found = [post for post in world.posts if asked.matches(post, thresholds, world)]
    found.sort(key=lambda post: (key(post, thresholds, world), post.id), reverse=descending)
    return [post.id for post in found]
