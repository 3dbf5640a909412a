from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gallery import tagging
from gallery.models import Release


class Command(BaseCommand):
    help = "Tag the posts that wait, here and now, without a worker."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")

    def handle(self, *, seconds: float, **options: Any) -> None:
        if not Release.objects.filter(active=True).exists():
            raise CommandError("No release is active: install one with install_release FOLDER --use.")
        self.stdout.write(f"{tagging.tag_waiting(seconds)} posts are tagged.")
