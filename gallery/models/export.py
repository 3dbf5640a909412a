from __future__ import annotations

from django.conf import settings
from django.db import models


class Export(models.Model):
    """A dataset folder that the site wrote, or is writing."""

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=8, choices=State, default=State.RUNNING)
    folder = models.TextField(blank=True)
    total = models.IntegerField(default=0)
    done = models.IntegerField(default=0)
    counts = models.JSONField(default=dict, help_text="posts, yes, no")
    error = models.TextField(blank=True)

    class Meta:
        db_table = "export"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"export {self.pk}"
