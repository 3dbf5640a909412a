"""Values of metatags that are rows of the site: people, releases, profiles, saved searches."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser

from gallery import profiles
from gallery.models import Release, SavedSearch
from gallery.search.fields import uploaders
from gallery.search.scopes import Viewer

_POOL = 40


def words_of(name: str, viewer: Viewer, begins: str = "") -> list[str]:
    """What there is for `name:` that this person may know of; many people are narrowed by how the name begins."""
    if name in ("user", "uploader", "judge"):
        return list(uploaders().filter(username__istartswith=begins).values_list("username", flat=True)[:_POOL])
    if name == "release":
        return list(Release.objects.filter(name__startswith=begins).values_list("name", flat=True)[:_POOL])
    if name == "profile":
        return [profile.key for profile in profiles.choices(viewer or AnonymousUser())]
    if name == "search" and viewer is not None and viewer.is_authenticated:
        return list(dict.fromkeys(row.name for row in SavedSearch.of(viewer)))
    return []
