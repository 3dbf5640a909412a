from __future__ import annotations

from django.conf import settings
from django.db import models


class Profile(models.Model):
    """Named thresholds: one overall, or one per category, with overrides per tag.

    The site's profiles have no owner and belong to the release that shipped them; a person's own
    has an owner and no release. Values are confidences from 0 to 1.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="profiles"
    )
    release = models.ForeignKey(
        "gallery.Release", null=True, blank=True, on_delete=models.CASCADE, related_name="profiles"
    )
    key = models.SlugField(max_length=60, help_text="overall, weighted, category-specific ... for the site's")
    name = models.CharField(max_length=60)
    description = models.TextField(blank=True)
    position = models.SmallIntegerField(default=0)
    overall = models.FloatField(default=0.5)
    by_category = models.JSONField(default=dict, blank=True, help_text='{"general": 0.35}')
    by_tag = models.JSONField(default=dict, blank=True, help_text='{"tag name": 0.9}')
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "profile"
        ordering = ["position", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "key"], name="profile_own_key", condition=models.Q(owner__isnull=False)
            ),
            models.UniqueConstraint(
                fields=["release", "key"], name="profile_site_key", condition=models.Q(owner__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Preference(models.Model):
    """What a member chose for every visit. An anonymous visitor's choice is in the session."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="preference"
    )
    profile = models.ForeignKey(Profile, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    blacklist = models.TextField(
        blank=True, default="", db_default="", help_text="A search a line: lists hide the posts that any of them finds"
    )

    class Meta:
        db_table = "preference"

    def __str__(self) -> str:
        return f"preference of user {self.user_id}"
