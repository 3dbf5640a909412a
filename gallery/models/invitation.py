from __future__ import annotations

import hashlib

from django.conf import settings
from django.db import models
from django.utils import timezone


class Invitation(models.Model):
    """A one-time link that makes one account. The first admin comes through one, too."""

    class Role(models.TextChoices):
        MEMBER = "member"
        STAFF = "staff"

    token_hash = models.CharField(max_length=64, unique=True, help_text="sha256: the link itself is never stored")
    role = models.CharField(max_length=8, choices=Role, default=Role.MEMBER)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "invitation"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"invitation {self.pk}"

    @staticmethod
    def hash_of(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()

    @property
    def open(self) -> bool:
        return self.used_at is None and self.expires_at > timezone.now()
