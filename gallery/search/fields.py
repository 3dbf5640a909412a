"""The metatags: what may stand before a colon. A new one is one line in the table at the end.

Each field reads its value without the database, so that a bad value is found while parsing, and
makes a condition of it when the search runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from gallery.models import Category, Rating, TaggingState
from gallery.profiles import SCALE, Thresholds
from gallery.search import values
from gallery.search.absent import ABSENT_METATAGS
from gallery.search.errors import did_you_mean
from gallery.search.names import Names, like_pattern
from gallery.search.orders import ORDERS, read_order
from gallery.search.predicates import (
    EVERY_POST,
    NOTHING,
    Condition,
    On,
    Predicate,
    Rated,
    either,
    neither,
)
from gallery.search.tagcounts import on_count_sql
from gallery.search.values import BadValue, Range, Ranges, Reader, Sql, any_sql, read_ranges

MAX_LIMIT = 200
_RATING_WORDS = {
    **{rating.label: int(rating) for rating in Rating},
    **{rating.label[0]: int(rating) for rating in Rating},
    "safe": int(Rating.SENSITIVE),
    "none": None,
}
_FILE_TYPES = ("jpg", "png", "gif", "webp", "avif")
_EVERY = frozenset(Rating) | {None}


@dataclass(frozen=True)
class Context:
    """What a condition may ask: tags by name, the thresholds, and who is looking."""

    names: Names
    thresholds: Thresholds


@dataclass(frozen=True)
class Field:
    """`read` turns the text of a value into what `condition` wants, or raises BadValue.

    `words` are offered while typing, and the field itself if `offered`; `tags` says which tag names
    a value speaks of. A field of `shape` is not a condition: it orders or limits the whole list.
    """

    read: Callable[[str], Any]
    condition: Callable[[Any, Context], Predicate]
    words: tuple[str, ...] = ()
    tags: Callable[[Any], tuple[str, ...]] = field(default=lambda value: ())
    takes_tag: bool = False
    shape: bool = False
    offered: bool = True


def _number(expression: str, reader: Reader, sampled: str = "", selective: bool = False) -> Field:
    """A number or time in one column; `sampled` is the column of the sample that holds it."""

    def condition(ranges: Ranges, context: Context) -> Predicate:
        return Condition(any_sql([each.sql(expression) for each in ranges]), sampled, ranges, selective)

    return Field(partial(read_ranges, reader=reader), condition)


def _age(ranges: Ranges, context: Context) -> Predicate:
    """Older is earlier: the ends change places."""
    now = timezone.now().timestamp()
    turned = tuple(
        Range(
            low=None if each.high is None else now - each.high,
            high=None if each.low is None else now - each.low,
            low_in=each.high_in,
            high_in=each.low_in,
        )
        for each in ranges
    )
    return Condition(any_sql([each.sql("extract(epoch from p.created_at)") for each in turned]), "created_at", turned)


def _tag_count(*categories: Category) -> Field:
    """How many tags of these categories are on for the profile."""

    def condition(ranges: Ranges, context: Context) -> Predicate:
        expression = on_count_sql(context.thresholds, categories)
        return Condition(any_sql([each.sql(expression) for each in ranges]))

    return Field(partial(read_ranges, reader=values.whole), condition)


def _choice(words: dict[str, Any], value: str) -> Any:
    """The meaning of one word of a closed list."""
    word = value.lower()
    if word not in words:
        listed = ", ".join(name for name in words if len(name) > 1)
        raise BadValue(f"give one of {listed}.{did_you_mean(word, words)}".removesuffix("."))
    return words[word]


def _choices(predicates: dict[str, Predicate]) -> Field:
    return Field(partial(_choice, predicates), lambda predicate, context: predicate, tuple(predicates))


def _ratings(text: str) -> frozenset[int | None]:
    words = {**{word: {rating} for word, rating in _RATING_WORDS.items()}, "any": _EVERY - {None}}
    return frozenset().union(*(_choice(words, part.strip()) for part in text.split(",")))


def _text(column: str, what: str) -> Field:
    """A text of the post: its beginning, or a pattern with `*`; `none` and `any`."""

    def condition(text: str, context: Context) -> Predicate:
        if text.lower() in ("none", "any"):
            return Condition(Sql(f"{column} {'=' if text.lower() == 'none' else '<>'} ''"))
        pattern = like_pattern(text if "*" in text else text + "*")
        return Condition(Sql(f"{column} ilike %s", (pattern,)))

    return Field(partial(_something, what), condition, ("none", "any"))


def _something(what: str, text: str) -> str:
    if not text:
        raise BadValue(f"give {what}")
    return text


def _user(name: str, context: Context) -> Predicate:
    if name.lower() in ("none", "any"):
        return Condition(Sql(f"p.uploader_id is {'not ' if name.lower() == 'any' else ''}null"))
    table = get_user_model()._meta.db_table
    where = f"coalesce(p.uploader_id in (select id from {table} where username ilike %s), false)"
    return Condition(Sql(where, (like_pattern(name),)))


def _md5s(text: str) -> tuple[str, ...]:
    found = tuple(part.strip().lower() for part in text.split(","))
    if any(len(part) != 32 or set(part) - set("0123456789abcdef") for part in found):
        raise BadValue("give the 32 hexadecimal digits of a file's md5")
    return found


def _md5(found: tuple[str, ...], context: Context) -> Predicate:
    return Condition(Sql("p.md5 = any(%s)", (found,)), selective=True)


def _tag_name(text: str) -> str:
    return _something("the name of a tag", text.lower())


def _verdicts(answer: bool) -> Field:
    """Posts on which a person said yes, or no, to a tag."""

    def condition(name: str, context: Context) -> Predicate:
        if not (ids := context.names.ids(name)):
            return NOTHING
        where = "i.post_id in (select v.post_id from verdict v where v.tag_id = any(%s) and v.answer = %s)"
        return Condition(Sql(where, (tuple(ids), answer)), selective=True)

    return Field(_tag_name, condition, tags=lambda name: (name,), takes_tag=True)


def _some_verdict(where: str) -> Condition:
    return Condition(Sql(f"exists (select from verdict v where v.post_id = i.post_id{where})"))


def _tag_and_confidence(text: str) -> tuple[str, Ranges]:
    """`tag`, meaning 50 % or more, or `tag,>90%`."""
    name, comma, confidence = text.rpartition(",")
    if not comma:
        return _tag_name(text), (Range(low=SCALE // 2),)
    ranges = read_ranges(confidence, values.percent)
    return _tag_name(name), tuple(
        Range(
            low=None if each.low is None else round(each.low * SCALE, 6),
            high=None if each.high is None else round(each.high * SCALE, 6),
            low_in=each.low_in,
            high_in=each.high_in,
        )
        for each in ranges
    )


def _predicted(value: tuple[str, Ranges], context: Context) -> Predicate:
    """What the release said, whatever people and thresholds say: 0 when it said nothing of the tag."""
    name, ranges = value
    if not (ids := context.names.ids(name)):
        return NOTHING
    # Predictions have no leading byte, unlike the index; the newest stands in for a missing active one.
    byte = "(case when idx(x.tag_ids, %s) = 0 then 0 else get_byte(x.confidences, idx(x.tag_ids, %s) - 1) end)"
    best = f"greatest({', '.join([byte] * len(ids))})"
    params = tuple(tag_id for tag_id in ids for _ in range(2))
    expression = (
        f"coalesce((select {best} from prediction x where x.post_id = i.post_id"
        " order by x.release_id = %s desc, x.created_at desc, x.id desc limit 1), 0)"
    )
    params = (*params, context.names.active_release_id() or 0)
    parts = [each.sql(expression) for each in ranges]
    filled = [Sql(part.text, _interleaved(part, params)) for part in parts]
    return Condition(any_sql(filled))


def _interleaved(part: Sql, params: tuple[Any, ...]) -> tuple[Any, ...]:
    """The expression's own parameters before each end of the range that it is compared with."""
    return tuple(value for end in part.params for value in (*params, end))


def _release(name: str, context: Context) -> Predicate:
    if name.lower() in ("none", "any"):
        some = Condition(Sql("exists (select from prediction x where x.post_id = i.post_id)"))
        return some if name.lower() == "any" else neither(some)
    where = (
        "exists (select from prediction x join release r on r.id = x.release_id"
        " where x.post_id = i.post_id and r.name = %s)"
    )
    return Condition(Sql(where, (name.lower(),)))


def _tag(category: Category | None = None, aliased: bool = True) -> Field:
    """A tag by its whole name, of one category if one is given."""

    def condition(name: str, context: Context) -> Predicate:
        known = context.names.find(name, aliased=aliased)
        if known is None or category not in (None, known.category):
            if known:
                context.names.note(f"{known.name} is no {category.label} tag but {Category(known.category).label}.")
            return NOTHING
        return tag_predicate(known.id, known.name, known.category, context.thresholds)

    return Field(_tag_name, condition, tags=lambda name: (name,), takes_tag=True)


def tag_predicate(tag_id: int, name: str, category: int, thresholds: Thresholds) -> Predicate:
    """The tag is on; of a rating tag, the post has that rating."""
    if category == Category.RATING:
        of_name = {rating.tag_name: int(rating) for rating in Rating}
        if name in of_name:
            return Rated(frozenset({of_name[name]}))
    return On(tag_id, thresholds.byte(tag_id, category))


def _absent(reason: str, words: tuple[str, ...] = ()) -> Field:
    """What Danbooru has and this site does not: finds nothing, and says so."""

    def condition(value: str, context: Context) -> Predicate:
        context.names.note(reason)
        return EVERY_POST if value.lower() == "none" else NOTHING

    return Field(str, condition, words, offered=False)


def _limit(text: str) -> int:
    number = values.whole(text).start
    if not number >= 1:
        raise BadValue("give a number of posts, as in limit:40")
    return number


def _shape(read: Callable[[str], Any], words: tuple[str, ...] = ()) -> Field:
    return Field(read, lambda value, context: EVERY_POST, words, shape=True)


def _file_type(ext: str) -> Condition:
    return Condition(Sql("p.ext = any(%s)", (("jpg", "jpeg") if ext in ("jpg", "jpeg") else (ext,),)))


def _file_types(text: str) -> tuple[str, ...]:
    found = tuple(part.strip().lower() for part in text.split(","))
    if any(not part.isalnum() for part in found):
        raise BadValue(f"give a file type, such as {', '.join(_FILE_TYPES)}")
    return found


_STATUS: dict[str, Predicate] = {
    **dict.fromkeys(("active", "any", "all"), EVERY_POST),
    **dict.fromkeys(("deleted", "pending", "flagged", "appealed", "banned", "modqueue", "unmoderated"), NOTHING),
}
_IS: dict[str, Predicate] = {
    "animated": Condition(Sql("p.animated")),
    **{state.value: Condition(Sql("p.tagging_state = %s", (state.value,))) for state in TaggingState},
    **{rating.label: Rated(frozenset({int(rating)})) for rating in Rating},
    "sfw": Rated(frozenset({int(Rating.GENERAL), int(Rating.SENSITIVE)})),
    "nsfw": Rated(frozenset({int(Rating.QUESTIONABLE), int(Rating.EXPLICIT)})),
    **{ext: _file_type(ext) for ext in (*_FILE_TYPES, "jpeg")},
    **dict.fromkeys(("parent", "child", "wiki_image", "mp4", "webm", "swf", "zip"), NOTHING),
    **{word: predicate for word, predicate in _STATUS.items() if word not in ("any", "all")},
}
_HAS: dict[str, Predicate] = {
    "source": Condition(Sql("p.source <> ''")),
    **dict.fromkeys(("parent", "child", "children", "appeals", "flags", "replacements"), NOTHING),
    **dict.fromkeys(("comments", "commentary", "notes", "pools"), NOTHING),
}
_VERDICT: dict[str, Predicate] = {
    "yes": _some_verdict(" and v.answer"),
    "no": _some_verdict(" and not v.answer"),
    "any": _some_verdict(""),
    "none": neither(_some_verdict("")),
}

_USER = Field(partial(_something, "the name of a user, or none"), _user, ("none", "any"))

# Fields whose numbers the sample holds, too: column of the sample, expression over tag_index and post.
SAMPLED: dict[str, str] = {
    "id": "i.post_id",
    "width": "p.width",
    "height": "p.height",
    "mpixels": "p.width::float8 * p.height / 1000000",
    "ratio": "round(p.width::numeric / greatest(p.height, 1), 2)::float8",
    "filesize": "p.file_size",
    "created_at": "extract(epoch from p.created_at)::float8",
}

FIELDS: dict[str, Field] = {
    **{name: _absent(f"This site keeps nothing that {name}: could find.", ("none",)) for name in ABSENT_METATAGS},
    "id": _number(SAMPLED["id"], values.whole, "id", selective=True),
    "width": _number(SAMPLED["width"], values.whole, "width"),
    "height": _number(SAMPLED["height"], values.whole, "height"),
    "mpixels": _number(SAMPLED["mpixels"], values.decimal, "mpixels"),
    "ratio": _number(SAMPLED["ratio"], values.ratio, "ratio"),
    "filesize": _number(SAMPLED["filesize"], values.file_size, "filesize"),
    "date": _number("p.created_at", values.day, "created_at"),
    "age": Field(partial(read_ranges, reader=values.age), _age, ("<1d", "<1w", "<1mo", "<1y")),
    "md5": Field(_md5s, _md5),
    "rating": Field(_ratings, lambda found, context: Rated(found), (*(r.label for r in Rating), "none")),
    "filetype": Field(_file_types, lambda found, context: either(map(_file_type, found)), _FILE_TYPES),
    "source": _text("p.source", "the beginning of a source, or none"),
    "user": _USER,
    "uploader": _USER,
    "status": _choices(_STATUS),
    "is": _choices(_IS),
    "has": _choices(_HAS),
    "ai": Field(_tag_and_confidence, _predicted, tags=lambda value: (value[0],), takes_tag=True),
    "human": _verdicts(True),
    "rejected": _verdicts(False),
    "verdict": _choices(_VERDICT),
    "release": Field(partial(_something, "the name of a release, or none"), _release, ("none", "any")),
    "tagcount": _tag_count(*(category for category in Category if category != Category.RATING)),
    "gentags": _tag_count(Category.GENERAL),
    "arttags": _tag_count(Category.ARTIST),
    "copytags": _tag_count(Category.COPYRIGHT),
    "chartags": _tag_count(Category.CHARACTER),
    "metatags": _tag_count(Category.META),
    "tag": _tag(),
    "unaliased": _tag(aliased=False),
    **{category.label: _tag(category) for category in Category if category != Category.RATING},
    "order": _shape(read_order, tuple(ORDERS)),
    "limit": _shape(_limit, ("20", "40", "100", "200")),
    "random": _shape(_limit, ("1", "20")),
}


def is_metatag(name: str) -> bool:
    return name.lower() in FIELDS
