from __future__ import annotations

from django.conf import settings
from django.db import models


class TaggingRun(models.Model):
    """Who asked which posts to be tagged again, and how far it is.

    Posts point here while they wait; what no longer waits nor is being tagged is done.
    """

    class State(models.TextChoices):
        PREPARING = "preparing", "getting ready"
        RUNNING = "running"
        CANCELLED = "cancelled"
        DONE = "done"
        FAILED = "failed"

    UNDER_WAY = (State.PREPARING, State.RUNNING)
    ENDED_EARLY = (State.CANCELLED, State.FAILED)

    release = models.ForeignKey("gallery.Release", on_delete=models.CASCADE, related_name="runs")
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    scope = models.CharField(max_length=10, help_text="all, search or older")
    query = models.TextField(blank=True)
    thresholds = models.JSONField(default=dict, help_text="In bytes, as the search was read when it was asked for")
    wanted = models.IntegerField(default=0, help_text="Posts of the scope when it began to get ready")
    total = models.IntegerField(default=0, help_text="Posts that it was handed so far")
    handed_to = models.BigIntegerField(default=0, help_text="The last post that was looked at for it")
    failed = models.IntegerField(default=0)
    left = models.IntegerField(default=0, help_text="Posts that it gave back when it was cancelled")
    error = models.TextField(blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.PREPARING)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "tagging_run"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"tagging run {self.pk}"

    @property
    def is_under_way(self) -> bool:
        return self.state in self.UNDER_WAY
