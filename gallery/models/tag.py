from __future__ import annotations

import re
import unicodedata

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.exceptions import ValidationError
from django.db import models

from gallery.models.choices import Category


def typed_name(text: str) -> str:
    """What somebody typed as tags are stored: lower case, composed, words joined by underscores."""
    return "_".join(unicodedata.normalize("NFC", text).lower().split())


_FORBIDDEN = re.compile(r"^[-~]|[\x00-\x20\x7f*,\\%]")
NAMES_SENTENCE = "The name of a tag can't begin with - or ~, nor have * , % or \\ in it."


def can_be_asked(name: str) -> bool:
    """Whether a search can ask for a tag of this name; if not, NAMES_SENTENCE says why."""
    return not _FORBIDDEN.search(name)


class Tag(models.Model):
    """A name in a category. Names are unique over all categories, as in Danbooru and Camie."""

    name = models.CharField(max_length=200, unique=True)
    category = models.SmallIntegerField(choices=Category, default=Category.GENERAL)
    description = models.TextField(blank=True)
    deprecated = models.BooleanField(default=False)
    histogram = ArrayField(
        models.IntegerField(),
        size=256,
        null=True,
        help_text="Active posts by confidence byte; 255 is a human yes",
    )
    post_count = models.IntegerField(default=0, help_text="Active posts at any confidence: the histogram's sum")

    class Meta:
        db_table = "tag"
        indexes = [
            GinIndex(name="tag_name_trigram", fields=["name"], opclasses=["gin_trgm_ops"]),
            models.Index(fields=["name"], name="tag_name_prefix", opclasses=["varchar_pattern_ops"]),
            models.Index(fields=["category", "-post_count"], name="tag_by_count"),
            models.Index(fields=["-post_count", "name"], name="tag_by_count_of_all"),
            models.Index(fields=["id"], name="tag_deprecated", condition=models.Q(deprecated=True)),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Name it as searches ask for it. What is stored otherwise stays so: that name may be another tag's."""
        if not Tag.objects.filter(pk=self.pk, name=self.name).exists():
            self.name = typed_name(self.name)
            if not can_be_asked(self.name):
                raise ValidationError({"name": NAMES_SENTENCE})


class TagAlias(models.Model):
    """Another name that always means `tag`."""

    name = models.CharField(max_length=200, unique=True)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE, related_name="aliases")

    class Meta:
        db_table = "tag_alias"
        verbose_name_plural = "tag aliases"

    def __str__(self) -> str:
        return f"{self.name} → {self.tag}"

    def clean(self) -> None:
        """Refuse names that no tag can have, and aliases that lead back to themselves."""
        self.name = typed_name(self.name)
        if not self.name:
            raise ValidationError({"name": "Type the name that leads to the tag."})
        name, seen = self.tag.name if self.tag_id else "", []
        while name not in seen:
            if name == self.name:
                raise ValidationError({"tag": f"{self.name} would lead back to itself: choose another tag."})
            seen.append(name)
            onward = TagAlias.objects.filter(name=name).exclude(pk=self.pk)
            name = onward.values_list("tag__name", flat=True).first() or name


class TagImplication(models.Model):
    """A post with `tag` has `implied`, unless a person said no to it there."""

    tag = models.ForeignKey(Tag, on_delete=models.CASCADE, related_name="implications")
    implied = models.ForeignKey(Tag, on_delete=models.CASCADE, related_name="implied_by")

    class Meta:
        db_table = "tag_implication"
        constraints = [
            models.UniqueConstraint(fields=["tag", "implied"], name="tag_implication_once"),
            models.CheckConstraint(condition=~models.Q(tag=models.F("implied")), name="tag_implies_another"),
        ]

    def __str__(self) -> str:
        return f"{self.tag} → {self.implied}"

    def clean(self) -> None:
        """Refuse implications that lead back to where they begin."""
        seen: set[int] = set()
        reached = {self.implied_id} - {None}
        while reached:
            if self.tag_id in reached:
                raise ValidationError(
                    f"{self.implied.name} leads to {self.tag.name}: choose two tags without a circle."
                )
            seen |= reached
            next_ones = TagImplication.objects.filter(tag_id__in=reached).exclude(pk=self.pk)
            reached = set(next_ones.values_list("implied_id", flat=True)) - seen
