from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("gallery", "0011_get_runs_ready_in_a_worker"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="post",
            index=models.Index(
                fields=["tagging_run", "tagging_state", "status"],
                name="post_of_run",
                condition=models.Q(tagging_run__isnull=False, tagging_state__in=["waiting", "tagging", "failed"]),
            ),
        ),
    ]
