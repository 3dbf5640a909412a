"""The metatags: what may stand before a colon. A new one is one line in the table at the end.

Each field reads its value without the database, so that a bad value is found while parsing, and
makes a condition of it when the search runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from gallery.models import Category, Post, Rating, TaggingState
from gallery.search import values
from gallery.search.absent import ABSENT_METATAGS
from gallery.search.alike import SIMILAR
from gallery.search.errors import did_you_mean, nearest
from gallery.search.families import CHILD, HAS_CHILD, HAS_PARENT, PARENT, child_count_sql
from gallery.search.layers import (
    VERDICT,
    any_matching,
    judged,
    named_tag,
    of_release,
    predicted,
    tag_and_confidence,
    tag_count,
    tagged,
    verdicts,
)
from gallery.search.names import like_pattern
from gallery.search.orders import OFFERED, read_order
from gallery.search.predicates import EVERY_POST, NOTHING, Condition, Predicate, Rated, both, either, neither
from gallery.search.tagcounts import VERDICT_COUNT
from gallery.search.terms import Context, Field, choice, choices, each_of, named, not_here, something
from gallery.search.values import BadValue, Range, Ranges, Reader, Sql, any_sql, read_ranges

MAX_LIMIT = 200
_RATING_WORDS = {
    **{rating.label: int(rating) for rating in Rating},
    **{rating.label[0]: int(rating) for rating in Rating},
    "safe": int(Rating.SENSITIVE),
    "none": None,
}
_FILE_TYPES = ("jpg", "png", "gif", "webp", "avif")
# Danbooru's, which no post has here.
_OTHER_FILE_TYPES = ("mp4", "webm", "swf", "zip")
_OTHER_STATUS = ("pending", "flagged", "appealed", "banned", "modqueue", "unmoderated")
_OTHER_IS = ("wiki_image", *_OTHER_FILE_TYPES, *_OTHER_STATUS)
_OTHER_HAS = ("appeals", "flags", "replacements", "comments", "commentary", "notes", "pools")
_DAYS = ("today", "yesterday")
_PEOPLE = 1000  # names that a misspelt one is compared with
_EVERY = frozenset(Rating) | {None}


def _number(
    expression: str, reader: Reader, sampled: str = "", selective: bool = False, words: tuple[str, ...] = ()
) -> Field:
    """A number or time in one column; `sampled` is the column of the sample that holds it."""

    def condition(ranges: Ranges, context: Context) -> Predicate:
        return Condition(any_sql([each.sql(expression) for each in ranges]), sampled, ranges, selective)

    return Field(partial(read_ranges, reader=reader), condition, words)


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


def _ratings(text: str) -> frozenset[int | None]:
    words = {**{word: {rating} for word, rating in _RATING_WORDS.items()}, "any": _EVERY - {None}}
    return frozenset().union(*each_of(text, partial(choice, words)))


def _text(column: str, what: str) -> Field:
    """A text of the post: its beginning, or a pattern with `*`; `none` and `any`."""

    def condition(text: str, context: Context) -> Predicate:
        if text.lower() in ("none", "any"):
            return Condition(Sql(f"{column} {'=' if text.lower() == 'none' else '<>'} ''"))
        pattern = like_pattern(text if "*" in text else text + "*")
        return Condition(Sql(f"{column} ilike %s", (pattern,)))

    return Field(partial(something, what), condition, ("none", "any"))


def _file_name(text: str, context: Context) -> Predicate:
    """Of names that files had before they came here, people find those of their own uploads, the staff all."""
    named = _FILE_NAME.condition(text, context)
    if getattr(context.viewer, "is_staff", False):
        return named
    uploader = getattr(context.viewer, "pk", None) or 0
    remedy = "yours were searched" if uploader else "sign in first"
    context.names.note(f"File names are known to the staff and to who uploaded them: {remedy}.")
    return both([named, Condition(Sql("coalesce(p.uploader_id = %s, false)", (uploader,)))])


def _uploader(name: str, context: Context) -> Predicate:
    if name.lower() in ("none", "any"):
        return Condition(Sql(f"p.uploader_id is {'not ' if name.lower() == 'any' else ''}null"))
    called = _called(name, context)
    return Condition(Sql(f"coalesce(p.uploader_id in ({called.text}), false)", called.params))


def _judge(name: str, context: Context) -> Predicate:
    """Posts on which this person gave a verdict."""
    verdict = "exists (select from verdict v where v.post_id = i.post_id and v.user_id"
    if name.lower() in ("none", "any"):
        some = Condition(Sql(f"{verdict} is not null)"))
        return some if name.lower() == "any" else neither(some)
    called = _called(name, context)
    return Condition(Sql(f"{verdict} in ({called.text}))", called.params))


def uploaders() -> QuerySet[AbstractBaseUser]:
    """Who uploaded something, by name. One post of each is looked up: a join would read all that they have."""
    theirs = Post.objects.filter(uploader=OuterRef("pk")).order_by()
    users = get_user_model().objects.annotate(a_post=Subquery(theirs.values("pk")[:1]))
    return users.filter(a_post__isnull=False).order_by("username")


def _called(name: str, context: Context) -> Sql:
    """The ids of people of that name, or pattern; if there is nobody, that is said."""
    users = get_user_model().objects
    if "*" not in name and not users.filter(username__iexact=name).exists():
        near = nearest(name, uploaders().values_list("username", flat=True)[:_PEOPLE])
        context.names.note(f"Nobody here is called {name}.{did_you_mean(near)}")
    table = get_user_model()._meta.db_table
    return Sql(f"select id from {table} where username ilike %s", (like_pattern(name),))


def _checksum(column: str, digits: int, what: str) -> Field:
    """Files by a checksum, or a list of them."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(part.strip().lower() for part in text.split(","))
        if any(len(part) != digits or set(part) - set("0123456789abcdef") for part in found):
            raise BadValue(f"give the {digits} hexadecimal digits of a file's {what}")
        return found

    return Field(
        read, lambda found, context: Condition(Sql(f"{column} = any(%s)", (found,)), selective=True), offered=False
    )


def _absent(name: str) -> Field:
    def condition(value: str, context: Context) -> Predicate:
        nothing = not_here(f"{name}:", context)
        return EVERY_POST if value.lower() == "none" else nothing

    return Field(str, condition, ("none",), offered=False)


def _limit(example: str, text: str) -> int:
    try:
        number = values.whole(text).start
    except BadValue:
        number = 0
    if not number >= 1:
        raise BadValue(f"give a number of posts, as in {example}")
    return number


def _seed(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadValue("give a whole number of up to nine digits, as in randseed:5")
    return int(text)


def _shape(read: Callable[[str], Any], words: tuple[str, ...] = ()) -> Field:
    return Field(read, lambda value, context: EVERY_POST, words, shape=True)


def _file_type(ext: str) -> Condition:
    return Condition(Sql("p.ext = any(%s)", (("jpg", "jpeg") if ext in ("jpg", "jpeg") else (ext,),)))


def _file_types(text: str) -> tuple[str, ...]:
    def read(part: str) -> str:
        if part not in (*_FILE_TYPES, "jpeg", *_OTHER_FILE_TYPES):
            raise BadValue(f"give one of {', '.join(_FILE_TYPES)}.", nearest(part, _FILE_TYPES))
        return part

    return tuple(each_of(text.lower(), read))


def _status(word: str, context: Context) -> Predicate:
    """Posts are active or deleted; what else Danbooru has finds nothing."""
    if word in ("any", "all"):
        return EVERY_POST
    if word in ("active", "deleted"):
        return Condition(Sql("p.status = %s", (word,))) if context.deleted else _STATUS[word]
    return not_here(f"status:{word}", context)


def _is(word: str, context: Context) -> Predicate:
    if word in _STATUS:
        return _status(word, context)
    return not_here(f"is:{word}", context) if _IS[word] == NOTHING else _IS[word]


def _has(word: str, context: Context) -> Predicate:
    return not_here(f"has:{word}", context) if _HAS[word] == NOTHING else _HAS[word]


def _of_types(found: tuple[str, ...], context: Context) -> Predicate:
    others = {ext: not_here(f"filetype:{ext}", context) for ext in found if ext in _OTHER_FILE_TYPES}
    return either(others.get(ext) or _file_type(ext) for ext in found)


_STATUS: dict[str, Predicate] = {
    **dict.fromkeys(("active", "any", "all"), EVERY_POST),
    **dict.fromkeys(("deleted", *_OTHER_STATUS), NOTHING),
}
_IS: dict[str, Predicate] = {
    "animated": Condition(Sql("p.animated")),
    **{state.value: Condition(Sql("p.tagging_state = %s", (state.value,))) for state in TaggingState},
    **{word: Rated(frozenset({rating})) for word, rating in _RATING_WORDS.items() if rating is not None},
    "sfw": Rated(frozenset({int(Rating.GENERAL), int(Rating.SENSITIVE)})),
    "nsfw": Rated(frozenset({int(Rating.QUESTIONABLE), int(Rating.EXPLICIT)})),
    **{ext: _file_type(ext) for ext in (*_FILE_TYPES, "jpeg")},
    "parent": HAS_CHILD,
    "child": HAS_PARENT,
    **dict.fromkeys(_OTHER_IS, NOTHING),
    **{word: predicate for word, predicate in _STATUS.items() if word not in ("any", "all")},
}
_HAS: dict[str, Predicate] = {
    "source": Condition(Sql("p.source <> ''")),
    "credit": Condition(Sql("p.credit <> ''")),
    "verdicts": VERDICT["any"],
    "parent": HAS_PARENT,
    **dict.fromkeys(("child", "children"), HAS_CHILD),
    **dict.fromkeys(_OTHER_HAS, NOTHING),
}

_FILE_NAME = _text("p.file_name", "the beginning of a file's name, or none")
_USER = Field(partial(something, "the name of a user, or none"), _uploader, ("none", "any"))

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
    **{name: _absent(name) for name in ABSENT_METATAGS},
    "id": _number(SAMPLED["id"], values.whole, "id", selective=True),
    "width": _number(SAMPLED["width"], values.whole, "width"),
    "height": _number(SAMPLED["height"], values.whole, "height"),
    "mpixels": _number(SAMPLED["mpixels"], values.decimal, "mpixels"),
    "ratio": _number(SAMPLED["ratio"], values.ratio, "ratio"),
    "filesize": _number(SAMPLED["filesize"], values.file_size, "filesize"),
    "date": _number("p.created_at", values.day, "created_at", words=_DAYS),
    "age": Field(partial(read_ranges, reader=values.age), _age, ("<1d", "<1w", "<1mo", "<1y")),
    "change": _number("i.updated_at", values.day, words=_DAYS),
    "tagged": Field(partial(read_ranges, reader=values.day), tagged, _DAYS),
    "judged": Field(partial(read_ranges, reader=values.day), judged, _DAYS),
    "md5": _checksum("p.md5", 32, "md5"),
    "sha256": _checksum("p.sha256", 64, "sha256"),
    "rating": Field(_ratings, lambda found, context: Rated(found), (*(r.label for r in Rating), "none")),
    "filetype": Field(_file_types, _of_types, _FILE_TYPES),
    "source": _text("p.source", "the beginning of a source, or none"),
    "credit": _text("p.credit", "the beginning of a credit line, or none"),
    "filename": replace(_FILE_NAME, condition=_file_name),
    "parent": PARENT,
    "child": CHILD,
    **dict.fromkeys(("child_count", "children"), _number(child_count_sql(), values.whole)),
    **dict.fromkeys(("active_child_count", "active_children"), _number(child_count_sql("active"), values.whole)),
    **dict.fromkeys(("deleted_child_count", "deleted_children"), _number(child_count_sql("deleted"), values.whole)),
    "user": _USER,
    "uploader": _USER,
    "judge": Field(partial(something, "the name of a user, or none"), _judge, ("none", "any")),
    "status": named(_status, tuple(_STATUS), _OTHER_STATUS),
    "is": named(_is, tuple(_IS), _OTHER_IS),
    "has": named(_has, tuple(_HAS), _OTHER_HAS),
    "ai": Field(tag_and_confidence, predicted, tags=lambda value: (value[0],), takes_tag=True),
    "human": verdicts(True),
    "rejected": verdicts(False),
    "verdict": choices(VERDICT),
    **dict.fromkeys(("verdict_count", "verdicts"), _number(VERDICT_COUNT, values.whole)),
    "similar": SIMILAR,
    "release": Field(partial(something, "the name of a release, or none"), of_release, ("none", "any")),
    "tagcount": tag_count(*(category for category in Category if category != Category.RATING)),
    "gentags": tag_count(Category.GENERAL),
    "arttags": tag_count(Category.ARTIST),
    "copytags": tag_count(Category.COPYRIGHT),
    "chartags": tag_count(Category.CHARACTER),
    "metatags": tag_count(Category.META),
    "yeartags": tag_count(Category.YEAR),
    "tag": named_tag(),
    "wildcard": Field(partial(something, "the name of a tag with * in it"), any_matching, offered=False),
    "unaliased": named_tag(aliased=False),
    **{category.label: named_tag(category) for category in Category if category != Category.RATING},
    "profile": Field(partial(something, "the name of a profile"), lambda name, context: EVERY_POST),
    "search": Field(partial(something, "the name of a saved search, or all"), lambda name, context: NOTHING, ("all",)),
    "order": _shape(read_order, OFFERED),
    "limit": _shape(partial(_limit, "limit:40"), ("20", "40", "100", "200")),
    "random": _shape(partial(_limit, "random:5"), ("1", "20")),
    "randseed": replace(_shape(_seed), offered=False),  # e621's
}


def is_metatag(name: str) -> bool:
    return name.lower() in FIELDS
