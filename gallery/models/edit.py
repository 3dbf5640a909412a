from __future__ import annotations

from django.conf import settings
from django.db import models


class Edit(models.Model):
    """What somebody changed of one post beside its tags, from what to what; undoing it is an edit, too.

    A parent is written as its number, none as nothing.
    """

    class Detail(models.TextChoices):
        SOURCE = "source"
        CREDIT = "credit"
        PARENT = "parent"

    post = models.ForeignKey("gallery.Post", on_delete=models.CASCADE, related_name="edits")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="edits")
    at = models.DateTimeField(auto_now_add=True)
    detail = models.CharField(max_length=8, choices=Detail)
    before = models.TextField(blank=True)
    after = models.TextField(blank=True)

    class Meta:
        db_table = "edit"

    def __str__(self) -> str:
        return f"{self.detail} of post {self.post_id}"
