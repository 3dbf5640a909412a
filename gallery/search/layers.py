"""The metatags about a post's tags: on for the profile, predicted, judged by people, and how many."""

from __future__ import annotations

from functools import partial

from gallery.models import Category, Rating, Release, Verdict
from gallery.profiles import SCALE, Thresholds
from gallery.search import values
from gallery.search.errors import nearest
from gallery.search.names import Known
from gallery.search.predicates import NOTHING, Condition, On, Predicate, Rated, Said, either, neither
from gallery.search.tagcounts import on_count_within
from gallery.search.terms import Context, Field, something
from gallery.search.values import BadValue, Range, Ranges, Sql, any_sql, read_ranges


def tag_count(*categories: Category) -> Field:
    """How many tags of these categories are on for the profile."""

    def condition(ranges: Ranges, context: Context) -> Predicate:
        return Condition(on_count_within(context.thresholds, categories, ranges, context.known))

    return Field(partial(read_ranges, reader=values.whole), condition)


def _tag_name(text: str) -> str:
    return something("the name of a tag", text.lower())


def verdicts(answer: bool) -> Field:
    """Posts on which a person said yes, or no, to a tag."""

    def condition(name: str, context: Context) -> Predicate:
        if not (ids := context.names.ids(name)):
            return NOTHING
        where = "i.post_id in (select v.post_id from verdict v where v.tag_id = any(%s) and v.answer = %s)"
        return Condition(Sql(where, (tuple(ids), answer)), selective=True)

    return Field(_tag_name, condition, tags=lambda name: (name,), takes_tag=True)


def _some_verdict(where: str) -> Condition:
    return Condition(Sql(f"exists (select from verdict v where v.post_id = i.post_id{where})"))


def judged(ranges: Ranges, context: Context) -> Predicate:
    """Somebody gave a verdict on the post at that time."""
    at = any_sql([each.sql("v.at") for each in ranges])
    return Condition(Sql(f"exists (select from verdict v where v.post_id = i.post_id and {at.text})", at.params))


def tagged(ranges: Ranges, context: Context) -> Predicate:
    """A release tagged the post at that time, for the first time or again."""
    at = any_sql([each.sql("x.created_at") for each in ranges])
    return Condition(Sql(f"exists (select from prediction x where x.post_id = i.post_id and {at.text})", at.params))


def tag_and_confidence(text: str) -> tuple[str, Ranges]:
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


def predicted(value: tuple[str, Ranges], context: Context) -> Predicate:
    """What the release said, whatever people and thresholds say: 0 when it said nothing of the tag."""
    name, ranges = value
    ids = context.names.ids(name)
    if not ids:
        return NOTHING
    known = context.names.find(name)
    return Said(ids[0], tuple(ids), ranges, known.category != Category.RATING and not known.deprecated)


def of_release(name: str, context: Context) -> Predicate:
    if name.lower() in ("none", "any"):
        some = Condition(Sql("exists (select from prediction x where x.post_id = i.post_id)"))
        return some if name.lower() == "any" else neither(some)
    known = list(Release.objects.values_list("name", flat=True))
    meant = [name] if name in known else [each for each in known if each.lower() == name.lower()]
    if not meant:
        raise BadValue(f"give the name of a release: {', '.join(known) or 'there is none yet'}.", nearest(name, known))
    where = (
        "exists (select from prediction x join release r on r.id = x.release_id"
        " where x.post_id = i.post_id and r.name in ({}))"
    )
    return Condition(Sql(where.format(", ".join(["%s"] * len(meant))), tuple(meant)))


def named_tag(category: Category | None = None, aliased: bool = True) -> Field:
    """A tag by its whole name, of one category if one is given."""

    def condition(name: str, context: Context) -> Predicate:
        names = context.names
        alias = None if aliased else names.aliases.get(name)
        if alias:
            names.note(f"{name} is an alias of {alias.name}: posts have that tag instead.")
        known = names.tags.get(name) if alias else names.find(name)
        if known is None or category not in (None, known.category):
            if known:
                names.note(f"{known.name} is no {category.label} tag but {Category(known.category).label}.")
            return NOTHING
        return on(known, context)

    return Field(_tag_name, condition, tags=lambda name: (name,), takes_tag=True)


def any_matching(pattern: str, context: Context) -> Predicate:
    """Any of the tags that a wildcard stands for is on."""
    found = context.names.matching(pattern)
    return either(tag_predicate(known.id, known.name, known.category, context.thresholds) for known in found)


def on(known: Known, context: Context) -> Predicate:
    """The tag is on for the profile."""
    if known.deprecated:
        context.names.note(f"{known.name} is deprecated: it is on only where a person said so.")
    return tag_predicate(known.id, known.name, known.category, context.thresholds)


def tag_predicate(tag_id: int, name: str, category: int, thresholds: Thresholds) -> Predicate:
    """The tag is on; of a rating tag, the post has that rating."""
    if category == Category.RATING:
        of_name = {rating.tag_name: int(rating) for rating in Rating}
        if name in of_name:
            return Rated(frozenset({of_name[name]}))
    return On(tag_id, thresholds.byte(tag_id, category))


VERDICT: dict[str, Predicate] = {
    "yes": _some_verdict(" and v.answer"),
    "no": _some_verdict(" and not v.answer"),
    "any": _some_verdict(""),
    "none": neither(_some_verdict("")),
    **{origin.value: _some_verdict(f" and v.origin = '{origin.value}'") for origin in Verdict.Origin},
}
