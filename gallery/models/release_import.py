from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import models

from gallery.models.release import Release


class ReleaseImport(models.Model):
    """A published tagger that the site gets from a model hub and makes a release of, or did."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DOWNLOADING = "downloading"
        MAKING = "making"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    UNDER_WAY = (State.WAITING, State.DOWNLOADING, State.MAKING)

    kind = models.CharField(max_length=20)
    repository = models.CharField(max_length=200)
    stages = models.CharField(max_length=8, default="full", help_text="Of Camie v1: full or initial")
    name = models.SlugField(max_length=80, help_text="Of the release to be")
    state = models.CharField(max_length=12, choices=State, default=State.WAITING)
    done = models.BigIntegerField(default=0, help_text="Bytes that are here")
    total = models.BigIntegerField(default=0, help_text="Bytes of all files, 0 while unknown")
    error = models.TextField(blank=True)
    release = models.ForeignKey(Release, null=True, on_delete=models.SET_NULL, related_name="+")
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "release_import"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"import of {self.name}"

    @property
    def is_under_way(self) -> bool:
        return self.state in self.UNDER_WAY

    @property
    def folder(self) -> Path:
        """Where its files gather until the release is installed."""
        return settings.RELEASES_DIR / f".import-{self.pk}"
