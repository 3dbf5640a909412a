import django.contrib.postgres.fields
import django.contrib.postgres.indexes
from django.db import migrations, models

SIZE = 262_144
STORAGE = (
    "fillfactor = 92, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05,"
    " autovacuum_analyze_scale_factor = 0.05"
)

# What the release said and the index does not: the post's current prediction, after aliases, beside its row.
OVERRULED = """
    with current as (
        select distinct on (x.post_id) x.post_id, x.tag_ids, x.confidences
          from prediction x join release r on r.id = x.release_id
         order by x.post_id, r.active desc, x.created_at desc, x.id desc
    ), said as (
        select c.post_id, coalesce(a.tag_id, u.tag_id) as tag_id, max(get_byte(c.confidences, u.place::int - 1)) as byte
          from current c cross join unnest(c.tag_ids) with ordinality u(tag_id, place)
          join tag t on t.id = u.tag_id left join tag_alias a on a.name = t.name
         group by 1, 2
    ), indexed as (
        select i.post_id, u.tag_id::bigint as tag_id, get_byte(i.confidences, u.place::int) as byte
          from tag_index i cross join unnest(i.tag_ids) with ordinality u(tag_id, place)
    ), differing as (
        select post_id, array_agg((tag_id * 256 + coalesce(said.byte, 0))::int order by tag_id) as entries
          from said full join indexed using (post_id, tag_id)
         where said.byte is distinct from indexed.byte
         group by post_id
    )
    update tag_index i set overruled = d.entries from differing d where d.post_id = i.post_id
"""


def partition(apps, schema_editor):
    """Put the rows into partitions by range of post ids, and one more for what comes before its partition does."""
    execute = schema_editor.execute
    execute("alter table tag_index rename to tag_index_whole")
    execute(
        "create table tag_index (post_id bigint not null, updated_at timestamptz not null, rating smallint,"
        " tag_ids int[] not null, confidences bytea not null, overruled int[]) partition by range (post_id)"
    )
    execute("create table tag_index_default partition of tag_index default")
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("select coalesce(max(id), 0) from post")
        newest = cursor.fetchone()[0]
    for number in range(newest // SIZE + 2):
        execute(
            f"create table tag_index_p{number:04} partition of tag_index"
            f" for values from ({number * SIZE}) to ({(number + 1) * SIZE}) with ({STORAGE})"
        )
    execute(
        "insert into tag_index (post_id, updated_at, rating, tag_ids, confidences)"
        " select post_id, updated_at, rating, tag_ids, confidences from tag_index_whole order by post_id"
    )
    execute("drop table tag_index_whole")
    execute("alter table tag_index add primary key (post_id)")
    if newest:
        execute(OVERRULED)
    # Entries wait in a list of at most a megabyte until they are merged: writes cost a third.
    execute(
        "create index tag_index_tags on tag_index using gin (tag_ids)"
        " with (fastupdate = on, gin_pending_list_limit = 1024)"
    )
    execute(
        "alter table tag_index add constraint tag_index_post_id_fk_post_id foreign key (post_id) references post (id)"
        " deferrable initially deferred"
    )


def put_together(apps, schema_editor):
    """One table again, as it was."""
    for statement in (
        "create table tag_index_whole (post_id bigint primary key, tag_ids int[] not null, confidences bytea not null,"
        " rating smallint, updated_at timestamptz not null)",
        "insert into tag_index_whole select post_id, tag_ids, confidences, rating, updated_at from tag_index",
        "drop table tag_index",
        "alter table tag_index_whole rename to tag_index",
        "alter table tag_index add constraint tag_index_post_id_fk_post_id foreign key (post_id) references post (id)"
        " deferrable initially deferred",
        "create index tag_index_updated_at on tag_index (updated_at)",
        "create index tag_index_tags on tag_index using gin (tag_ids)",
    ):
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [
        ("gallery", "0005_likeness"),
    ]

    operations = [
        migrations.CreateModel(
            name="TagChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "gone",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), default=list, size=None
                    ),
                ),
                (
                    "come",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), default=list, size=None
                    ),
                ),
            ],
            options={"db_table": "tag_change"},
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(partition, put_together)],
            state_operations=[
                migrations.RemoveIndex(model_name="tagindex", name="tag_index_tags"),
                migrations.AddField(
                    model_name="tagindex",
                    name="overruled",
                    field=django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), null=True, size=None
                    ),
                ),
                migrations.AlterField(
                    model_name="tagindex", name="updated_at", field=models.DateTimeField(auto_now=True)
                ),
                migrations.AddIndex(
                    model_name="tagindex",
                    index=django.contrib.postgres.indexes.GinIndex(
                        fastupdate=True, fields=["tag_ids"], gin_pending_list_limit=1024, name="tag_index_tags"
                    ),
                ),
            ],
        ),
        # The first refresh counts everything.
        migrations.RunSQL("insert into tag_change (gone, come) values ('{}', '{}')", migrations.RunSQL.noop),
        # Along these a common search in another order is read until the page is full.
        migrations.AddIndex(model_name="post", index=models.Index(fields=["width", "id"], name="post_by_width")),
        migrations.AddIndex(model_name="post", index=models.Index(fields=["height", "id"], name="post_by_height")),
        migrations.AddIndex(model_name="post", index=models.Index(fields=["file_size", "id"], name="post_by_file_size")),
        migrations.RunSQL(
            "create index post_by_pixels on post ((width::bigint * height), id);"
            " create index post_by_ratio on post ((width::float8 / greatest(height, 1)), id)",
            "drop index post_by_pixels; drop index post_by_ratio",
        ),
    ]
