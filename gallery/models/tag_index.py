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

    `overruled` keeps what the release said of the tags whose byte here is another, because of a verdict,
    an implication or a better rating: sorted, tag id * 256 + the release's byte; null when there are none.
    So tag ids stay below 8.4 million (2^23), here and in `TagChange`.

    The table is partitioned by post id (gallery/index/partitions.py).
    """

    post = models.OneToOneField("gallery.Post", primary_key=True, on_delete=models.CASCADE, related_name="tag_index")
    tag_ids = ArrayField(models.IntegerField(), default=list)
    confidences = models.BinaryField(default=b"\0")
    rating = models.SmallIntegerField(choices=Rating, null=True)
    updated_at = models.DateTimeField(auto_now=True)
    overruled = ArrayField(models.IntegerField(), null=True)

    class Meta:
        db_table = "tag_index"
        indexes = [
            # New entries gather in a list of at most a megabyte before they are merged: writes cost a third.
            GinIndex(fields=["tag_ids"], name="tag_index_tags", fastupdate=True, gin_pending_list_limit=1024),
            models.Index(fields=["updated_at", "post"], name="tag_index_by_change"),
        ]

    def __str__(self) -> str:
        return f"index of post {self.post_id}"


class TagChange(models.Model):
    """What one write changed in the tag index and is not yet in the tags' histograms.

    Entries are tag id * 256 + byte: `gone` were on a post and are no more, `come` are new. A row without any
    asks for a count of everything.
    """

    gone = ArrayField(models.IntegerField(), default=list)
    come = ArrayField(models.IntegerField(), default=list)

    class Meta:
        db_table = "tag_change"

    def __str__(self) -> str:
        return f"{len(self.gone)} gone, {len(self.come)} come"
