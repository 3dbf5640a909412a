from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("gallery", "0008_runs_left_over"),
    ]

    operations = [
        migrations.AddField(
            model_name="preference",
            name="blacklist",
            field=models.TextField(
                blank=True,
                db_default="",
                default="",
                help_text="A search a line: lists hide the posts that any of them finds",
            ),
        ),
    ]
