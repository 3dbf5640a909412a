from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from gallery.index import histograms, indexing
from gallery.models import Post


class Command(BaseCommand):
    help = "Make the tag index anew from predictions, verdicts, aliases and implications."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("posts", nargs="*", type=int, help="ids of posts; by default all")

    def handle(self, *, posts: list[int], **options: Any) -> None:
        ids = posts or list(Post.objects.values_list("pk", flat=True))
        indexing.rebuild(ids)
        histograms.refresh(force=True)
        self.stdout.write(f"{len(ids)} posts are indexed anew.")
