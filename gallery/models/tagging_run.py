from __future__ import annotations

from django.conf import settings
from django.db import models


class TaggingRun(models.Model):
    """Who asked which posts to be tagged again, and how far it is.

    Posts point here while they wait; what no longer waits nor is being tagged is done.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        CANCELLED = "cancelled"
        DONE = "done"

    release = models.ForeignKey("gallery.Release", on_delete=models.CASCADE, related_name="runs")
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    scope = models.CharField(max_length=10, help_text="all, search or older")
    query = models.TextField(blank=True)
    total = models.IntegerField()
    failed = models.IntegerField(default=0)
    left = models.IntegerField(default=0, help_text="Posts that it had not taken when it was cancelled")
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "tagging_run"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"tagging run {self.pk}"
