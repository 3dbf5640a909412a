"""Two releases side by side: what activating one changes, on one post, and on a sample of posts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from django.db.models import Count, Exists, OuterRef

from gallery import profiles, tagging
from gallery.index import indexing
from gallery.models import CATEGORY_ORDER, Category, Post, Prediction, Profile, Release, Tag, Verdict
from gallery.releases import retagging

SAMPLE = 100
_EXAMPLES = 12
_DIFFERENCES = 15


@dataclass(frozen=True)
class Change:
    """What activating `new` changes; examples are the tags that stand on most posts, then those first in order."""

    more: int
    fewer: int
    by_category: list[tuple[Category, int, int]]
    more_examples: list[Tag]
    fewer_examples: list[Tag]
    thresholds: list[tuple[Profile, Profile | None]]
    unseen: int
    seconds: int
    measured: bool


def change(new: Release, active: Release | None) -> Change:
    """What differs between a release and the active one, and how long tagging the posts again takes."""
    known, had = set(new.tag_ids), set(active.tag_ids) if active else set()
    old_profiles = {profile.key: profile for profile in _shipped(active)} if active else {}
    posts = Post.objects.active()
    unseen = posts.count() - Prediction.objects.filter(release=new, post__in=posts).count()
    speed, measured = retagging.speed(new)
    return Change(
        more=len(known - had),
        fewer=len(had - known),
        by_category=_by_category(known - had, had - known),
        more_examples=_examples(known - had),
        fewer_examples=_examples(had - known),
        thresholds=[(profile, old_profiles.get(profile.key)) for profile in _shipped(new)],
        unseen=unseen,
        seconds=round(unseen / speed),
        measured=measured,
    )


def _by_category(more: set[int], fewer: set[int]) -> list[tuple[Category, int, int]]:
    """How many tags of each category come and go."""
    gained, lost = (
        dict(Tag.objects.filter(pk__in=ids).values_list("category").annotate(number=Count("pk")))
        for ids in (more, fewer)
    )
    there = [category for category in CATEGORY_ORDER if category in gained or category in lost]
    return [(category, gained.get(category, 0), lost.get(category, 0)) for category in there]


def _shipped(release: Release) -> list[Profile]:
    return list(Profile.objects.filter(owner=None, release=release))


def _examples(tag_ids: set[int]) -> list[Tag]:
    return list(Tag.objects.filter(pk__in=tag_ids).order_by("-post_count", "pk")[:_EXAMPLES])


@dataclass(frozen=True)
class Row:
    """One tag on one post by two releases; None where a release does not predict it."""

    tag: Tag
    first: int | None
    second: int | None
    first_on: bool
    second_on: bool
    verdict: bool | None


def on_post(post: Post, first: Release, second: Release, key: str) -> list[tuple[Category, list[Row]]]:
    """The tags that either release has on for this post, each under its own profile of this key."""
    found = _On([post.pk], (first, second), key)
    rows = [
        Row(
            found.tags[tag_id],
            found.confidence(first, post.pk, tag_id),
            found.confidence(second, post.pk, tag_id),
            tag_id in found.on[first.pk][post.pk],
            tag_id in found.on[second.pk][post.pk],
            found.verdicts.get((post.pk, tag_id)),
        )
        for tag_id in found.on[first.pk][post.pk] | found.on[second.pk][post.pk]
    ]
    rows.sort(key=lambda row: (CATEGORY_ORDER.index(row.tag.category), -max(row.first or 0, row.second or 0)))
    return [(Category(category), list(group)) for category, group in groupby(rows, key=lambda row: row.tag.category)]


class _On:
    """Which tags two releases have on for some posts, each under its own profile, and what people said of them."""

    def __init__(self, post_ids: list[int], releases: tuple[Release, Release], key: str) -> None:
        rows = {(row.release_id, row.post_id): row for row in _predictions(post_ids, releases)}
        rules = indexing.Rules.about({tag_id for row in rows.values() for tag_id in row.tag_ids})
        self.bytes = {pair: indexing.predicted_tags(rules, indexing.unpack(row)) for pair, row in rows.items()}
        judged = Verdict.objects.filter(post_id__in=post_ids)
        self.verdicts = {(post, tag): said for post, tag, said in judged.values_list("post_id", "tag_id", "answer")}
        wanted = {tag_id for tags in self.bytes.values() for tag_id in tags} | {tag for _, tag in self.verdicts}
        self.tags = Tag.objects.in_bulk(wanted)
        self.on: dict[int, dict[int, set[int]]] = {}
        for release in releases:
            thresholds = profiles.resolve(profile_of(release, key))
            self.on[release.pk] = {post: self._on(release.pk, post, thresholds) for post in post_ids}

    def _on(self, release_id: int, post_id: int, thresholds: profiles.Thresholds) -> set[int]:
        tags = self.bytes.get((release_id, post_id), {})
        if not tags:
            return set()
        ids = np.array(list(tags), np.int64)
        categories = np.array([self.tags[tag_id].category for tag_id in tags], np.int64)
        on = set(ids[profiles.on(thresholds, ids, np.array(list(tags.values()), np.uint8), categories)].tolist())
        ratings = [tag_id for tag_id in on if self.tags[tag_id].category == Category.RATING]
        return on - set(sorted(ratings, key=lambda tag_id: -tags[tag_id])[1:])

    def confidence(self, release: Release, post_id: int, tag_id: int) -> int | None:
        return self.bytes.get((release.pk, post_id), {}).get(tag_id)


def _predictions(post_ids: list[int], releases: tuple[Release, Release]):
    return Prediction.objects.filter(post_id__in=post_ids, release__in=releases)


def profile_of(release: Release, key: str) -> Profile | None:
    """The release's profile of this key, else its default one."""
    shipped = {profile.key: profile for profile in _shipped(release)}
    return shipped.get(key) or shipped.get(profiles.DEFAULT_KEY) or next(iter(shipped.values()), None)


def shared_profiles(first: Release, second: Release) -> list[Profile]:
    """The first's profiles of which the second has one of the same key."""
    keys = {profile.key for profile in _shipped(second)}
    return [profile for profile in _shipped(first) if profile.key in keys]


@dataclass
class Score:
    """One release's tags against people's verdicts."""

    right: int = 0  # on, and a person said yes
    wrong: int = 0  # on, and a person said no
    missed: int = 0  # off, and a person said yes
    refused: int = 0  # a person said no, on or off

    @property
    def precision(self) -> float | None:
        """None where nobody said no to anything: it would be 1 whatever the release does."""
        if not self.refused:
            return None
        return self.right / (self.right + self.wrong) if self.right + self.wrong else None

    @property
    def recall(self) -> float | None:
        return self.right / (self.right + self.missed) if self.right + self.missed else None


@dataclass
class Part:
    """A category's counts, or those of all together."""

    name: str
    posts: int
    first_on: int = 0
    second_on: int = 0
    both: int = 0
    first: Score = field(default_factory=Score)
    second: Score = field(default_factory=Score)

    @property
    def first_per_post(self) -> float:
        return self.first_on / self.posts

    @property
    def second_per_post(self) -> float:
        return self.second_on / self.posts

    @property
    def agreement(self) -> float | None:
        """Tags that both have on by those that either has."""
        either = self.first_on + self.second_on - self.both
        return self.both / either if either else None


@dataclass(frozen=True)
class Comparison:
    posts: int
    parts: list[Part]  # all together first
    gained: list[tuple[Tag, int]]  # tags that are on for more posts by the second
    lost: list[tuple[Tag, int]]
    farthest: list[tuple[Post, int]]  # posts on which most tags differ
    judged: int


def sample(of: Release) -> list[int]:
    """The posts to compare on: tagged by this release, those that people judged first, then the newest."""
    seen = Prediction.objects.filter(post=OuterRef("pk"), release=of)
    judged = Verdict.objects.filter(post=OuterRef("pk"))
    posts = Post.objects.active().filter(Exists(seen)).annotate(judged=Exists(judged))
    return list(posts.order_by("-judged", "-pk").values_list("pk", flat=True)[:SAMPLE])


def unseen(release: Release, post_ids: list[int]) -> list[int]:
    """Which of these posts the release has not tagged."""
    seen = set(Prediction.objects.filter(release=release, post_id__in=post_ids).values_list("post_id", flat=True))
    return [post_id for post_id in post_ids if post_id not in seen]


def prepare(release: Release, post_ids: list[int]) -> bool:
    """Let a worker tag these posts by a release that is not active; False when none can be reached."""
    return tagging.send("predict_posts", release.pk, *post_ids)


def compare(first: Release, second: Release, key: str, post_ids: list[int]) -> Comparison:
    """Count what two releases have on for these posts, each under its own profile of this key."""
    found = _On(post_ids, (first, second), key)
    parts: dict[int, Part] = defaultdict(lambda: Part("", len(post_ids)))
    more: Counter[int] = Counter()
    farthest: Counter[int] = Counter()
    total = Part("all", len(post_ids))
    for post_id in post_ids:
        one, other = found.on[first.pk][post_id], found.on[second.pk][post_id]
        more.update(other - one)
        more.subtract(one - other)
        farthest[post_id] = len(one ^ other)
        for tag_id in one | other:
            for part in (total, parts[found.tags[tag_id].category]):
                part.first_on += tag_id in one
                part.second_on += tag_id in other
                part.both += tag_id in one and tag_id in other
    for (post_id, tag_id), said in found.verdicts.items():
        for part in (total, parts[found.tags[tag_id].category]):
            _score(part.first, tag_id in found.on[first.pk][post_id], said)
            _score(part.second, tag_id in found.on[second.pk][post_id], said)
    for category, part in parts.items():
        part.name = Category(category).label
    ordered = [parts[category] for category in CATEGORY_ORDER if category in parts]
    changed = [(found.tags[tag_id], number) for tag_id, number in more.most_common()]
    posts = Post.objects.in_bulk([post_id for post_id, _ in farthest.most_common(_DIFFERENCES)])
    return Comparison(
        posts=len(post_ids),
        parts=[total, *ordered],
        gained=[(tag, number) for tag, number in changed[:_DIFFERENCES] if number > 0],
        lost=[(tag, -number) for tag, number in changed[::-1][:_DIFFERENCES] if number < 0],
        farthest=[(posts[pk], number) for pk, number in farthest.most_common(_DIFFERENCES) if number],
        judged=len(found.verdicts),
    )


def _score(score: Score, on: bool, said: bool) -> None:
    score.refused += not said
    if on and said:
        score.right += 1
    elif on:
        score.wrong += 1
    elif said:
        score.missed += 1
