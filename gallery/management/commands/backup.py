from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gallery import backups


class Command(BaseCommand):
    help = (
        "Save the whole site in a folder: posts, tags, verdicts, accounts, pictures, releases. It may be up meanwhile."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, help="where to; an older backup in it is brought up to date")

    def handle(self, *, folder: Path, **options: Any) -> None:
        try:
            outcome = backups.backup(folder, self.stdout.write)
        except backups.BackupError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{outcome.posts:,} posts are saved in {folder}; {outcome.copied:,} files were new.")
        if outcome.missing:
            raise CommandError(backups.missing_sentence(outcome))
