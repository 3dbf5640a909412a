"""Tags of imported vocabularies were named as published; a search, which asks in lower case, did not find them."""

import unicodedata

from django.db import migrations


def rename(apps, editor):
    """Where the name that a search asks for is free: two tags are left apart, as posts and verdicts name both."""
    tag, alias = apps.get_model("gallery", "Tag"), apps.get_model("gallery", "TagAlias")
    names = dict(tag.objects.values_list("name", "id"))
    taken = set(names) | set(alias.objects.values_list("name", flat=True))
    for name, tag_id in names.items():
        asked = "_".join(unicodedata.normalize("NFC", name).lower().split())
        if asked and asked not in taken and len(asked) <= 200:
            taken.add(asked)
            tag.objects.filter(pk=tag_id).update(name=asked)


class Migration(migrations.Migration):
    dependencies = [
        ("gallery", "0012_find_what_a_run_has_not_done"),
    ]

    operations = [
        migrations.RunPython(rename, migrations.RunPython.noop),
    ]
