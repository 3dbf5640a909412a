"""Closed lists that rows, search and templates share."""

from django.db import models


class Category(models.IntegerChoices):
    """Tag categories; the numbers are Danbooru's, with Camie's 9 and 10 for rating and year."""

    GENERAL = 0, "general"
    ARTIST = 1, "artist"
    COPYRIGHT = 3, "copyright"
    CHARACTER = 4, "character"
    META = 5, "meta"
    RATING = 9, "rating"
    YEAR = 10, "year"

    @classmethod
    def named(cls, name: str) -> "Category":
        """The category called `name`, as in release folders; KeyError when there is none."""
        return cls[name.upper()]


# The order in which pages list categories.
CATEGORY_ORDER = (
    Category.ARTIST,
    Category.COPYRIGHT,
    Category.CHARACTER,
    Category.GENERAL,
    Category.META,
    Category.YEAR,
    Category.RATING,
)


class Rating(models.IntegerChoices):
    """What `tag_index.rating` holds; null is unrated. Each has one tag, `rating_<label>`."""

    GENERAL = 0, "general"
    SENSITIVE = 1, "sensitive"
    QUESTIONABLE = 2, "questionable"
    EXPLICIT = 3, "explicit"

    @property
    def tag_name(self) -> str:
        return f"rating_{self.label}"


class PostStatus(models.TextChoices):
    ACTIVE = "active"
    DELETED = "deleted"
    HELD = "held"  # uploaded, and its uploader has yet to say what becomes of it


class TaggingState(models.TextChoices):
    WAITING = "waiting"
    TAGGING = "tagging"
    TAGGED = "tagged"
    FAILED = "failed"
