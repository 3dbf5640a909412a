from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gallery.releases import releasing


class Command(BaseCommand):
    help = "Install a release folder; with --use, make it the one that tags."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, help="the release folder, as the trainer published it")
        parser.add_argument("--use", action="store_true", help="make it active, too")

    def handle(self, *, folder: Path, use: bool, **options: Any) -> None:
        try:
            release = releasing.install(folder, activate=use)
        except releasing.ReleaseError as error:
            raise CommandError(str(error)) from error
        state = "installed and active" if use else "installed"
        self.stdout.write(f"{release.title} is {state}, with {len(release.tag_ids)} tags.")
