"""The tag index lies in partitions by range of post ids, each with indexes of its own.

They are made ahead: the sweep keeps one empty partition above the newest post. A row that comes before
its partition does goes to the default one and moves when the partition is made, so no insert ever fails.
A search names the range it wants and touches those partitions alone.
"""

from __future__ import annotations

import logging

from django.db import Error, connection, transaction

SIZE = 262_144  # post ids a partition
_AHEAD = 1
_LOCK = 0x7061_7274  # any number that no other advisory lock of the site uses
# Under half the time after which Postgres looks for deadlocks: it is always we who give way.
_PATIENCE = "500ms"

# Room on every page for a row's next version, which then needs no new index entries while its tags stay the
# same; and small fractions, for a quarter of a million rows are a lot to let rot.
STORAGE = (
    "fillfactor = 92, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05,"
    " autovacuum_analyze_scale_factor = 0.05"
)

logger = logging.getLogger(__name__)


def make_ahead(newest: int | None = None) -> int:
    """Make the partitions that posts up to `newest`, else the newest there is, need now or next; returns how many.

    What is locked waits for the next sweep.
    """
    made = 0
    for number in _missing(newest):
        try:
            made += _make(number)
        except Error as error:
            logger.warning("Partition %d of the tag index has to wait: %s", number, str(error).strip())
    return made


def _missing(newest: int | None) -> list[int]:
    """Numbers of the partitions that the newest post, the next ones, and rows of the default partition want."""
    with connection.cursor() as cursor:
        cursor.execute("select coalesce(max(id), 0) from post")
        last = cursor.fetchone()[0] // SIZE
        wanted = {last, last + _AHEAD}
        if newest is not None:
            wanted.update(range(last, newest // SIZE + _AHEAD + 1))
        cursor.execute("select distinct post_id / %s from tag_index_default", [SIZE])
        wanted.update(row[0] for row in cursor.fetchall())
        cursor.execute("select inhrelid::regclass::text from pg_inherits where inhparent = 'tag_index'::regclass")
        there = {row[0].rpartition(".")[2] for row in cursor.fetchall()}
    return sorted(number for number in wanted if _name(number) not in there)


def _name(number: int) -> str:
    return f"tag_index_p{number:04}"


def _make(number: int) -> bool:
    """One partition, with the rows that came too early; False when another process is at it."""
    name, low, high = _name(number), number * SIZE, (number + 1) * SIZE
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(f"set local lock_timeout = '{_PATIENCE}'")
        # Writers wait here, and not where a row has found the default partition already, which will refuse it.
        cursor.execute("lock table only tag_index in share row exclusive mode")
        cursor.execute("lock table tag_index_default in access exclusive mode")
        cursor.execute(f"create table {name} (like tag_index including defaults) with ({STORAGE})")
        cursor.execute(
            "with early as (delete from tag_index_default where post_id >= %s and post_id < %s returning *)"
            f" insert into {name} select * from early",
            [low, high],
        )
        # Unlike `create table ... partition of`, this lets searches go on.
        cursor.execute(f"alter table tag_index attach partition {name} for values from ({low}) to ({high})")
    return True


def tidy() -> None:
    """Merge what the tags' indexes have pending, so that no search has to read it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select gin_clean_pending_list(x.indexrelid) from pg_index x join pg_class c on c.oid = x.indexrelid"
            " join pg_am a on a.oid = c.relam join pg_inherits h on h.inhrelid = x.indrelid"
            " where h.inhparent = 'tag_index'::regclass and a.amname = 'gin'"
        )
