"""Record and undo verdicts; one call rebuilds what search reads."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from gallery.index import indexing
from gallery.models import (
    CATEGORY_ORDER,
    NAMES_SENTENCE,
    Category,
    Post,
    Prediction,
    Rating,
    Release,
    Tag,
    TagAlias,
    TagIndex,
    Verdict,
    can_be_asked,
    typed_name,
)
from gallery.profiles import Thresholds

logger = logging.getLogger(__name__)

_CATEGORIES = {category.label: category for category in Category} | {
    "gen": Category.GENERAL,
    "art": Category.ARTIST,
    "copy": Category.COPYRIGHT,
    "char": Category.CHARACTER,
}


class BadTag(ValueError):
    """A text that can't be a tag; one sentence for the person who typed it."""


@dataclass(frozen=True)
class PostTag:
    """One tag of one post, as the post page shows it."""

    tag: Tag
    category: Category
    confidence: int | None  # byte; what the model or an implication says, None when neither does
    on: bool
    verdict: bool | None
    implied: bool  # only an implication brings it


@dataclass(frozen=True)
class Said:
    """What one release said of a post: its surest tags with their bytes, and how many more it named."""

    prediction: Prediction
    tags: list[tuple[Tag, int]]
    more: int


@transaction.atomic
def record(
    post: Post, tag: Tag, answer: bool, user: AbstractBaseUser | None, origin: str = Verdict.Origin.PERSON
) -> Verdict:
    """Store a person's yes or no of one tag on one post; it replaces their or another's earlier one.

    A yes to a rating takes the yes of every other rating away. An alias's tag gets the verdict.
    """
    _lock(post)
    tag = canonical(tag)
    release_id, seen = _seen(post, tag)
    if answer and tag.category == Category.RATING:
        Verdict.objects.filter(post=post, tag__category=Category.RATING, answer=True).exclude(tag=tag).delete()
    verdict, _ = Verdict.objects.update_or_create(
        post=post,
        tag=tag,
        defaults={"answer": answer, "user": user, "release_id": release_id, "confidence": seen, "origin": origin}
        | {"merged_from": None},
    )
    indexing.rebuild([post.pk])
    return verdict


@transaction.atomic
def undo(post: Post, tag: Tag, user: AbstractBaseUser | None) -> None:
    """Take the verdict back, one given under an alias too: the tag is again what the model says."""
    _lock(post)
    judged = list(Verdict.objects.filter(post=post).values_list("tag_id", flat=True))
    rules = indexing.Rules.about([tag.pk, *judged])
    same = [tag_id for tag_id in judged if rules.canonical(tag_id) == rules.canonical(tag.pk)]
    count, _ = Verdict.objects.filter(post=post, tag__in=same).delete()
    if count:
        logger.info("%s took back the verdict of tag %s on post %s", user, tag.pk, post.pk)
        indexing.rebuild([post.pk])


def add(post: Post, text: str, user: AbstractBaseUser | None) -> Tag:
    """Say yes to the tag that a person typed, as `name` or `category:name`; unknown names make a tag."""
    tag = named(text)
    record(post, tag, True, user)
    return tag


def named(text: str) -> Tag:
    """The tag of a typed text, made when there is none; an existing name keeps its category. Raises BadTag."""
    name, category = _parse(text)
    if alias := TagAlias.objects.filter(name=name).select_related("tag").first():
        return alias.tag
    return Tag.objects.get_or_create(name=name, defaults={"category": category})[0]


def canonical(tag: Tag) -> Tag:
    """The tag that counts: the alias's target when this one's name is an alias, through chains."""
    target = indexing.Rules.about([tag.pk]).canonical(tag.pk)
    return tag if target == tag.pk else Tag.objects.get(pk=target)


def _parse(text: str) -> tuple[str, Category]:
    name, category = typed_name(text), Category.GENERAL
    prefix, colon, rest = name.partition(":")
    if colon and prefix in _CATEGORIES:
        name, category = rest.strip("_"), _CATEGORIES[prefix]
    if category == Category.RATING or name.startswith("rating_"):
        return _rating_name(name.removeprefix("rating_")), Category.RATING
    if category == Category.YEAR or re.fullmatch(r"year_\d+", name):
        return _year_name(name.removeprefix("year_")), Category.YEAR
    if not name:
        raise BadTag("Type the name of a tag.")
    if len(name) > 200:
        raise BadTag("The name of a tag has at most 200 characters.")
    if not can_be_asked(name):
        raise BadTag(NAMES_SENTENCE)
    return name, category


def _rating_name(text: str) -> str:
    for rating in Rating:
        if text and rating.label.startswith(text):
            return rating.tag_name
    raise BadTag("A rating is general, sensitive, questionable or explicit.")


def _year_name(text: str) -> str:
    if not re.fullmatch(r"\d{4}", text):
        raise BadTag("A year has four digits, as in year:2021.")
    return f"year_{text}"


def _lock(post: Post) -> None:
    """Let no other verdict on this post in between: both would rebuild the same row."""
    Post.objects.select_for_update(no_key=True).only("pk").get(pk=post.pk)


def _seen(post: Post, tag: Tag) -> tuple[int | None, int | None]:
    """Release and confidence byte of what the person could see of this tag."""
    for prediction in indexing.current_predictions([post.pk]):
        return prediction.release_id, indexing.unpack(prediction).get(tag.pk)
    return None, None


def tags_of(post: Post, thresholds: Thresholds, row: TagIndex | None = None) -> list[PostTag]:
    """The tags of a post that are predicted, verified or rejected, in the order pages list them.

    `row` is its row of the index, if that was read with the post.
    """
    row = row or TagIndex.objects.filter(post=post).first() or TagIndex()
    index = dict(zip(row.tag_ids, bytes(row.confidences)[1:], strict=True))
    # What the release said is what the index says, unless that was overruled.
    said = index | {entry >> 8: entry & 255 for entry in row.overruled or ()}
    predicted = {tag_id: byte for tag_id, byte in said.items() if byte}
    verdicts = indexing.answers_of([post.pk]).get(post.pk, {})
    tags = Tag.objects.defer("histogram").filter(id__in={*index, *verdicts})
    found = [_post_tag(tag, thresholds, index, predicted, verdicts) for tag in tags]
    place = {category: number for number, category in enumerate(CATEGORY_ORDER)}
    return sorted(found, key=lambda t: (place[t.category], -index.get(t.tag.pk, 0), t.tag.name))


def _post_tag(
    tag: Tag, thresholds: Thresholds, index: dict[int, int], predicted: dict[int, int], verdicts: dict[int, bool]
) -> PostTag:
    verdict, byte = verdicts.get(tag.pk), index.get(tag.pk, 0)
    category = Category(tag.category)
    return PostTag(
        tag=tag,
        category=category,
        confidence=predicted.get(tag.pk) if verdict is not None else byte,
        on=byte >= thresholds.byte(tag.pk, category),
        verdict=verdict,
        implied=verdict is None and tag.pk not in predicted,
    )


def said_of(post: Post, most: int = 20, known: Iterable[Tag] = ()) -> list[Said]:
    """What each release said of a post, the newest first, whatever people said since; `known` are not read again."""
    rows = post.predictions.select_related("release").defer(*Release.bulk("release__"))
    rows = list(rows.order_by("-created_at", "-id"))
    surest = [sorted(indexing.unpack(row).items(), key=lambda item: (-item[1], item[0]))[:most] for row in rows]
    tags = {tag.pk: tag for tag in known}
    if missing := {tag_id for named in surest for tag_id, _ in named} - tags.keys():
        tags |= Tag.objects.defer("histogram").in_bulk(missing)
    return [
        Said(row, [(tags[tag_id], byte) for tag_id, byte in named], len(row.tag_ids) - len(named))
        for row, named in zip(rows, surest, strict=True)
    ]
