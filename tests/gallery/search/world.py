"""Made posts for the tests of search: rows straight in the tables, and the same as plain objects."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection

from gallery.index import indexing
from gallery.likeness import features
from gallery.models import Category, Post, Prediction, Rating, Release, Tag, TagAlias, TagImplication, TagIndex, Verdict

TAGS = {
    "1girl": Category.GENERAL,
    "solo": Category.GENERAL,
    "blue_hair": Category.GENERAL,
    "blue_eyes": Category.GENERAL,
    "red_hair": Category.GENERAL,
    ":)": Category.GENERAL,
    "or": Category.GENERAL,
    "re:zero": Category.COPYRIGHT,
    "fate": Category.COPYRIGHT,
    "saber_(fate)": Category.CHARACTER,
    "100%_orange": Category.ARTIST,
    "wada": Category.ARTIST,
    "highres": Category.META,
    "year_2021": Category.YEAR,
    **{rating.tag_name: Category.RATING for rating in Rating},
}
ALIASES = {"azure_hair": "blue_hair", "saber": "saber_(fate)"}
UNUSED = "old_azure"  # a tag that is now an alias of blue_eyes, and still in old predictions
IMPLICATIONS = {"saber_(fate)": ["fate"], "fate": ["re:zero"], "blue_hair": ["blue_eyes"], "wada": ["highres"]}
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass
class MadePost:
    """One post as the slow reference sees it; `tags` maps names to index bytes, `predicted` to the release's."""

    id: int
    md5: str
    ext: str
    width: int
    height: int
    file_size: int
    animated: bool
    source: str
    uploader: str
    created_at: datetime
    rating: int | None
    tags: dict[str, int]
    predicted: dict[str, int]
    verdicts: dict[str, bool]
    changed_at: datetime
    parent: int | None = None
    credit: str = ""
    tagged_at: datetime = EPOCH
    judged_at: datetime = EPOCH
    judge: str = ""
    direction: np.ndarray | None = None  # of length 1, as the release sees the picture


@dataclass
class World:
    posts: list[MadePost] = field(repr=False)
    tags: dict[str, Tag] = field(default_factory=dict, repr=False)


def make_world(size: int, seed: int = 1, spread: int = 1) -> World:
    """`size` random posts with predictions, verdicts and index rows; their ids are `spread` times as far apart."""
    chance = random.Random(seed)
    rows = [Tag(name=name, category=category) for name, category in TAGS.items()] + [Tag(name=UNUSED)]
    tags = {tag.name: tag for tag in Tag.objects.bulk_create(rows)}
    TagAlias.objects.create(name=UNUSED, tag=tags["blue_eyes"])
    for name, target in ALIASES.items():
        TagAlias.objects.create(name=name, tag=tags[target])
    for name, implied in IMPLICATIONS.items():
        for each in implied:
            TagImplication.objects.create(tag=tags[name], implied=tags[each])
    users = {name: User.objects.create(username=name) for name in ("anna", "Bert_x")}
    release = Release.objects.create(name="starter", title="s", folder="", config={}, tag_ids=[], active=True)
    cache.clear()  # other worlds have the same numbers
    world = World([_made(number, chance, spread) for number in range(1, size + 1)], tags)
    for made in world.posts[5:]:
        if made.id % 4 == 0:
            made.parent = world.posts[made.id % 5].id
    for number, made in enumerate(world.posts):
        made.credit = ("", "by Anna, CC0", "by bert")[number % 3]
        made.tagged_at = made.created_at + timedelta(days=number % 50)
        made.judged_at = made.tagged_at + timedelta(days=number % 20)
        made.judge = ("", "anna", "Bert_x")[number % 3]
        made.direction = _direction(seed * 1000 + number) if number % 5 else None
    _store(world, users, release)
    return world


def _made(number: int, chance: random.Random, spread: int) -> MadePost:
    predicted = {name: _byte(chance) for name in [*TAGS, UNUSED] if chance.random() < 0.45}
    plain = [name for name, category in TAGS.items() if category != Category.RATING]
    verdicts = {name: chance.random() < 0.6 for name in plain if chance.random() < 0.06}
    if chance.random() < 0.1:
        predicted = {}
    rating = _rating(predicted)
    return MadePost(
        id=(number * 3 - chance.randrange(3)) * spread,
        md5=hashlib.md5(str(number).encode()).hexdigest(),
        ext=chance.choice(["jpg", "png", "gif"]),
        width=chance.choice([100, 640, 1280, 1920]),
        height=chance.choice([100, 480, 720, 1080]),
        file_size=chance.choice([500, 1000, 1024 * 200, 1024 * 1024, 1024 * 1024 * 3]),
        animated=chance.random() < 0.2,
        source=chance.choice(["", "https://a.example/100%_x", "https://b.example/y", "Book"]),
        uploader=chance.choice(["", "anna", "Bert_x"]),
        created_at=EPOCH + timedelta(hours=chance.randrange(24 * 200)),
        rating=rating,
        tags=_indexed(predicted, verdicts, rating),
        predicted=predicted,
        verdicts=verdicts,
        changed_at=EPOCH + timedelta(minutes=chance.randrange(40)),
    )


def _direction(seed: int) -> np.ndarray:
    """As a feature reads after it was packed; all numbers are positive, as those of pooled activations are."""
    return features.unpack(features.pack(np.abs(np.random.default_rng(seed).standard_normal(16))))


def _byte(chance: random.Random) -> int:
    return chance.choice([chance.randrange(25, 255), 127, 128, 200])


def _rating(predicted: dict[str, int]) -> int | None:
    """The most confident rating, the stricter of equals."""
    found = [(predicted[rating.tag_name], int(rating)) for rating in Rating if rating.tag_name in predicted]
    return max(found)[1] if found else None


def _indexed(predicted: dict[str, int], verdicts: dict[str, bool], rating: int | None) -> dict[str, int]:
    """What the index holds after aliases, verdicts and implications; of ratings, the one."""
    found: dict[str, int] = {}
    for name, byte in predicted.items():
        target = "blue_eyes" if name == UNUSED else name
        if TAGS[target] != Category.RATING:
            found[target] = max(byte, found.get(target, 0))
    found.update({name: 255 for name, answer in verdicts.items() if answer})
    found = {name: byte for name, byte in found.items() if verdicts.get(name, True)}
    for name, byte in list(found.items()):
        for implied in _led_to(name):
            if verdicts.get(implied, True):
                found[implied] = max(byte, found.get(implied, 0))
    if rating is not None:
        found[Rating(rating).tag_name] = predicted[Rating(rating).tag_name]
    return found


def _led_to(name: str) -> list[str]:
    direct = IMPLICATIONS.get(name, [])
    return [*direct, *(further for each in direct for further in _led_to(each))]


def _packed(tags: dict[str, Tag], bytes_of: dict[str, int]) -> tuple[list[int], bytes]:
    pairs = sorted((tags[name].id, byte) for name, byte in bytes_of.items())
    return [tag_id for tag_id, _ in pairs], bytes(byte for _, byte in pairs)


def _store(world: World, users: dict[str, User], release: Release) -> None:
    posts = [_post(made, users.get(made.uploader)) for made in world.posts]
    Post.objects.bulk_create(posts)
    for post, made in zip(posts, world.posts, strict=True):
        post.created_at = made.created_at  # creating a row stamps it with now
        post.parent_id = made.parent
    Post.objects.bulk_update(posts, ["created_at", "parent"])
    predicted = {made.id: _packed(world.tags, made.predicted) for made in world.posts if made.predicted}
    Prediction.objects.bulk_create(
        Prediction(post_id=post_id, release=release, tag_ids=tag_ids, confidences=confidences)
        for post_id, (tag_ids, confidences) in predicted.items()
    )
    Verdict.objects.bulk_create(
        Verdict(post_id=made.id, tag=world.tags[name], answer=answer, user=users.get(made.judge))
        for made in world.posts
        for name, answer in made.verdicts.items()
    )
    for made in world.posts:  # both stamp themselves with now
        Prediction.objects.filter(post_id=made.id).update(created_at=made.tagged_at)
        Verdict.objects.filter(post_id=made.id).update(at=made.judged_at)
    features.store(release.pk, {made.id: made.direction for made in world.posts if made.direction is not None})
    indexing.rebuild([made.id for made in world.posts])
    indexed = [TagIndex(post_id=made.id, updated_at=made.changed_at) for made in world.posts]
    TagIndex.objects.bulk_update(indexed, ["updated_at"])
    with connection.cursor() as cursor:
        cursor.execute("analyze tag_index, post, tag, verdict, prediction")


def _post(made: MadePost, uploader: User | None) -> Post:
    return Post(
        id=made.id,
        md5=made.md5,
        sha256=f"{made.id:064x}",
        ext=made.ext,
        file_size=made.file_size,
        width=made.width,
        height=made.height,
        animated=made.animated,
        source=made.source,
        uploader=uploader,
        credit=made.credit,
    )
