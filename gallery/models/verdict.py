from __future__ import annotations

from django.conf import settings
from django.db import models


class Verdict(models.Model):
    """What a person said of one tag on one post. Beats predictions and implications until undone."""

    class Origin(models.TextChoices):
        PERSON = "person"
        SEED = "seed"
        IMPORT = "import"

    post = models.ForeignKey("gallery.Post", on_delete=models.CASCADE, related_name="verdicts")
    tag = models.ForeignKey("gallery.Tag", on_delete=models.CASCADE, related_name="verdicts")
    answer = models.BooleanField(help_text="True is yes, False is no")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="verdicts")
    at = models.DateTimeField(auto_now=True)
    release = models.ForeignKey(
        "gallery.Release", null=True, on_delete=models.SET_NULL, help_text="Whose prediction the person saw"
    )
    confidence = models.SmallIntegerField(null=True, help_text="The byte the person saw; null when not predicted")
    merged_from = models.ForeignKey(
        "gallery.Post",
        null=True,
        on_delete=models.SET_NULL,
        related_name="verdicts_given",
        db_index=False,
        help_text="The near copy it was said of",
    )
    origin = models.CharField(max_length=8, choices=Origin, default=Origin.PERSON)

    class Meta:
        db_table = "verdict"
        constraints = [models.UniqueConstraint(fields=["post", "tag"], name="verdict_once")]
        indexes = [
            models.Index(fields=["tag", "answer"], name="verdict_by_tag"),
            models.Index(fields=["merged_from"], name="verdict_merged", condition=models.Q(merged_from__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"post {self.post_id} tag {self.tag_id}: {'yes' if self.answer else 'no'}"
