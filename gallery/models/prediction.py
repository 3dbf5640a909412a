from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Prediction(models.Model):
    """What one release said of one post, kept down to the release's score floor.

    `tag_ids` is sorted; `confidences` has one byte each, floor(confidence * 254), in the same order.
    People never change it: their word is a Verdict.
    """

    # The index of `prediction_once` begins with the post.
    post = models.ForeignKey("gallery.Post", on_delete=models.CASCADE, related_name="predictions", db_index=False)
    release = models.ForeignKey("gallery.Release", on_delete=models.CASCADE, related_name="predictions")
    tag_ids = ArrayField(models.IntegerField())
    confidences = models.BinaryField()
    created_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "prediction"
        constraints = [models.UniqueConstraint(fields=["post", "release"], name="prediction_once")]
        indexes = [
            models.Index(fields=["-created_at"], name="prediction_by_time")
        ]  # what was tagged last, and how fast

    def __str__(self) -> str:
        return f"post {self.post_id} by release {self.release_id}"
