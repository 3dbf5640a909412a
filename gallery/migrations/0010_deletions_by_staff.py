from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("gallery", "0009_blacklists"),
    ]

    operations = [
        migrations.AddField(
            model_name="post",
            name="deleted_by_staff",
            field=models.BooleanField(
                db_default=False, default=False, help_text="Then only the staff may restore another person's post"
            ),
        ),
    ]
