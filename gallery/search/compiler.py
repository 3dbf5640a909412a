"""A tree and thresholds become a query: resolved, planned, compiled to SQL with parameters only, run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

from gallery.profiles import Thresholds
from gallery.search import planner, sample, shuffling, weighing
from gallery.search.alike import Value, order_by_likeness
from gallery.search.errors import SearchError, SearchTimeout
from gallery.search.fields import FIELDS, MAX_LIMIT
from gallery.search.layers import any_matching, on
from gallery.search.names import Names
from gallery.search.nodes import And, Leaf, Metatag, Node, Not, Tag, Wildcard, leaves, rewritten, top
from gallery.search.orders import ORDERS, Order, order_named, stale_cursor
from gallery.search.parser import parse
from gallery.search.planner import Plan, Stretch, Walk, Way
from gallery.search.predicates import FALSE, TRUE, Masks, Predicate, both, either, neither, simple
from gallery.search.running import Planned, run, run_together, too_long
from gallery.search.scopes import Viewer, asks_for_deleted, expanded, in_the_text, scoped, with_deleted
from gallery.search.terms import Context
from gallery.search.values import BadValue, Sql, all_sql

TIMEOUT_MS = 3000
LONGEST_RUN = 4  # words that may be one tag
_NO_SCORES = "This site keeps nothing to order by {}: newest first instead."
_CUT = (
    f"Only the newest {planner.MOST_WEIGHED:,} or so of these posts are put in this order:"
    " add a tag that fewer posts have."
)

# What a row costs along the index of an order's first key; together with the post's id, so that equal keys
# are in order, too.
_INDEXED = {
    **dict.fromkeys(
        (
            "p.created_at",
            "p.width",
            "p.height",
            "p.file_size",
            "p.md5",
            "p.width::bigint * p.height",
            "p.width::float8 / greatest(p.height, 1)",
        ),
        planner.ALONG_POSTS,
    ),
    "i.updated_at": planner.ALONG_INDEX,
}


@dataclass
class Query:
    """A search ready to run; `limit` is what the text asks for, if it does."""

    tree: Node
    predicate: Predicate
    order: Order
    names: Names
    limit: int | None
    forced: Way | None = None
    thresholds: Thresholds = field(default_factory=lambda: Thresholds(1))
    source: Sql | None = None  # what stands for the index when deleted posts are asked for
    whole: bool = False  # every match is wanted, whatever its place costs
    seed: int = 0  # of what is left to chance
    masks: Masks | None = field(default=None, repr=False, compare=False)

    @property
    def picked(self) -> bool:
        """Whether posts are picked by chance, as `random:5` does: no more than the limit, on one page."""
        return any(isinstance(node, Metatag) and node.name == "random" for node in top(self.tree))

    def without_aliases(self) -> Node:
        """The tree by the tags' own names."""
        return by_own_names(self.tree, self.names)

    def plan(self, walk: Walk | None) -> Plan:
        """How to find the posts of a walk, or all posts (None)."""
        if self.source:
            return Plan((Stretch(Way.FREE),), self.predicate)
        return planner.choose(self.predicate, None if self.forced else self._sampled(), walk, self.forced)

    def _sampled(self) -> Masks | None:
        """What the sample says of the search, worked out once for its rows and its count."""
        seen = sample.current()
        if seen is None or self.masks is None or self.masks.sample is not seen:
            self.masks = Masks(seen) if seen else None
        return self.masks

    def walk(self, wanted: int, beyond: tuple[Any, ...] | None = None, backwards: bool = False) -> Walk | None:
        """Reading in this order behind a row; None where all matches have to be sorted."""
        if self.order.by_id:
            return Walk(wanted, self.order.descending != backwards, beyond[0] if beyond else None)
        if self.order.seed is not None:
            return Walk(wanted, lots=shuffling.lots(self.order.seed, beyond, backwards))
        if self.order.weighed and not self.whole:
            return Walk(wanted, weighed=True)
        # How far behind the first page a row lies is not known: what begins there is read from all matches' plan.
        along = _INDEXED.get(self.order.keys[0].text)
        return Walk(wanted, along=along) if along else None

    def rows(
        self,
        wanted: int,
        beyond: tuple[Any, ...] | None = None,
        backwards: bool = False,
        timeout: int = TIMEOUT_MS,
        skipped: int = 0,
    ) -> list[tuple[Any, ...]]:
        """Rows (id, then the order's keys) behind a row, or before it and nearest first; `skipped` are passed over."""
        if self.predicate == FALSE:
            return []
        rows: list[tuple[Any, ...]] = []
        plan = self.plan(self.walk(wanted + skipped, beyond, backwards))
        if plan.cut:
            self.names.note(_CUT)
        if plan.few and self.order.categories:
            return self._weighed(plan, beyond, backwards, timeout)[skipped : skipped + wanted]
        deadline = time.monotonic() + timeout / 1000
        stretches = plan.stretches
        if skipped and all(stretch.way == Way.SCAN for stretch in stretches):
            stretches = (Stretch(Way.SCAN),)  # what is passed over need not leave the database
        offset = skipped if len(stretches) == 1 else 0
        for stretch in stretches:
            left = min(timeout, max(1, int((deadline - time.monotonic()) * 1000)))
            limit = wanted + skipped - offset - len(rows)
            statement = self._page(plan, stretch, beyond, backwards, limit, offset)
            try:
                rows += run(Planned(statement, stretch.way, self.order.by_id), left)
            except SearchTimeout:  # what was left of the time was too short, and with it the whole
                raise too_long(timeout) from None
            if len(rows) >= wanted + skipped - offset:
                break
        return rows[skipped - offset :]

    def _weighed(
        self, plan: Plan, beyond: tuple[Any, ...] | None, backwards: bool, timeout: int
    ) -> list[tuple[int, int]]:
        """All rows of a plan of few matches that lie behind a row, put in order here."""
        (stretch,) = plan.stretches
        statement = self._statement(weighing.COLUMNS, all_sql(self._where(plan, stretch)))
        found = run(Planned(statement, stretch.way, False), timeout)
        rows = weighing.counted(found, self.order.categories, self.thresholds)
        descending = self.order.descending != backwards
        rows.sort(key=lambda row: (row[1], row[0]), reverse=descending)
        if beyond is None:
            return rows
        if not isinstance(beyond[1], int):
            raise stale_cursor()
        place = (beyond[1], beyond[0])
        return [row for row in rows if ((row[1], row[0]) < place if descending else (row[1], row[0]) > place)]

    def _page(
        self, plan: Plan, stretch: Stretch, beyond: tuple[Any, ...] | None, backwards: bool, limit: int, offset: int
    ) -> Sql:
        """The statement for one stretch of a page."""
        # Of a post read along an order's index, its own id is asked for, which the index has.
        of_posts = stretch.way == Way.ALONG and self.order.keys[0].text.startswith("p.")
        key = "p.id" if of_posts else "i.post_id"
        where = self._where(plan, stretch)
        if beyond is not None:
            behind = self.order.beyond(beyond, backwards)
            where.append(Sql(behind.text.replace("i.post_id", key), behind.params))
        found = self._statement(self.order.columns(), all_sql(where))
        clause = self.order.clause(backwards).replace("i.post_id", key)
        return Sql(f"{found.text} order by {clause} limit %s offset %s", (*found.params, limit, offset))

    def row_of(self, post_id: int) -> tuple[Any, ...] | None:
        """The row of one post, whether or not it matches."""
        if self.order.by_id:
            return (post_id,)
        found = self._statement(self.order.columns(), Sql("i.post_id = %s", (post_id,)))
        return next(iter(run(Planned(found, Way.FREE, True), TIMEOUT_MS)), None)

    def beside(self, row: tuple[Any, ...]) -> tuple[int | None, int | None]:
        """The posts before and behind a row, if there are any; asked of the database together."""
        if self.predicate == FALSE:
            return None, None
        plans = [self.plan(self.walk(1, row, backwards)) for backwards in (True, False)]
        if plans[0].few and self.order.categories:
            sides = [self.rows(1, row, backwards) for backwards in (True, False)]
            return sides[0][0][0] if sides[0] else None, sides[1][0][0] if sides[1] else None
        pages = [
            Planned(self._page(plan, plan.stretches[0], row, backwards, 1, 0), plan.way, self.order.by_id)
            for plan, backwards in zip(plans, (True, False), strict=True)
        ]
        found = run_together(pages, TIMEOUT_MS)
        for side, backwards in enumerate((True, False)):
            if not found[side] and len(plans[side].stretches) > 1:
                found[side] = self.rows(1, row, backwards)
        before, behind = (rows[0][0] if rows else None for rows in found)
        return before, behind

    def count(self, plan: Plan, timeout: int = TIMEOUT_MS) -> int:
        """All matches, by a plan for all of them."""
        return 0 if self.predicate == FALSE else run(self.counting(plan), timeout)[0][0]

    def counting(self, plan: Plan) -> Planned:
        """The statement that counts all matches."""
        (stretch,) = plan.stretches
        return Planned(self._statement(Sql("count(*)"), all_sql(self._where(plan, stretch))), stretch.way, False)

    def _where(self, plan: Plan, stretch: Stretch) -> list[Sql]:
        return stretch.sql() if self.predicate == TRUE else [*stretch.sql(), plan.predicate.sql()]

    def _statement(self, columns: Sql, where: Sql) -> Sql:
        source = self.source or Sql("tag_index i")
        joined = " join post p on p.id = i.post_id" if "p." in columns.text + where.text else ""
        text = f"select {columns.text} from {source.text}{joined} where {where.text}"
        return Sql(text, columns.params + source.params + where.params)


class _Shape(NamedTuple):
    """What a search says of its list: the order's name, the ids that `order:custom` follows, how many posts, what they
    are like where likeness orders them, and the seed of what is left to chance.
    """

    order: str | None
    listed: tuple[int, ...]
    limit: int | None
    like: Value | None
    seed: int | None

    @classmethod
    def of(cls, tree: Node) -> _Shape:
        value = {leaf.name: FIELDS[leaf.name].read(leaf.value) for leaf in top(tree) if isinstance(leaf, Metatag)}
        order = value.get("order") or ("random" if "random" in value else None)
        listed = tuple(int(each.low) for each in value.get("id", ()) if each.low is not None and each.low == each.high)
        limit = min((value[each] for each in ("random", "limit") if each in value), default=None)
        return cls(order, listed, limit, None if order else value.get("similar"), value.get("randseed"))


def prepare(
    text: str,
    thresholds: Thresholds,
    *,
    viewer: Viewer = None,
    seed: int = 0,
    forced: Way | None = None,
    names: Names | None = None,
) -> Query:
    """Parse and resolve a search; raises SearchError.

    `seed` is for what the text leaves to chance; `names` are those read already.
    """
    tree, names = parse(text), names or Names()
    whole = expanded(tree, viewer, names.note)
    source = with_deleted(whole, viewer, names.note) if asks_for_deleted(whole) else None
    names.add(tag_names(whole))
    names.join(tag_runs(whole))
    try:
        context = scoped(whole, Context(names, thresholds, viewer, source is not None))
        predicate, thresholds = resolve(whole, context), context.thresholds
    except SearchError as error:
        raise in_the_text(error, tree) from None
    shape = _Shape.of(tree)
    limit, seed = shape.limit, seed if shape.seed is None else shape.seed
    if shape.order and ORDERS.get(shape.order) == "missing":
        names.note(_NO_SCORES.format(shape.order))
    if limit and limit > MAX_LIMIT:
        names.note(f"A page holds at most {MAX_LIMIT} posts.")
        limit = MAX_LIMIT
    if shape.like:
        order = order_by_likeness(shape.like, context)
    else:
        order = order_named(shape.order, thresholds, shape.listed, seed)
    return Query(tree, predicate, order, names, limit, forced, thresholds, source, seed=seed)


def tag_runs(tree: Node) -> Iterator[tuple[str, ...]]:
    """Names of tags that follow each other in a search, the longest runs first."""
    for is_tag, nodes in groupby(top(tree), lambda node: isinstance(node, Tag)):
        words = [node.name for node in nodes if isinstance(node, Tag)] if is_tag else []
        for size in range(min(LONGEST_RUN, len(words)), 1, -1):
            yield from (tuple(words[at : at + size]) for at in range(len(words) - size + 1))


def tag_names(tree: Node) -> Iterator[str]:
    """The names of tags that a search speaks of."""
    for leaf in leaves(tree):
        if isinstance(leaf, Tag):
            yield leaf.name
        elif isinstance(leaf, Metatag):
            metatag = FIELDS[leaf.name]
            yield from metatag.tags(metatag.read(leaf.value))


def by_own_names(tree: Node, names: Names) -> Node:
    """The tree with the tags' own names instead of aliases; `unaliased:` stays as it is."""

    def change(leaf: Leaf) -> Node:
        aliased = isinstance(leaf, Tag) or (isinstance(leaf, Metatag) and leaf.name != "unaliased")
        for name in tag_names(leaf) if aliased else ():
            if (known := names.find(name)) is None:
                continue
            if isinstance(leaf, Tag):
                return replace(leaf, name=known.name)
            return replace(leaf, value=known.name + leaf.value[len(name) :])
        return leaf

    return rewritten(tree, change)


def resolve(tree: Node, context: Context) -> Predicate:
    """What the tree asks of one post."""
    if isinstance(tree, Not):
        return neither(resolve(tree.child, context))
    if isinstance(tree, Tag):
        known = context.names.find(tree.name)
        return on(known, context) if known else FALSE
    if isinstance(tree, Wildcard):
        return any_matching(tree.pattern, context)
    if isinstance(tree, Metatag):
        metatag = FIELDS[tree.name]
        try:
            return simple(metatag.condition(metatag.read(tree.value), context))
        except BadValue as error:
            raise error.of(tree.name, tree.value, tree.position, tree.length) from None
    combine = both if isinstance(tree, And) else either
    within = scoped(tree, context)
    return combine([resolve(child, within) for child in tree.children])
