from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.urls import reverse

from gallery import seeding
from gallery.accounts import inviting
from gallery.likeness import vectors
from gallery.models import Release
from gallery.releases import releasing

STARTER = settings.BASE_DIR / "tagger" / "releases" / "starter"


class Command(BaseCommand):
    help = "Bring a new or updated site into working order: tables, the starter release, the first admin's link."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--demo", action="store_true", help="put the seed gallery in")
        parser.add_argument("--address", default="http://127.0.0.1:8000", help="the site's address, for the link")
        parser.add_argument("--link-file", type=Path, help="write the link there instead of saying it")

    def handle(self, *, demo: bool, address: str, link_file: Path | None, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        vectors.prepare()
        self._install_starter()
        if demo:
            self.stdout.write("Putting the seed gallery in ...")
            new = seeding.install_seed(progress=self._say_progress)
            self.stdout.write(f"The seed gallery is there: {new} pictures are new.")
        if token := inviting.first_admin_token():
            link = f"{address.rstrip('/')}{reverse('join', args=[token])}"
            if link_file:
                link_file.write_text(link, encoding="utf-8")
            else:
                self.stdout.write(f"To become the first admin, open  {link}")

    def _say_progress(self, number: int, total: int) -> None:
        if number % 50 == 0 and number < total:
            self.stdout.write(f"  {number} of {total}")

    def _install_starter(self) -> None:
        if Release.objects.filter(active=True).exists():
            return
        if not (STARTER / "config.json").is_file():
            self.stdout.write(f"No starter release lies in {STARTER}: uploads wait untagged until one is installed.")
            return
        releasing.install(STARTER, activate=True)
        self.stdout.write("The starter release is installed.")
