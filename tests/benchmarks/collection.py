"""A made collection of any size with the marginals of a real booru, written straight into our tables.

Zipf-like tags (rank 1 on 70 % of posts, rank 100 on 6 %, rank 1,000 on 0.5 %, rank 10,000 on 0.03 %), topics
that make tags occur together, copyright -> character -> attributes, popularity that drifts with time, year
tags tied to ids, one rating a post, bimodal confidences, about 84 predictions a post at 0.10 and more, and
people's verdicts on 4 % of the posts. Seeded: the same size gives the same rows.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from psycopg import Connection

BLOCK = 50_000  # posts made at a time; popularity is constant within a block
CATEGORY_SIZES = {0: 30_841, 4: 26_968, 3: 5_364, 1: 7_007, 5: 323, 9: 4, 10: 20}  # camie.md 2.4
TOPICS = 300
FLOOR, HUMAN = 26, 255  # 0.10 as a byte; a person's yes


@dataclass
class World:
    """What is true of every block: names, categories and popularity of each tag, tag id = position + 1."""

    names: list[str]
    categories: np.ndarray  # [T] int16
    share: np.ndarray  # [T] share of posts on which a general, artist or meta tag is on
    topic: np.ndarray  # [T] the topic that a general tag belongs to, -1 for none
    drift: np.ndarray  # [T] -3..3: how strongly popularity rises or falls with time
    general: np.ndarray
    characters: np.ndarray  # tag positions
    copyrights: np.ndarray
    owner: np.ndarray  # [characters] index of the copyright each belongs to
    attributes: np.ndarray  # [characters, 6] general tags each character shows
    artists: np.ndarray
    metas: np.ndarray
    ratings: np.ndarray
    years: np.ndarray


@dataclass
class Said:
    """What the release said of a block's posts, before people did: as the block's own arrays."""

    offsets: np.ndarray
    tags: np.ndarray
    confidences: np.ndarray


@dataclass
class Block:
    """Rows of consecutive posts: tags[offsets[i]:offsets[i + 1]] are those of post first_id + i, sorted by id."""

    first_id: int
    offsets: np.ndarray
    tags: np.ndarray  # int32 tag ids
    confidences: np.ndarray  # uint8
    ratings: np.ndarray  # uint8 0..3
    width: np.ndarray
    height: np.ndarray
    said: Said | None  # until it is written
    verdicts: np.ndarray  # [V, 4] post id, tag id, the release's byte, 1 for yes


@dataclass
class Collection:
    """All rows by tag, for the reference: what numpy says is what every engine must say."""

    posts: int
    world: World
    blocks: list[Block] = field(default_factory=list)

    def counts(self) -> np.ndarray:
        """[T + 1] posts with each tag at any confidence, by tag id."""
        return sum(np.bincount(block.tags, minlength=len(self.world.names) + 1) for block in self.blocks)

    def dense(self, tag_id: int) -> np.ndarray:
        """[posts + 1] confidence byte of one tag by post id, 0 where absent."""
        found = np.zeros(self.posts + 1, np.uint8)
        for block in self.blocks:
            at = np.flatnonzero(block.tags == tag_id)
            rows = np.searchsorted(block.offsets, at, side="right") - 1
            found[block.first_id + rows] = block.confidences[at]
        return found


def _share_of_rank(rank: np.ndarray) -> np.ndarray:
    known = np.log([1, 10, 100, 1_000, 10_000, 100_000])
    share = np.log([0.70, 0.28, 0.06, 0.005, 0.0003, 0.00001])
    return np.exp(np.interp(np.log(rank), known, share))


def make_world(seed: int = 1) -> World:
    rng = np.random.default_rng(seed)
    categories = np.concatenate([np.full(size, code, np.int16) for code, size in CATEGORY_SIZES.items()])
    at = {code: np.flatnonzero(categories == code) for code in CATEGORY_SIZES}
    label = {0: "general", 4: "character", 3: "copyright", 1: "artist", 5: "meta"}
    names = [f"{label[code]}_{rank}" for code in label for rank in range(CATEGORY_SIZES[code])]
    names += [f"rating_{word}" for word in ("general", "sensitive", "questionable", "explicit")]
    names += [f"year_{year}" for year in range(2005, 2025)]
    share = np.zeros(len(names))
    share[at[0]] = _share_of_rank(np.arange(1, len(at[0]) + 1))
    share[at[1]] = 0.9 / len(at[1]) * 3 * np.exp(-3 * np.linspace(0, 1, len(at[1])))
    share[at[5]] = 0.3 / np.arange(1, len(at[5]) + 1)
    topic = np.full(len(names), -1)
    topic[at[0][40:]] = rng.integers(0, TOPICS, len(at[0]) - 40)
    drift = np.zeros(len(names))
    drift[at[0][40:]] = rng.normal(0, 1.0, len(at[0]) - 40)
    owner = np.minimum((rng.pareto(0.8, len(at[4])) * 20).astype(int), len(at[3]) - 1)
    drift[at[3]] = rng.normal(0, 2.0, len(at[3]))
    attributes = at[0][np.minimum((rng.pareto(0.6, (len(at[4]), 6)) * 30).astype(int), len(at[0]) - 1)]
    return World(
        names, categories, share, topic, drift, at[0], at[4], at[3], owner, attributes, at[1], at[5], at[9], at[10]
    )


def _independent(world: World, rng: np.random.Generator, n: int, when: float, topics: np.ndarray) -> Iterator:
    """(post, tag) pairs of tags that come by popularity, topic and time; duplicates are removed later."""
    tags = np.concatenate([world.general, world.artists, world.metas])
    lean = np.exp(world.drift[tags] * (when - 0.5)) / np.exp(world.drift[tags] ** 2 / 24)
    # Drawing with repetition: -log(1 - p) draws a post leave the share p.
    counts = rng.poisson(-np.log1p(-np.minimum(world.share[tags] * lean, 0.9)) * n)
    posts = rng.integers(0, n, counts.sum())
    repeated = np.repeat(tags, counts)
    # Half of a topic's tags land on posts of that topic: that is what makes tags occur together.
    by_topic = np.argsort(topics, kind="stable")
    start = np.searchsorted(topics[by_topic], np.arange(TOPICS + 1))
    size = np.diff(start)
    topic = world.topic[repeated]
    moved = (topic >= 0) & (rng.random(len(posts)) < 0.5) & (size[topic] > 0)
    within = (rng.random(moved.sum()) * size[topic[moved]]).astype(int)
    posts[moved] = by_topic[start[topic[moved]] + within]
    yield posts, repeated


def _characters(world: World, rng: np.random.Generator, n: int, when: float) -> Iterator:
    weight = (1.0 / np.arange(1, len(world.characters) + 1) ** 0.9) * np.exp(
        world.drift[world.copyrights[world.owner]] * (when - 0.5)
    )
    cumulative = np.cumsum(weight / weight.sum())
    drawn = np.searchsorted(cumulative, rng.random(int(n * 0.75)) * 0.999999)
    posts = rng.integers(0, n, len(drawn))
    yield posts, world.characters[drawn]
    yield posts, world.copyrights[world.owner[drawn]]
    shown = rng.random((len(drawn), 6)) < 0.8
    yield np.repeat(posts, 6)[shown.ravel()], world.attributes[drawn].ravel()[shown.ravel()]


def _confidence(rng: np.random.Generator, on: np.ndarray) -> np.ndarray:
    """Bimodal bytes: what is on leans to 0.9, what is not decays from the floor."""
    high = 0.35 + 0.65 * rng.beta(2.2, 1.1, on.size)
    low = 0.10 + np.minimum(rng.exponential(0.07, on.size), 0.30)
    return np.clip(np.where(on, high, low) * 254, FLOOR, 254).astype(np.uint8)


def make_block(world: World, first_id: int, n: int, when: float, seed: int) -> Block:
    rng = np.random.default_rng((seed, first_id))
    topics = rng.integers(0, TOPICS, n)
    pairs = [*_independent(world, rng, n, when, topics), *_characters(world, rng, n, when)]
    on_posts = np.concatenate([posts for posts, _ in pairs])
    on_tags = np.concatenate([tags for _, tags in pairs])
    ratings = rng.choice(4, n, p=[0.45, 0.35, 0.12, 0.08])
    year = int(when * 19.999)
    everyone = np.arange(n)
    on_posts = np.concatenate([on_posts, everyone, everyone])
    on_tags = np.concatenate([on_tags, world.ratings[ratings], np.full(n, world.years[year])])
    flat = world.share[world.general] ** 0.6
    low_tags = np.searchsorted(np.cumsum(flat / flat.sum()), rng.random(n * 41) * 0.999999)
    low_posts = rng.integers(0, n, n * 41)
    key = np.concatenate([on_posts, low_posts]).astype(np.int64) << 18
    key |= np.concatenate([on_tags, world.general[low_tags]]).astype(np.int64) << 1
    key |= np.concatenate([np.zeros(len(on_posts), np.int64), np.ones(len(low_posts), np.int64)])
    key.sort()
    key = key[np.concatenate([[True], (key[1:] >> 1) != (key[:-1] >> 1)])]
    posts, tags = key >> 18, ((key >> 1) & 0x1FFFF).astype(np.int32)
    confidences = _confidence(rng, (key & 1) == 0)
    said = Said(np.searchsorted(posts, np.arange(n + 1)), tags + 1, confidences)
    # People's verdicts: on 4 % of the posts about one tag in 30 is confirmed and one in 30 rejected.
    judged = (rng.random(n) < 0.04)[posts] & (tags < world.ratings[0])
    draw = rng.random(len(posts))
    yes, no = judged & (draw < 0.03), judged & (draw > 0.97)
    verdicts = np.stack([posts + first_id, tags + 1, confidences, yes], axis=1)[yes | no]
    confidences = np.where(yes, HUMAN, confidences).astype(np.uint8)
    posts, tags, confidences = posts[~no], tags[~no], confidences[~no]
    offsets = np.searchsorted(posts, np.arange(n + 1))
    width = rng.choice([600, 850, 1000, 1200, 1448, 2048, 3000], n)
    height = rng.choice([800, 1000, 1200, 1414, 2048, 2900, 4000], n)
    rated = ratings.astype(np.uint8)
    return Block(first_id, offsets, tags + 1, confidences, rated, width, height, said, verdicts)


def array_text(values: np.ndarray) -> bytes:
    """Postgres' binary int[]: one dimension, no nulls, oid 23."""
    head = struct.pack(">iiiii", 1, 0, 23, len(values), 1) if len(values) else struct.pack(">iii", 0, 0, 23)
    body = np.empty((len(values), 2), ">i4")
    body[:, 0], body[:, 1] = 4, values
    return head + body.tobytes()


def _field(value: bytes | None) -> bytes:
    """One field of a binary COPY row: its length, then itself; none is null."""
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def copy_rows(connection: Connection, table: str, rows: Iterator[tuple[bytes | None, ...]]) -> None:
    """Rows of binary fields by COPY: text would take ten times as long."""
    with connection.cursor().copy(f"copy {table} from stdin (format binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        for row in rows:
            copy.write(struct.pack(">h", len(row)) + b"".join(map(_field, row)))
        copy.write(struct.pack(">h", -1))


def _copy_block(connection: Connection, block: Block, release_id: int) -> None:
    """The block's rows in tag_index, and the predictions that they would have come from."""
    now = struct.pack(">q", int((time.time() - 946_684_800) * 1e6))
    said, release, size = block.said, struct.pack(">q", release_id), len(block.offsets) - 1
    overruled: dict[int, list[int]] = {}
    for post, tag, byte, _ in block.verdicts.tolist():
        overruled.setdefault(post, []).append(tag << 8 | byte)

    def predictions() -> Iterator[tuple[bytes, ...]]:
        for row in range(size):
            part = slice(said.offsets[row], said.offsets[row + 1])
            post = struct.pack(">q", block.first_id + row)
            yield post, release, array_text(said.tags[part]), said.confidences[part].tobytes(), now

    def index() -> Iterator[tuple[bytes | None, ...]]:
        for row in range(size):
            part, post = slice(block.offsets[row], block.offsets[row + 1]), block.first_id + row
            confidences, rating = b"\0" + block.confidences[part].tobytes(), struct.pack(">h", block.ratings[row])
            said_else = array_text(np.array(sorted(overruled[post]))) if post in overruled else None
            tags = array_text(block.tags[part])
            yield struct.pack(">q", post), tags, confidences, rating, now, said_else

    copy_rows(connection, "tag_index (post_id, tag_ids, confidences, rating, updated_at, overruled)", index())
    copy_rows(connection, "prediction (post_id, release_id, tag_ids, confidences, created_at)", predictions())
    block.said = None


def _insert_posts(connection: Connection, first_id: int, block: Block) -> None:
    n = len(block.offsets) - 1
    connection.execute(
        """
        insert into post (id, md5, sha256, ext, file_size, width, height, animated, file_name, source, credit,
                          created_at, status, tagging_state, tagging_attempts, tagging_error, priority)
        select i, md5(i::text), md5(i::text) || md5((-i)::text), 'jpg', 100000 + i %% 900000, w, h, false, '', '', '',
               timestamptz '2005-01-01' + i * interval '10 minutes', 'active', 'tagged', 1, '', 10
        from unnest(%s::bigint[], %s::int[], %s::int[]) as t(i, w, h)
        """,
        [list(range(first_id, first_id + n)), block.width.tolist(), block.height.tolist()],
    )


def _insert_tags(connection: Connection, collection: Collection) -> None:
    """Tag rows with their histograms, as the background task would have left them."""
    size = len(collection.world.names) + 1
    histogram = np.zeros(size * 256, np.int64)
    for block in collection.blocks:
        histogram += np.bincount(block.tags.astype(np.int64) * 256 + block.confidences, minlength=size * 256)
    histogram = histogram.reshape(size, 256)
    with connection.cursor().copy(
        "copy tag (id, name, category, description, deprecated, histogram, post_count) from stdin"
    ) as copy:
        for position, name in enumerate(collection.world.names):
            row = histogram[position + 1]
            text = "{" + ",".join(map(str, row)) + "}"
            category = int(collection.world.categories[position])
            copy.write_row((position + 1, name, category, "", False, text, int(row.sum())))


def _insert_verdicts(connection: Connection, collection: Collection) -> None:
    columns = "post_id, tag_id, confidence, answer, at, origin"
    with connection.cursor().copy(f"copy verdict ({columns}) from stdin") as copy:
        for block in collection.blocks:
            for post, tag, byte, answer in block.verdicts.tolist():
                copy.write_row((post, tag, byte, bool(answer), "2026-01-01", "person"))


def fill(connection: Connection, posts: int, seed: int = 1, say: Callable[[str], None] = print) -> Collection:
    """Make `posts` posts and write post, tag, prediction, verdict and tag_index."""
    from gallery.index import partitions

    collection = Collection(posts, make_world(seed))
    columns = "name, title, folder, config, metrics, card, tag_ids, installed_at, active, stage, mode, engine, gate"
    values = "'made', 'made', '', '{}', '{}', '', '{}', now(), true, 'refined', 'exact', 'auto', '{}'"
    made = f"insert into release ({columns}) values ({values})"
    partitions.make_ahead(posts)
    # As one loads much: no checks of what is right by construction, and the index at the end.
    connection.execute("set session_replication_role = replica")
    create_index = "select indexdef from pg_indexes where indexname = 'tag_index_tags'"
    create_index = connection.execute(create_index).fetchone()[0].replace(" ON ONLY ", " ON ")
    connection.execute("drop index tag_index_tags")
    release_id = connection.execute(f"{made} returning id").fetchone()[0]
    for first in range(1, posts + 1, BLOCK):
        n = min(BLOCK, posts + 1 - first)
        block = make_block(collection.world, first, n, (first + n / 2) / posts, seed)
        _insert_posts(connection, first, block)
        _copy_block(connection, block, release_id)
        connection.commit()
        collection.blocks.append(block)
        say(f"  {first + n - 1:,} posts")
    connection.execute(create_index)
    say("  the tags' index")
    _insert_tags(connection, collection)
    _insert_verdicts(connection, collection)
    connection.execute("delete from tag_change")  # the histograms are as written
    connection.execute("select setval(pg_get_serial_sequence('post', 'id'), %s)", [posts])
    connection.execute("select setval(pg_get_serial_sequence('tag', 'id'), %s)", [len(collection.world.names)])
    connection.commit()
    return collection
