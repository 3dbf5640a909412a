from __future__ import annotations

import threading

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from gallery.index import partitions
from gallery.models import TagIndex
from tests.gallery.making import make_post
from tests.stack import eventually


@pytest.fixture(autouse=True)
def alone(db) -> None:
    """A partition is only made where nobody reads the index: wait for autovacuum, fail if a test left it locked."""
    assert eventually(lambda: not _others()), _others()


def _others() -> list[tuple[str, str, str]]:
    """Who else has a lock on the index: lock, state, last statement."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_stat_clear_snapshot()")
        cursor.execute(
            "select l.relation::regclass || ' ' || l.mode, a.state, a.query"
            " from pg_locks l left join pg_stat_activity a"
            " using (pid) where l.pid <> pg_backend_pid() and l.relation = any(select oid from pg_class"
            " where relname like 'tag_index%') and l.database = (select oid from pg_database"
            " where datname = current_database())"
        )
        return cursor.fetchall()


def partition_of(post_id: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute("select tableoid::regclass::text from tag_index where post_id = %s", [post_id])
        return cursor.fetchone()[0]


@pytest.mark.django_db
def test_partitions_are_made_before_they_are_needed():
    post = make_post(id=5 * partitions.SIZE + 7)
    assert partitions.make_ahead() == 2
    TagIndex.objects.create(post=post)
    assert partition_of(post.pk) == "tag_index_p0005"
    assert partitions.make_ahead() == 0
    after = make_post(id=6 * partitions.SIZE)
    TagIndex.objects.create(post=after)
    assert partition_of(after.pk) == "tag_index_p0006"


@pytest.mark.django_db
def test_a_row_without_a_partition_waits_in_the_default_one():
    post = make_post(id=90 * partitions.SIZE)
    TagIndex.objects.create(post=post, tag_ids=[4, 9], confidences=b"\0\1\2", rating=1, overruled=[4 << 8])
    assert partition_of(post.pk) == "tag_index_default"
    assert partitions.make_ahead() == 2
    assert partition_of(post.pk) == "tag_index_p0090"
    row = TagIndex.objects.get(post=post)
    assert (row.tag_ids, bytes(row.confidences), row.rating, row.overruled) == ([4, 9], b"\0\1\2", 1, [4 << 8])


@pytest.mark.django_db(transaction=True)
def test_a_row_that_comes_while_its_partition_is_made_waits_for_it():
    post, failed = make_post(id=77 * partitions.SIZE + 3), []

    def index() -> None:
        try:
            TagIndex.objects.create(post_id=post.pk)
        except DatabaseError as error:
            failed.append(error)
        connection.close()

    thread = threading.Thread(target=index)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            assert partitions._make(77)
            thread.start()
            waits = False
            while thread.is_alive() and not waits:
                cursor.execute("select exists (select from pg_locks where not granted)")
                (waits,) = cursor.fetchone()
        thread.join()
        assert (failed, partition_of(post.pk)) == ([], "tag_index_p0077")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("drop table if exists tag_index_p0077")


@pytest.mark.django_db
def test_each_partition_has_the_indexes_and_the_care_of_the_first():
    make_post(id=9 * partitions.SIZE)
    partitions.make_ahead()
    partitions.tidy()
    with connection.cursor() as cursor:
        cursor.execute(
            "select c.relname, c.reloptions::text,"
            " array_agg(am.amname || coalesce(x.reloptions::text, '') order by am.amname)"
            " from pg_class c join pg_index i on i.indrelid = c.oid join pg_class x on x.oid = i.indexrelid"
            " join pg_am am on am.oid = x.relam where c.relname in ('tag_index_p0000', 'tag_index_p0009')"
            " group by 1, 2 order by 1"
        )
        first, made = cursor.fetchall()
    assert first[1:] == made[1:]
    assert "autovacuum_vacuum_scale_factor=0.02" in made[1]
    assert made[2] == ["btree", "btree", "gin{fastupdate=on,gin_pending_list_limit=1024}"]


@pytest.mark.django_db(transaction=True)
def test_an_older_site_keeps_its_rows():
    executor = MigrationExecutor(connection)
    newest = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "gallery"]
    try:
        executor.migrate([("gallery", "0005_likeness")])
        with connection.cursor() as cursor:
            cursor.execute(_OLD_SITE)
    finally:
        MigrationExecutor(connection).migrate(newest)
    rows = TagIndex.objects.order_by("post_id").values_list("post_id", "tag_ids", "confidences", "rating", "overruled")
    assert [(*row[:2], bytes(row[2]), *row[3:]) for row in rows] == [
        (1, [1, 2], b"\0\7\xff", 2, [2 << 8 | 50]),
        (2, [], b"\0", None, [1 << 8 | 200]),
        (300_000, [1], b"\0\x09", 0, None),
    ]
    assert partition_of(300_000) == "tag_index_p0001"


# A person confirmed tag 2 on post 1, which the release had at 50, and rejected tag 1 on post 2; 3 is an alias of 1.
_OLD_SITE = """
    insert into tag (id, name, category, description, deprecated, post_count)
    values (1, 'a', 0, '', false, 0), (2, 'b', 0, '', false, 0), (3, 'c', 0, '', false, 0);
    insert into tag_alias (name, tag_id) values ('c', 1);
    insert into release (id, name, title, folder, config, metrics, card, tag_ids, installed_at, active,
                         stage, mode, engine, gate)
    values (1, 'r', 'r', '', '{}', '{}', '', '{}', now(), true, '', '', '', '{}');
    insert into post (id, md5, sha256, ext, file_size, width, height, animated, file_name, source, credit, created_at,
                      status, tagging_state, tagging_attempts, tagging_error, priority)
    select i, i::text, i::text, 'jpg', 1, 1, 1, false, '', '', '', now(), 'active', 'tagged', 1, '', 10
      from unnest(array[1, 2, 300000]) i;
    insert into prediction (post_id, release_id, tag_ids, confidences, created_at)
    values (1, 1, '{1,2}', '\\x0732', now()), (2, 1, '{3}', '\\xc8', now()), (300000, 1, '{1}', '\\x09', now());
    insert into tag_index (post_id, tag_ids, confidences, rating, updated_at)
    values (1, '{1,2}', '\\x0007ff', 2, now()), (2, '{}', '\\x00', null, now()), (300000, '{1}', '\\x0009', 0, now());
"""
