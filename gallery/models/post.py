from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.files.storage import default_storage
from django.db import models
from django.urls import reverse

from gallery.models.choices import PostStatus, TaggingState

THUMBNAIL_SIZES = (360, 850)  # longest side in pixels: the grid's, and the post page's sample


class PostQuerySet(models.QuerySet["Post"]):
    def active(self) -> PostQuerySet:
        return self.filter(status=PostStatus.ACTIVE)

    def waiting(self) -> PostQuerySet:
        """Posts for the tagger, in the order it takes them: uploads before re-runs, newest first."""
        return self.active().filter(tagging_state=TaggingState.WAITING).order_by("-priority", "-id")


class Post(models.Model):
    """One uploaded picture and what is known of it. The row is the tagger's queue, too."""

    UPLOAD_PRIORITY = 10
    RERUN_PRIORITY = 0

    md5 = models.CharField(max_length=32, db_index=True)
    sha256 = models.CharField(max_length=64, unique=True)
    ext = models.CharField(max_length=8)
    file_size = models.BigIntegerField()
    width = models.IntegerField()
    height = models.IntegerField()
    animated = models.BooleanField(default=False)
    perceptual_hash = models.BigIntegerField(null=True, help_text="64 bits, as a signed number")
    file_name = models.CharField(max_length=255, blank=True, help_text="As uploaded; never trusted")
    source = models.TextField(blank=True)
    credit = models.TextField(blank=True, help_text="Artist and licence, where they must be shown")
    uploader = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="posts"
    )
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    status = models.CharField(max_length=8, choices=PostStatus, default=PostStatus.ACTIVE)

    deleted_by_staff = models.BooleanField(
        default=False, db_default=False, help_text="Then only the staff may restore another person's post"
    )

    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children", db_index=False
    )
    merged_into = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="merged", db_index=False
    )

    tagging_state = models.CharField(max_length=8, choices=TaggingState, default=TaggingState.WAITING)
    tagging_attempts = models.SmallIntegerField(default=0)
    tagging_error = models.TextField(blank=True)
    tagging_started_at = models.DateTimeField(null=True, blank=True)
    priority = models.SmallIntegerField(default=UPLOAD_PRIORITY)
    tagging_run = models.ForeignKey(
        "gallery.TaggingRun", null=True, blank=True, on_delete=models.SET_NULL, related_name="posts"
    )

    objects = PostQuerySet.as_manager()

    class Meta:
        db_table = "post"
        indexes = [
            models.Index(
                fields=["-priority", "-id"],
                name="post_waiting",
                condition=models.Q(tagging_state="waiting", status="active"),
            ),
            models.Index(
                fields=["tagging_started_at"],
                name="post_tagging",
                condition=models.Q(tagging_state="tagging"),
            ),
            # What a run has not done, among a million posts that it has: the sweep and the run's page ask often.
            models.Index(
                fields=["tagging_run", "tagging_state", "status"],
                name="post_of_run",
                condition=models.Q(tagging_run__isnull=False, tagging_state__in=["waiting", "tagging", "failed"]),
            ),
            models.Index(fields=["parent"], name="post_children", condition=models.Q(parent__isnull=False)),
            models.Index(fields=["merged_into"], name="post_merged", condition=models.Q(merged_into__isnull=False)),
            models.Index(fields=["uploader"], name="post_held", condition=models.Q(status="held")),
            # A common search in one of these orders reads along the index until the page is full.
            models.Index(fields=["width", "id"], name="post_by_width"),
            models.Index(fields=["height", "id"], name="post_by_height"),
            models.Index(fields=["file_size", "id"], name="post_by_file_size"),
        ]

    def __str__(self) -> str:
        return f"post {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("post", args=[self.pk])

    def may_be_changed_by(self, user: AbstractBaseUser | AnonymousUser) -> bool:
        """Deleted, restored, and seen while deleted or held: by its uploader and the staff."""
        return user.is_authenticated and (user.is_staff or user.pk == self.uploader_id)

    def may_be_restored_by(self, user: AbstractBaseUser | AnonymousUser) -> bool:
        """What the staff deleted only the staff bring back."""
        return self.may_be_changed_by(user) and (user.is_staff or not self.deleted_by_staff)

    @property
    def file_path(self) -> str:
        """Where the original lies in the storage: spread by hash, two levels."""
        return f"original/{self.sha256[:2]}/{self.sha256[2:4]}/{self.sha256}.{self.ext}"

    def thumbnail_path(self, size: int) -> str:
        return f"thumbnail/{size}/{self.sha256[:2]}/{self.sha256[2:4]}/{self.sha256}.webp"

    @property
    def file_url(self) -> str:
        return default_storage.url(self.file_path)

    @property
    def thumbnail_url(self) -> str:
        return default_storage.url(self.thumbnail_path(THUMBNAIL_SIZES[0]))

    @property
    def sample_url(self) -> str:
        return default_storage.url(self.thumbnail_path(THUMBNAIL_SIZES[1]))
