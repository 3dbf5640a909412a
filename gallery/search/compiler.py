"""A tree and thresholds become a query: resolved, planned, compiled to SQL with parameters only, run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import DataError, OperationalError, connection, transaction

from gallery.profiles import Thresholds
from gallery.search import orders, planner, sample
from gallery.search.errors import SearchTimeout
from gallery.search.fields import FIELDS, MAX_LIMIT
from gallery.search.layers import tag_predicate
from gallery.search.names import Names
from gallery.search.nodes import And, Metatag, Node, Not, Tag, Wildcard, leaves
from gallery.search.orders import ORDERS, Order, order_named
from gallery.search.parser import parse
from gallery.search.planner import Plan, Walk, Way
from gallery.search.predicates import FALSE, TRUE, Predicate, both, either, neither, simple
from gallery.search.scopes import Viewer, asks_for_deleted, expanded, scoped, with_deleted
from gallery.search.terms import Context
from gallery.search.values import BadValue, Sql, all_sql

TIMEOUT_MS = 3000
_NO_SCORES = "This site keeps nothing to order by {}: newest first instead."

# What the database may not do on each way; everything else is its own choice.
FORBIDDEN = {
    Way.SCAN: ("enable_sort",),
    Way.GIN: ("enable_indexscan", "enable_seqscan"),
    Way.FREE: (),
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

    def plan(self, walk: Walk | None) -> Plan:
        """How to find the posts of a walk by id, or all posts (None), as in any other order."""
        if self.source:
            return Plan(Way.FREE)
        seen = None if self.forced else sample.current()
        return planner.choose(self.predicate, seen, walk, self.forced)

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
        walk = Walk(wanted + skipped, self.order.descending != backwards, beyond[0] if beyond else None)
        plan = self.plan(walk if self.order.by_id else None)
        where = self._where(plan)
        if beyond is not None:
            where.append(self.order.beyond(beyond, backwards))
        columns = self.order.columns()
        found = self._statement(columns, all_sql(where))
        text = f"{found.text} order by {self.order.clause(backwards)} limit %s offset %s"
        return run(Sql(text, (*found.params, wanted, skipped)), plan.way, self.order.by_id, timeout)

    def row_of(self, post_id: int) -> tuple[Any, ...] | None:
        """The row of one post, whether or not it matches."""
        found = self._statement(self.order.columns(), Sql("i.post_id = %s", (post_id,)))
        return next(iter(run(found, Way.FREE, True, TIMEOUT_MS)), None)

    def count(self, plan: Plan, timeout: int = TIMEOUT_MS) -> int:
        if self.predicate == FALSE:
            return 0
        statement = self._statement(Sql("count(*)"), all_sql(self._where(plan)))
        return run(statement, plan.way, False, timeout)[0][0]

    def _where(self, plan: Plan) -> list[Sql]:
        cover = [plan.cover.sql()] if plan.cover else []
        return cover if self.predicate == TRUE else [*cover, self.predicate.sql()]

    def _statement(self, columns: Sql, where: Sql) -> Sql:
        source = self.source or Sql("tag_index i")
        joined = " join post p on p.id = i.post_id" if "p." in columns.text + where.text else ""
        text = f"select {columns.text} from {source.text}{joined} where {where.text}"
        return Sql(text, columns.params + source.params + where.params)


def prepare(
    text: str, thresholds: Thresholds, *, viewer: Viewer = None, seed: int = 0, forced: Way | None = None
) -> Query:
    """Parse and resolve a search; raises SearchError. `seed` shuffles an `order:random` without one."""
    tree, names = parse(text), Names()
    whole = expanded(tree, viewer, names.note)
    source = with_deleted(whole, viewer, names.note) if asks_for_deleted(whole) else None
    names.add(_tag_names(whole))
    context = scoped(whole, Context(names, thresholds, viewer, source is not None))
    predicate, thresholds = resolve(whole, context), context.thresholds
    name, listed, limit = _shape(tree)
    if name and ORDERS.get(name) == "missing":
        names.note(_NO_SCORES.format(name))
    if limit and limit > MAX_LIMIT:
        names.note(f"A page holds at most {MAX_LIMIT} posts.")
        limit = MAX_LIMIT
    order = order_named(name, thresholds, listed, seed)
    return Query(tree, predicate, order, names, limit, forced, thresholds, source)


def _tag_names(tree: Node) -> Iterator[str]:
    for leaf in leaves(tree):
        if isinstance(leaf, Tag):
            yield leaf.name
        elif isinstance(leaf, Metatag):
            metatag = FIELDS[leaf.name]
            yield from metatag.tags(metatag.read(leaf.value))


def resolve(tree: Node, context: Context) -> Predicate:
    """What the tree asks of one post."""
    if isinstance(tree, Not):
        return neither(resolve(tree.child, context))
    if isinstance(tree, Tag):
        known = context.names.find(tree.name)
        return tag_predicate(known.id, known.name, known.category, context.thresholds) if known else FALSE
    if isinstance(tree, Wildcard):
        found = context.names.matching(tree.pattern)
        return either(tag_predicate(known.id, known.name, known.category, context.thresholds) for known in found)
    if isinstance(tree, Metatag):
        metatag = FIELDS[tree.name]
        try:
            return simple(metatag.condition(metatag.read(tree.value), context))
        except BadValue as error:
            raise error.of(tree.name, tree.value, tree.position, tree.length) from None
    combine = both if isinstance(tree, And) else either
    within = scoped(tree, context)
    return combine([resolve(child, within) for child in tree.children])


def _shape(tree: Node) -> tuple[str | None, tuple[int, ...], int | None]:
    """The order's name, the ids that `order:custom` follows, and the limit."""
    top = {
        leaf.name: leaf for leaf in (tree.children if isinstance(tree, And) else (tree,)) if isinstance(leaf, Metatag)
    }
    value = {name: FIELDS[name].read(leaf.value) for name, leaf in top.items() if name in FIELDS}
    name = value.get("order") or ("random" if "random" in value else None)
    listed = tuple(int(each.low) for each in value.get("id", ()) if each.low is not None and each.low == each.high)
    return name, listed, value.get("random") or value.get("limit")


def run(statement: Sql, way: Way, by_id: bool, timeout: int) -> list[tuple[Any, ...]]:
    """Run a statement the way it was planned, for at most `timeout` milliseconds."""
    forbidden = () if way == Way.SCAN and not by_id else FORBIDDEN[way]
    try:
        with _settings(timeout, forbidden), connection.cursor() as cursor:
            statement.run(cursor)
            return cursor.fetchall()
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != "57014":  # query_canceled
            raise
        raise SearchTimeout(
            f"This search takes longer than {timeout / 1000:g} seconds: add a tag that fewer posts have."
        ) from None
    except DataError:
        raise orders.stale_cursor() from None


@contextmanager
def _settings(timeout: int, forbidden: tuple[str, ...]) -> Iterator[None]:
    """Planner settings for one transaction; put back when an outer one goes on."""
    # Compiling expressions costs more than these statements do, and many visitors share the machine.
    values = {"statement_timeout": str(timeout), "jit": "off", "max_parallel_workers_per_gather": "0"}
    values.update(dict.fromkeys(forbidden, "off"))
    outer = connection.in_atomic_block
    with transaction.atomic():
        with connection.cursor() as cursor:
            marks = ", ".join(["set_config(%s, %s, true)"] * len(values))
            before = _before(cursor, list(values)) if outer else {}
            cursor.execute(f"select {marks}", [word for pair in values.items() for word in pair])
        yield
        if before:
            with connection.cursor() as cursor:
                cursor.execute(f"select {marks}", [word for pair in before.items() for word in pair])


def _before(cursor: Any, names: list[str]) -> dict[str, str]:
    cursor.execute(f"select {', '.join(['current_setting(%s)'] * len(names))}", names)
    return dict(zip(names, cursor.fetchone(), strict=True))
