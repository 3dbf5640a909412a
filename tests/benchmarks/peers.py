"""How two peers store and search the same posts, at the one threshold they would have fixed.

Danbooru's scheme of today: `tag_string` and a GIN index on the split array, the planner decides.
szurubooru's: `post.id in (select post_id from post_tag ...)` for each tag, with tag ids already resolved
(its true code resolves names by ILIKE, which no index serves).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from psycopg import Connection

from tests.benchmarks.collection import Collection
from tests.benchmarks.queries import Query, Tree

PAGE = 40


def fill_danbooru(connection: Connection, collection: Collection, byte: int) -> None:
    connection.execute(
        "create table dpost (id int primary key, tag_string text not null, rating char(1), file_size int)"
    )
    names = np.array(["", *collection.world.names], dtype=object)
    with connection.cursor().copy("copy dpost from stdin") as copy:
        for block in collection.blocks:
            on = block.confidences >= byte
            for row in range(len(block.offsets) - 1):
                part = slice(block.offsets[row], block.offsets[row + 1])
                tags = " ".join(names[block.tags[part][on[part]]])
                post = block.first_id + row
                copy.write_row((post, tags, "gsqe"[block.ratings[row]], 100_000 + post % 900_000))
    connection.execute("create index on dpost using gin (string_to_array(tag_string, ' '))")
    connection.execute("create index on dpost (file_size)")
    connection.execute("create table dtag (name text primary key, post_count int not null)")
    with connection.cursor().copy("copy dtag from stdin") as copy:
        on = sum(np.bincount(b.tags[b.confidences >= byte], minlength=len(names)) for b in collection.blocks)
        for tag in range(1, len(names)):
            copy.write_row((names[tag], int(on[tag])))
    connection.commit()


def fill_szurubooru(connection: Connection, collection: Collection, byte: int) -> None:
    connection.execute("create table spost (id int primary key, safety char(1), file_size int)")
    for block in collection.blocks:
        first, rows = block.first_id, len(block.offsets) - 1
        with connection.cursor().copy("copy spost from stdin") as copy:
            for row in range(rows):
                copy.write_row((first + row, "gsqe"[block.ratings[row]], 100_000 + (first + row) % 900_000))
    connection.execute("create table spost_tag (post_id int not null, tag_id int not null)")
    with connection.cursor().copy("copy spost_tag from stdin") as copy:
        for block in collection.blocks:
            on = block.confidences >= byte
            posts = np.repeat(np.arange(len(block.offsets) - 1), np.diff(block.offsets))[on] + block.first_id
            pairs = np.stack([posts, block.tags[on]], axis=1)
            copy.write("".join(f"{post}\t{tag}\n" for post, tag in pairs.tolist()))
    connection.execute("alter table spost_tag add primary key (post_id, tag_id)")
    connection.execute("create index on spost_tag (tag_id)")
    connection.commit()


def _where(tree: Tree, any_of: Callable[[tuple[int, ...]], str], rating_column: str) -> str:
    """A peer's condition; `any_of` says how it asks for posts that have one of some tags."""

    def inner(part: Tree) -> str:
        return _where(part, any_of, rating_column)

    match tree:
        case ("tag", tag) | ("ai", tag, _):
            return any_of((tag,))
        case ("wild", _, tags):
            return any_of(tags)
        case ("rating", rating):
            return f"{rating_column} = '{'gsqe'[rating]}'"
        case ("not", part):
            return f"not ({inner(part)})"
        case ("and", *parts):
            return "(" + " and ".join(map(inner, parts)) + ")"
        case ("or", *parts):
            return "(" + " or ".join(map(inner, parts)) + ")"
    raise ValueError(tree)


def danbooru_sql(query: Query, collection: Collection) -> str:
    names = collection.world.names

    def any_of(tags: tuple[int, ...]) -> str:
        sign = "@>" if len(tags) == 1 else "&&"
        return f"string_to_array(tag_string, ' ') {sign} '{{{','.join(names[tag - 1] for tag in tags)}}}'"

    return f"from dpost where {_where(query.tree, any_of, 'rating')}"


def szurubooru_sql(query: Query, collection: Collection) -> str:
    def any_of(tags: tuple[int, ...]) -> str:
        return f"spost.id in (select post_id from spost_tag where tag_id in ({','.join(map(str, tags))}))"

    return f"from spost where {_where(query.tree, any_of, 'safety')}"


def page_sql(body: str, query: Query) -> str:
    order = "file_size desc, id desc" if query.order else "id desc"
    return f"select id {body} order by {order} limit {PAGE}"


def danbooru_count_sql(query: Query, collection: Collection, body: str) -> str:
    """Its rule: one tag from the tag's row, all else by counting."""
    if query.tree[0] == "tag":
        return f"select post_count from dtag where name = '{collection.world.names[query.tree[1] - 1]}'"
    return count_sql(query, collection, body)


def count_sql(query: Query, collection: Collection, body: str) -> str:
    return f"select count(*) {body}"
