from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gallery import seeding


class Command(BaseCommand):
    help = "Put the seed gallery in: freely licensed pictures with tags that people gave them."

    def handle(self, **options: Any) -> None:
        try:
            new = seeding.install_seed()
        except seeding.SeedError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"The seed gallery is there: {new} pictures are new.")
