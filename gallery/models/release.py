from __future__ import annotations

from pathlib import Path

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Release(models.Model):
    """One published tagger, installed from its folder, and how it is run here. At most one is active."""

    class Stage(models.TextChoices):
        REFINED = "refined"
        INITIAL = "initial"

    class Mode(models.TextChoices):
        EXACT = "exact"
        FAST = "fast"

    class Engine(models.TextChoices):
        AUTO = "auto"
        ONNXRUNTIME = "onnxruntime"
        OPENVINO = "openvino"

    name = models.SlugField(max_length=80, unique=True)
    title = models.CharField(max_length=200)
    folder = models.TextField(help_text="The release folder on this machine")
    config = models.JSONField(help_text="config.json as it was when installed")
    metrics = models.JSONField(default=dict)
    card = models.TextField(blank=True)
    tag_ids = ArrayField(models.IntegerField(), help_text="Tag row of each vocabulary index")
    installed_at = models.DateTimeField(auto_now_add=True)
    activated_at = models.DateTimeField(null=True)
    active = models.BooleanField(default=False)
    stage = models.CharField(max_length=8, choices=Stage, default=Stage.REFINED)
    mode = models.CharField(max_length=8, choices=Mode, default=Mode.EXACT)
    engine = models.CharField(max_length=12, choices=Engine, default=Engine.AUTO)
    gate = models.JSONField(default=dict, help_text="The last check of the fast mode, or that one is under way")

    class Meta:
        db_table = "release"
        ordering = ["-installed_at"]
        constraints = [
            models.UniqueConstraint(fields=["active"], name="release_one_active", condition=models.Q(active=True))
        ]

    def __str__(self) -> str:
        return self.title

    @classmethod
    def bulk(cls, path: str = "") -> list[str]:
        """The large columns, as queries that only name a release should defer them: a vocabulary has 70,000 tags."""
        return [f"{path}{column}" for column in ("tag_ids", "config", "metrics", "card")]

    @property
    def way(self) -> tuple[str, str, str]:
        """How a worker runs it; when this changes, the model is loaded anew."""
        return self.stage, self.mode, self.engine

    def is_fast_with(self, engine: str) -> bool:
        """Whether fast mode by this engine, as it calls itself, passed the last check."""
        results = self.gate.get("results") or [self.gate]
        return any(result.get("passed") and result.get("engine") == engine for result in results)

    @property
    def path(self) -> Path:
        return Path(self.folder)
