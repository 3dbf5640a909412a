from __future__ import annotations

import argparse
from typing import Any

from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand
from PIL import Image

from gallery.models import THUMBNAIL_SIZES, Post
from gallery.pictures import perceptual_hash

_AT_ONCE = 500


class Command(BaseCommand):
    help = "Make the perceptual hashes of posts anew from their samples, after a version that hashes otherwise."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("posts", nargs="*", type=int, help="ids of posts; by default all")

    def handle(self, *, posts: list[int], **options: Any) -> None:
        chosen = Post.objects.filter(pk__in=posts) if posts else Post.objects.all()
        changed: list[Post] = []
        done = missing = 0
        for post in chosen.only("pk", "sha256", "perceptual_hash").order_by("pk").iterator(_AT_ONCE):
            try:
                with default_storage.open(post.thumbnail_path(max(THUMBNAIL_SIZES))) as file, Image.open(file) as image:
                    found = perceptual_hash(image.convert("RGBA" if image.has_transparency_data else "RGB"))
            except OSError:
                missing += 1
                continue
            done += 1
            if found != post.perceptual_hash:
                post.perceptual_hash = found
                changed.append(post)
            if len(changed) == _AT_ONCE:
                Post.objects.bulk_update(changed, ["perceptual_hash"])
                changed.clear()
                self.stdout.write(f"{done} posts", ending="\r")
        Post.objects.bulk_update(changed, ["perceptual_hash"])
        self.stdout.write(f"{done} posts are hashed anew." + (f" {missing} have no sample." if missing else ""))
