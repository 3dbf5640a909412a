from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gallery.models import Release
from gallery.releases import releasing


class Command(BaseCommand):
    help = "Make an installed release the one that tags; a folder is installed first."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("release", help="the name of an installed release, or a release folder")

    def handle(self, *, release: str, **options: Any) -> None:
        found = Release.objects.filter(name=release).first()
        try:
            if found:
                releasing.use(found)
            elif Path(release).expanduser().is_dir():
                found = releasing.install(release, activate=True)
            else:
                names = ", ".join(Release.objects.values_list("name", flat=True)) or "none yet"
                raise CommandError(f"{release} is no installed release and no folder; installed: {names}.")
        except releasing.ReleaseError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{found.title} tags from now on. `Tag again` in the staff pages runs it over older posts.")
