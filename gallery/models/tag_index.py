from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models

from gallery.models.choices import Rating


class TagIndex(models.Model):
    """The only thing search reads: one row per active post, after verdicts, aliases, implications.

    `tag_ids` is sorted. `confidences` begins with a zero byte, so that
    `get_byte(confidences, idx(tag_ids, T))` is 0 for an absent tag; byte i belongs to tag_ids[i],
    counted from 1. 255 is a human yes; a human no is absent. A deleted post has no row.
    """

    post = models.OneToOneField("gallery.Post", primary_key=True, on_delete=models.CASCADE, related_name="tag_index")
    tag_ids = ArrayField(models.IntegerField(), default=list)
    confidences = models.BinaryField(default=b"\0")
    rating = models.SmallIntegerField(choices=Rating, null=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    class Meta:
        db_table = "tag_index"
        indexes = [GinIndex(fields=["tag_ids"], name="tag_index_tags")]

    def __str__(self) -> str:
        return f"index of post {self.post_id}"
