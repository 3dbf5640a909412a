from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gallery import backups


class Command(BaseCommand):
    help = "Fill an empty site from a folder that `backup` wrote, by this version or an older one."
    requires_system_checks: list[str] = []  # the tables may not be there yet

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, help="the folder with the backup")

    def handle(self, *, folder: Path, **options: Any) -> None:
        try:
            outcome = backups.restore(folder, self.stdout.write)
        except backups.BackupError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{outcome.posts:,} posts are back. Start the site, or start it again if it is up.")
        if outcome.missing:
            raise CommandError(backups.missing_sentence(outcome))
