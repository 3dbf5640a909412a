"""The tag index: what search reads, rebuilt from predictions, verdicts, aliases and implications.

For one post, in this order:

1. the active release's prediction, else the newest one; deprecated tags are not predicted
2. a tag whose name is an alias counts as the alias's tag, with the greater confidence
3. a person's yes is 255, a person's no takes the tag away
4. an implied tag gets the greatest of its own and the implying confidences, through chains too,
   unless a person said no to it there; a deprecated tag is not implied
5. of the rating tags one stays: a person's yes, else the most confident (the stricter of equals)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone

from gallery.models import Category, Post, PostStatus, Prediction, Rating, Tag, TagIndex, Verdict
from gallery.profiles import HUMAN_YES

_BATCH = 500
_RATINGS = {rating.tag_name: rating for rating in Rating}


def rebuild(post_ids: Iterable[int]) -> None:
    """Make the index rows of these posts anew; rows of deleted posts go.

    Locks the posts first, so that of two concurrent changes the later one sees the earlier.
    """
    ids = sorted(set(post_ids))
    for start in range(0, len(ids), _BATCH):
        with transaction.atomic():
            _rebuild_batch(ids[start : start + _BATCH])


def rebuild_with_tags(tag_ids: Iterable[int]) -> int:
    """Rebuild every post that any of these tags was predicted or judged for; returns how many.

    For a change of aliases, implications or deprecation: the rows from which the index is made tell.
    """
    tag_ids = list(tag_ids)
    ids = set(Prediction.objects.filter(tag_ids__overlap=tag_ids).values_list("post_id", flat=True))
    ids |= set(Verdict.objects.filter(tag_id__in=tag_ids).values_list("post_id", flat=True))
    ids |= set(TagIndex.objects.filter(tag_ids__overlap=tag_ids).values_list("post_id", flat=True))
    rebuild(ids)
    return len(ids)


def _rebuild_batch(ids: list[int]) -> None:
    posts = Post.objects.filter(id__in=ids).order_by("id").select_for_update(no_key=True)
    status = dict(posts.values_list("id", "status"))
    active = [post_id for post_id, state in status.items() if state == PostStatus.ACTIVE]
    rows = rows_for(active)
    if gone := set(ids) - set(active):
        TagIndex.objects.filter(post_id__in=gone).delete()
    TagIndex.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["post"],
        update_fields=["tag_ids", "confidences", "rating", "updated_at"],
    )


def rows_for(post_ids: list[int]) -> list[TagIndex]:
    """The index rows of these posts, unsaved: what is, or for deleted posts would be, in the index."""
    predicted = {row.post_id: unpack(row) for row in current_predictions(post_ids)}
    verdicts: dict[int, list[tuple[int, bool]]] = {}
    rows = Verdict.objects.filter(post_id__in=post_ids).order_by("at", "id")
    for post_id, tag_id, answer in rows.values_list("post_id", "tag_id", "answer"):
        verdicts.setdefault(post_id, []).append((tag_id, answer))
    rules = Rules.about(
        {tag_id for tags in predicted.values() for tag_id in tags}
        | {tag_id for answers in verdicts.values() for tag_id, _ in answers}
    )
    return [_row(post_id, rules, predicted.get(post_id, {}), verdicts.get(post_id, [])) for post_id in post_ids]


def current_predictions(post_ids: Iterable[int]) -> QuerySet[Prediction]:
    """The prediction that counts for each post: the active release's, else the newest."""
    rows = Prediction.objects.filter(post_id__in=list(post_ids))
    return rows.order_by("post_id", "-release__active", "-created_at", "-id").distinct("post_id")


def unpack(row: Prediction) -> dict[int, int]:
    """A prediction as {tag id: confidence byte}."""
    return dict(zip(row.tag_ids, bytes(row.confidences), strict=True))


@dataclass
class Rules:
    """What the tag tables say about some tags and all that they lead to."""

    aliases: dict[int, int] = field(default_factory=dict)
    implications: dict[int, set[int]] = field(default_factory=dict)
    deprecated: set[int] = field(default_factory=set)
    ratings: dict[int, Rating] = field(default_factory=dict)

    @classmethod
    def about(cls, tag_ids: Iterable[int]) -> Rules:
        """Read the rules level by level until nothing new is led to; cycles end, too."""
        rules, seen, frontier = cls(), set(), set(tag_ids)
        while frontier:
            seen |= frontier
            reached = set()
            for tag_id, target_id, is_alias in _leads(frontier):
                reached.add(target_id)
                if is_alias:
                    rules.aliases[tag_id] = target_id
                else:
                    rules.implications.setdefault(tag_id, set()).add(target_id)
            frontier = reached - seen
        facts = Tag.objects.filter(Q(deprecated=True) | Q(category=Category.RATING, name__in=_RATINGS), id__in=seen)
        for tag_id, name, category, deprecated in facts.values_list("id", "name", "category", "deprecated"):
            if deprecated:
                rules.deprecated.add(tag_id)
            if category == Category.RATING and name in _RATINGS:
                rules.ratings[tag_id] = _RATINGS[name]
        return rules

    def canonical(self, tag_id: int) -> int:
        """The tag that this one's name is an alias of, through chains; itself when of none."""
        seen = {tag_id}
        while (target := self.aliases.get(tag_id)) is not None and target not in seen:
            seen.add(target)
            tag_id = target
        return tag_id

    def implied_by(self, tag_id: int) -> Iterator[int]:
        """Every tag that this one leads to, through chains; not itself."""
        seen, waiting = {tag_id}, [tag_id]
        while waiting:
            for implied in self.implications.get(waiting.pop(), ()):
                implied = self.canonical(implied)
                if implied not in seen:
                    seen.add(implied)
                    waiting.append(implied)
                    yield implied


def _leads(tag_ids: Iterable[int]) -> list[tuple[int, int, bool]]:
    """What these tags lead to in one step: (tag, target, whether by an alias)."""
    ids = list(tag_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            "select tag.id, alias.tag_id, true from tag_alias alias join tag using (name) where tag.id = any(%s)"
            " union all select tag_id, implied_id, false from tag_implication where tag_id = any(%s)",
            [ids, ids],
        )
        return cursor.fetchall()


def predicted_tags(rules: Rules, prediction: Mapping[int, int]) -> dict[int, int]:
    """A prediction after aliases, without deprecated tags."""
    tags: dict[int, int] = {}
    for tag_id, byte in prediction.items():
        tag_id = rules.canonical(tag_id)
        if tag_id not in rules.deprecated:
            tags[tag_id] = max(byte, tags.get(tag_id, 0))
    return tags


def _row(post_id: int, rules: Rules, prediction: Mapping[int, int], verdicts: Iterable[tuple[int, bool]]) -> TagIndex:
    tags = predicted_tags(rules, prediction)
    answers = _answers(rules, verdicts)
    for tag_id, answer in answers.items():
        tags.pop(tag_id, None)
        if answer:
            tags[tag_id] = HUMAN_YES
    for tag_id, byte in list(tags.items()):
        for implied in rules.implied_by(tag_id):
            if answers.get(implied) is not False and (answers.get(implied) or implied not in rules.deprecated):
                tags[implied] = max(byte, tags.get(implied, 0))
    rating = _keep_one_rating(rules, tags, answers)
    ordered = sorted(tag_id for tag_id, byte in tags.items() if byte)
    confidences = bytes([0, *(tags[tag_id] for tag_id in ordered)])
    return TagIndex(post_id=post_id, tag_ids=ordered, confidences=confidences, rating=rating)


def _answers(rules: Rules, verdicts: Iterable[tuple[int, bool]]) -> dict[int, bool]:
    """Verdicts by canonical tag; one given to the tag itself beats those given under its aliases."""
    verdicts = list(verdicts)
    answers = {rules.canonical(tag_id): answer for tag_id, answer in verdicts}
    answers.update((tag_id, answer) for tag_id, answer in verdicts if rules.canonical(tag_id) == tag_id)
    return answers


def _keep_one_rating(rules: Rules, tags: dict[int, int], answers: Mapping[int, bool]) -> Rating | None:
    """Take all but the winning rating tag out of `tags`; null when there is none."""
    present = [tag_id for tag_id in tags if tag_id in rules.ratings and tags[tag_id]]
    if not present:
        return None
    winner = max(present, key=lambda tag_id: (bool(answers.get(tag_id)), tags[tag_id], rules.ratings[tag_id]))
    for tag_id in present:
        if tag_id != winner:
            del tags[tag_id]
    return rules.ratings[winner]


# Histograms

_MARK = "histograms:mark"
_SETTLED_SECONDS = 60
_HISTOGRAM_LOCK = 0x6D61_6E61  # any number that no other advisory lock of the site uses


def refresh_histograms(force: bool = False) -> bool:
    """Count posts per tag and confidence byte from the tag index; False when nothing changed.

    A transaction that began before the newest change may still commit after it, so a count
    stands only when it was made a while after the newest change.
    """
    state = TagIndex.objects.aggregate(rows=Count("post_id"), newest=Max("updated_at"))
    now = timezone.now()
    mark = [state["rows"], state["newest"] and state["newest"].isoformat()]
    if not force and cache.get(_MARK) == mark:
        return False
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [_HISTOGRAM_LOCK])
        if not cursor.fetchone()[0]:
            return False
        _store_histograms(*_count_bytes())
    if not state["newest"] or (now - state["newest"]).total_seconds() > _SETTLED_SECONDS:
        cache.set(_MARK, mark, timeout=24 * 3600)
    return True


def _count_bytes() -> tuple[np.ndarray, np.ndarray]:
    """Ids of the tags in use, and for each of them 256 counts of posts."""
    known = np.fromiter(Tag.objects.order_by("id").values_list("id", flat=True), np.int64)
    counts = np.zeros((len(known), 256), np.int32)
    rows = TagIndex.objects.filter(post__status=PostStatus.ACTIVE).values_list("tag_ids", "confidences")
    for tag_ids, confidences in rows.iterator(chunk_size=2000):
        found, ids = np.frombuffer(bytes(confidences), np.uint8)[1:], np.array(tag_ids, np.int64)
        places = np.searchsorted(known, ids)
        there = known.take(places, mode="clip") == ids  # a tag made since: the next count sees it
        counts[places[there], found[there]] += 1
    used = counts.any(axis=1)
    return known[used], counts[used]


def _store_histograms(tag_ids: np.ndarray, counts: np.ndarray) -> None:
    """Write the counts that changed; tags in no post any more get none."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update tag set histogram = null, post_count = 0 where histogram is not null and id <> all(%s)",
            [tag_ids.tolist()],
        )
        for start in range(0, len(tag_ids), 1000):
            part = counts[start : start + 1000]
            cursor.execute(
                "update tag set histogram = new.histogram::int[], post_count = new.posts"
                " from unnest(%s::int[], %s::text[], %s::int[]) as new (id, histogram, posts)"
                " where tag.id = new.id and tag.histogram is distinct from new.histogram::int[]",
                [
                    tag_ids[start : start + 1000].tolist(),
                    ["{" + ",".join(map(str, row)) + "}" for row in part.tolist()],
                    part.sum(axis=1).tolist(),
                ],
            )
