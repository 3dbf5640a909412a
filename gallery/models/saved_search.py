from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models


class SavedSearch(models.Model):
    """A search that a member keeps under a name; `search:name` finds the posts of all that share the name."""

    MOST = 100  # that one member may keep

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_searches")
    name = models.CharField(max_length=60, help_text="As a tag is written: lower case, words joined by underscores")
    query = models.TextField()
    seen = models.BigIntegerField(default=0, help_text="The newest post it had found when it was last opened")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "saved_search"
        ordering = ["name", "id"]
        verbose_name_plural = "saved searches"
        constraints = [models.UniqueConstraint(fields=["owner", "name", "query"], name="saved_search_once")]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, user: AbstractBaseUser | AnonymousUser) -> list[SavedSearch]:
        """A member's by name, as accounts/members.py brought them along; none of a visitor's."""
        if not user.is_authenticated:
            return []
        kept = getattr(user, "kept_searches", None)
        return list(cls.objects.filter(owner_id=user.pk)) if kept is None else kept
