from __future__ import annotations

from django.db import models


class Feature(models.Model):
    """What one release's backbone saw in one post's picture, for likeness: a direction, one signed byte a number.

    Never changed: the same picture gives the same release the same feature. Empty where none could be had, so that
    nobody asks for it alone; when the post is tagged again, its feature takes the empty one's place.
    """

    post = models.ForeignKey("gallery.Post", on_delete=models.CASCADE, related_name="features", db_index=False)
    release = models.ForeignKey("gallery.Release", on_delete=models.CASCADE, related_name="features", db_index=False)
    codes = models.BinaryField()

    class Meta:
        db_table = "feature"
        constraints = [models.UniqueConstraint(fields=["post", "release"], name="feature_once")]
        indexes = [models.Index(fields=["release", "id"], name="feature_by_release")]  # what a search has not read yet

    def __str__(self) -> str:
        return f"post {self.post_id} as release {self.release_id} sees it"
