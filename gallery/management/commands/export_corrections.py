from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gallery import exporting
from gallery.models import Export


class Command(BaseCommand):
    help = "Write a dataset folder of the posts that people judged, for the trainer."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--out", type=Path, help="the folder to write; by default one in the data folder's exports")
        parser.add_argument("--all", action="store_true", help="all posts, not only those that people judged")

    def handle(self, *, out: Path | None, all: bool, **options: Any) -> None:
        export = Export.objects.create()
        try:
            exporting.export(export, folder=out, everything=all)
        except exporting.ExportError as error:
            raise CommandError(str(error)) from error
        counts = export.counts
        self.stdout.write(f"{counts['posts']} posts with {counts['yes']} yes and {counts['no']} no: {export.folder}")
