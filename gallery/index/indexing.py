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

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from gallery.models import Category, Post, PostStatus, Prediction, Rating, Tag, TagAlias, TagChange, TagIndex, Verdict
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


def touch(post_ids: Iterable[int]) -> None:
    """Note that these posts changed in what their rows don't hold, for searches that ask when."""
    TagIndex.objects.filter(post_id__in=list(post_ids)).update(updated_at=timezone.now())


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
    _write(ids, rows_for(active))


def rows_for(post_ids: list[int]) -> list[TagIndex]:
    """The index rows of these posts, unsaved: what is, or for deleted posts would be, in the index."""
    predicted = {row.post_id: unpack(row) for row in current_predictions(post_ids)}
    verdicts: dict[int, list[tuple[int, bool]]] = {}
    for post_id, tag_id, answer in _said_by_people(post_ids):
        verdicts.setdefault(post_id, []).append((tag_id, answer))
    rules = Rules.about(
        {tag_id for tags in predicted.values() for tag_id in tags}
        | {tag_id for answers in verdicts.values() for tag_id, _ in answers}
    )
    return [_row(post_id, rules, predicted.get(post_id, {}), verdicts.get(post_id, [])) for post_id in post_ids]


def _said_by_people(post_ids: list[int]) -> Iterable[tuple[int, int, bool]]:
    rows = Verdict.objects.filter(post_id__in=post_ids).order_by("at", "id")
    return rows.values_list("post_id", "tag_id", "answer")


def answers_of(post_ids: Iterable[int]) -> dict[int, dict[int, bool]]:
    """What people said of these posts, by post and canonical tag."""
    rows = list(_said_by_people(list(post_ids)))
    judged = {tag_id for _, tag_id, _ in rows}
    named = Tag.objects.filter(pk__in=judged).values("name")
    aliased = bool(judged) and TagAlias.objects.filter(name__in=named).exists()
    rules = Rules.about(judged) if aliased else Rules()  # most often there is nothing to follow
    verdicts: dict[int, list[tuple[int, bool]]] = {}
    for post_id, tag_id, answer in rows:
        verdicts.setdefault(post_id, []).append((tag_id, answer))
    return {post_id: rules.answers(said) for post_id, said in verdicts.items()}


def _write(ids: list[int], made: list[TagIndex]) -> None:
    """Store what differs from the rows that these posts have, and what it changes in the tags' histograms."""
    stored = {row.post_id: row for row in TagIndex.objects.filter(post_id__in=ids)}
    before = {post_id: _entries(row) for post_id, row in stored.items()}
    after = {row.post_id: _entries(row) for row in made}
    if gone := stored.keys() - after.keys():
        TagIndex.objects.filter(post_id__in=gone).delete()
    TagIndex.objects.bulk_create(
        [row for row in made if row.post_id not in stored or _differs(row, stored[row.post_id])],
        update_conflicts=True,
        unique_fields=["post"],
        update_fields=["tag_ids", "confidences", "rating", "overruled", "updated_at"],
    )
    changes = []
    for post_id in before.keys() | after.keys():
        old, new = before.get(post_id, set()), after.get(post_id, set())
        if old != new:
            changes.append(TagChange(gone=list(old - new), come=list(new - old)))
    # A row each: those of several posts would be compressed and stored apart.
    TagChange.objects.bulk_create(changes)


def _entries(row: TagIndex) -> set[int]:
    """What a row adds to the histograms: tag id * 256 + byte."""
    return {tag_id << 8 | byte for tag_id, byte in zip(row.tag_ids, bytes(row.confidences)[1:], strict=True)}


def _differs(row: TagIndex, stored: TagIndex) -> bool:
    same = row.tag_ids == stored.tag_ids and bytes(row.confidences) == bytes(stored.confidences)
    return not same or (row.rating, row.overruled) != (stored.rating, stored.overruled)


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
        for tag_id, name in _special():
            if tag_id in seen and name in _RATINGS:
                rules.ratings[tag_id] = _RATINGS[name]
            elif tag_id in seen and name is None:
                rules.deprecated.add(tag_id)
        return rules

    def canonical(self, tag_id: int) -> int:
        """The tag that this one's name is an alias of, through chains; itself when of none."""
        seen = {tag_id}
        while (target := self.aliases.get(tag_id)) is not None and target not in seen:
            seen.add(target)
            tag_id = target
        return tag_id

    def answers(self, verdicts: Iterable[tuple[int, bool]]) -> dict[int, bool]:
        """Verdicts by canonical tag; one given to the tag itself beats those given under its aliases."""
        verdicts = list(verdicts)
        answers = {self.canonical(tag_id): answer for tag_id, answer in verdicts}
        answers.update((tag_id, answer) for tag_id, answer in verdicts if self.canonical(tag_id) == tag_id)
        return answers

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


def _special() -> list[tuple[int, str | None]]:
    """Every deprecated tag, with None, and the rating tags, with their names.

    By indexes that hold these few alone: naming the tags of some posts would take a fifth of a write's cost.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "select id, null from tag where deprecated union all"
            " select id, name from tag where name = any(%s) and category = %s",
            [list(_RATINGS), int(Category.RATING)],
        )
        return cursor.fetchall()


def predicted_tags(rules: Rules, prediction: Mapping[int, int]) -> dict[int, int]:
    """A prediction after aliases, without deprecated tags."""
    return {tag_id: byte for tag_id, byte in _said(rules, prediction).items() if tag_id not in rules.deprecated}


def _said(rules: Rules, prediction: Mapping[int, int]) -> dict[int, int]:
    """A prediction after aliases."""
    tags: dict[int, int] = {}
    for tag_id, byte in prediction.items():
        tag_id = rules.canonical(tag_id)
        tags[tag_id] = max(byte, tags.get(tag_id, 0))
    return tags


def _row(post_id: int, rules: Rules, prediction: Mapping[int, int], verdicts: Iterable[tuple[int, bool]]) -> TagIndex:
    said = _said(rules, prediction)
    tags = {tag_id: byte for tag_id, byte in said.items() if tag_id not in rules.deprecated}
    answers = rules.answers(verdicts)
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
    overruled = sorted(
        tag_id << 8 | said.get(tag_id, 0)
        for tag_id in said.keys() | tags.keys()
        if said.get(tag_id, 0) != tags.get(tag_id, 0)
    )
    return TagIndex(
        post_id=post_id, tag_ids=ordered, confidences=confidences, rating=rating, overruled=overruled or None
    )


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
