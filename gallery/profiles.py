"""Thresholds: resolve a profile to numbers, and decide which tags are on for rows already fetched.

Confidences are compared as bytes: stored floor(confidence * 254), threshold ceil(t * 254), a
human yes 255. A tag is on when its byte reaches the threshold's. Ratings are never cut: the tag
index holds only the post's one rating.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import transaction
from django.db.models import Expression, F, Func, JSONField, Q, QuerySet
from django.http import HttpRequest
from django.utils.text import slugify

from gallery.models import Category, PostStatus, Preference, Profile, Tag, TagIndex

HUMAN_YES = 255
SCALE = 254
DEFAULT_KEY = "category-specific"
_SESSION_KEY = "profile"
_UNREAD = object()

User = AbstractBaseUser | AnonymousUser


class ProfileError(ValueError):
    """A profile that can't be saved or chosen; the text is one sentence for the person."""


def to_bytes(confidences: np.ndarray) -> np.ndarray:
    """Confidences from 0 to 1 as stored bytes, floor(confidence * 254), uint8 in the same shape."""
    return np.floor(np.clip(np.asarray(confidences, np.float64), 0.0, 1.0) * SCALE).astype(np.uint8)


def threshold_byte(threshold: float) -> int:
    """The least stored byte that reaches `threshold`; at least 1, so that an absent tag never does."""
    return min(SCALE, max(1, math.ceil(round(threshold * SCALE, 6))))


@dataclass(frozen=True)
class Thresholds:
    """A profile in bytes: by tag id, else by category, else overall."""

    overall: int
    by_category: Mapping[int, int] = field(default_factory=dict)
    by_tag: Mapping[int, int] = field(default_factory=dict)

    def byte(self, tag_id: int, category: int) -> int:
        """The least byte at which this tag is on; 1 for ratings, which are on whenever present."""
        if category == Category.RATING:
            return 1
        return self.by_tag.get(tag_id) or self.by_category.get(category, self.overall)

    def __hash__(self) -> int:
        return hash((self.overall, tuple(sorted(self.by_category.items())), tuple(sorted(self.by_tag.items()))))


def resolve(profile: Profile | None) -> Thresholds:
    """The numbers of a profile, saved or not; None is the site's default.

    Overrides of tags that don't exist (yet) wait in the row and count for nothing.
    """
    profile = profile or default_profile()
    by_tag = {}
    if (read := getattr(profile, "by_tag_id", _UNREAD)) is not _UNREAD:
        by_tag = {int(tag_id): threshold_byte(value) for tag_id, value in (read or {}).items()}
    elif profile.by_tag:
        ids = Tag.objects.filter(name__in=list(profile.by_tag)).values_list("name", "id")
        by_tag = {tag_id: threshold_byte(profile.by_tag[name]) for name, tag_id in ids}
    return Thresholds(
        overall=threshold_byte(profile.overall),
        by_category={int(Category.named(name)): threshold_byte(t) for name, t in profile.by_category.items()},
        by_tag=by_tag,
    )


def on(thresholds: Thresholds, tag_ids: np.ndarray, confidences: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Which tags are on: three arrays of one length, confidences as uint8; returns bool."""
    limits = np.full(256, thresholds.overall, np.uint8)
    for category, byte in thresholds.by_category.items():
        limits[category] = byte
    limits = limits[np.asarray(categories, np.int64)]
    for tag_id, byte in thresholds.by_tag.items():
        limits[tag_ids == tag_id] = byte
    limits[np.asarray(categories) == Category.RATING] = 1
    return confidences >= limits


def site_profiles() -> list[Profile]:
    """The active release's profiles; none before a release is active."""
    return list(Profile.objects.filter(owner=None, release__active=True))


def default_profile(shipped: Sequence[Profile] | None = None) -> Profile:
    """The site's default: the active release's category-specific one; unsaved when there is no release."""
    shipped = site_profiles() if shipped is None else shipped
    by_key = {profile.key: profile for profile in shipped}
    return by_key.get(DEFAULT_KEY) or (shipped[0] if shipped else Profile(key="default", name="Default", overall=0.5))


def choices(user: User) -> list[Profile]:
    """What this person may choose: the site's, then their own."""
    found = getattr(user, "offered_profiles", None)  # brought along by accounts/members.py, or read before
    if found is None:
        found = choices_of(user.pk) if user.is_authenticated else site_profiles()
    return sorted(found, key=lambda profile: profile.owner_id is not None)


def choices_of(member: Expression | int) -> QuerySet[Profile]:
    """What a member may choose, in the order of menus but for their own, which come last there.

    With their overrides by tag id, which `resolve` need not look up then.
    """
    found = Profile.objects.filter(Q(owner=None, release__active=True) | Q(owner_id=member))
    return found.annotate(by_tag_id=_tag_ids()).order_by("position", "name", "id")


def _tag_ids() -> Func:
    by_id = "(select jsonb_object_agg(t.id, w.value) from jsonb_each(%(expressions)s) w join tag t on t.name = w.key)"
    return Func(F("by_tag"), template=by_id, output_field=JSONField())


def offered(request: HttpRequest) -> list[Profile]:
    """What this visitor may choose; read once per request, for a member together with their account."""
    if not hasattr(request, "_offered_profiles"):
        request._offered_profiles = choices(request.user)
        if not request.user.is_authenticated:  # nobody but this request knows this visitor
            request.user.offered_profiles = request._offered_profiles
    return request._offered_profiles


def chosen(request: HttpRequest) -> Profile:
    """The profile of this visit; read once per request."""
    if not hasattr(request, "_chosen_profile"):
        stored = preference(request)
        wanted = stored.profile if stored else None
        request._chosen_profile = _found(offered(request), wanted) or _visitor_choice(request)
        if request._chosen_profile is None:
            shipped = [profile for profile in offered(request) if profile.owner_id is None]
            request._chosen_profile = default_profile(shipped)
    return request._chosen_profile


def preference(request: HttpRequest) -> Preference | None:
    """What this member chose for every visit; read once per request."""
    if not hasattr(request, "_preference"):
        request._preference = _preference(request.user)
    return request._preference


def _preference(user: User) -> Preference | None:
    if not user.is_authenticated:
        return None
    if "preference" in user._state.fields_cache:
        return user._state.fields_cache["preference"]
    return Preference.objects.filter(user_id=user.pk).select_related("profile").first()


def _member_choice(user: User) -> Profile | None:
    stored = _preference(user)
    return _found(choices(user), stored.profile) if stored else None


def _visitor_choice(request: HttpRequest) -> Profile | None:
    """What was chosen without an account; the session keeps the key, which outlives a release."""
    session = getattr(request, "session", None)
    if request.user.is_authenticated or session is None or not (key := session.get(_SESSION_KEY)):
        return None
    return next((profile for profile in offered(request) if profile.key == key), None)


def _found(offered: Sequence[Profile], wanted: Profile | None) -> Profile | None:
    """What was chosen, among the offered; of an old release's profile, the active release's one of the same key."""
    if wanted is None:
        return None
    same = [profile for profile in offered if profile.pk == wanted.pk]
    if wanted.owner_id is None:
        same += [profile for profile in offered if profile.owner_id is None and profile.key == wanted.key]
    return same[0] if same else None


def choose(request: HttpRequest, profile: Profile) -> None:
    """Use this profile from now on: stored for a member, in the session for a visitor."""
    if profile.owner_id is not None and profile.owner_id != request.user.pk:
        raise ProfileError("That profile belongs to someone else: make one of your own.")
    if request.user.is_authenticated:
        Preference.objects.update_or_create(user_id=request.user.pk, defaults={"profile": profile})
    else:
        request.session[_SESSION_KEY] = profile.key
    request._chosen_profile = profile


@transaction.atomic
def save_own(
    user: User,
    name: str,
    overall: float,
    by_category: Mapping[str, float],
    by_tag: Mapping[str, float] | None = None,
    profile: Profile | None = None,
) -> Profile:
    """Make a person's profile, or change `profile`, which must be theirs. Raises ProfileError."""
    if profile is not None and profile.owner_id != user.pk:
        raise ProfileError("That profile belongs to someone else: make one of your own.")
    name = " ".join(name.split())
    if not 1 <= len(name) <= 60:
        raise ProfileError("Give the profile a name of 1 to 60 characters.")
    by_tag = dict(by_tag or {})
    _check(overall, by_category, by_tag)
    get_user_model().objects.select_for_update(no_key=True).get(pk=user.pk)  # two windows may save at once
    profile = profile or Profile(owner_id=user.pk)
    profile.name, profile.overall = name, overall
    profile.by_category, profile.by_tag = dict(by_category), by_tag
    profile.key = _free_key(user, name, profile)
    profile.save()
    return profile


def _check(overall: float, by_category: Mapping[str, float], by_tag: Mapping[str, float]) -> None:
    for what, value in [("overall", overall), *by_category.items(), *by_tag.items()]:
        if not 0.0 <= value <= 1.0:  # also refuses nan
            raise ProfileError(f"The threshold of {what} is {value}: give a number from 0 to 1.")
    if unknown := set(by_category) - {category.label for category in Category}:
        raise ProfileError(f"There is no category called {min(unknown)}.")
    if missing := set(by_tag) - set(Tag.objects.filter(name__in=list(by_tag)).values_list("name", flat=True)):
        raise ProfileError(f"There is no tag called {min(missing)}.")


def _free_key(user: User, name: str, profile: Profile) -> str:
    """A slug of the name that none of the person's other profiles has."""
    base = slugify(name)[:50] or "profile"
    taken = set(Profile.objects.filter(owner_id=user.pk).exclude(pk=profile.pk).values_list("key", flat=True))
    number = 1
    while (key := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return key


class Change(NamedTuple):
    on: int
    off: int


@dataclass(frozen=True)
class Preview:
    """What a change of thresholds does to a sample of posts: tags that come on, tags that go off."""

    posts: int
    on: int
    off: int
    by_category: dict[Category, Change]


def preview(viewer: User | None, new: Thresholds, old: Thresholds | None = None, sample: int = 500) -> Preview:
    """Compare two thresholds over the newest posts; `old` is by default what the viewer uses now."""
    if old is None:
        old = resolve(_member_choice(viewer) if viewer is not None else None)
    rows = TagIndex.objects.filter(post__status=PostStatus.ACTIVE).order_by("-post_id")
    rows = list(rows.values_list("tag_ids", "confidences")[:sample])
    tag_ids = np.array([tag_id for ids, _ in rows for tag_id in ids], np.int64)
    confidences = np.frombuffer(b"".join(bytes(packed)[1:] for _, packed in rows), np.uint8)
    known, positions = np.unique(tag_ids, return_inverse=True)
    category_of = dict(Tag.objects.filter(id__in=known.tolist()).values_list("id", "category"))
    categories = np.array([category_of.get(tag_id, Category.GENERAL) for tag_id in known.tolist()], np.int64)[positions]
    before, after = (on(thresholds, tag_ids, confidences, categories) for thresholds in (old, new))
    comes, goes = (
        np.bincount(categories[after & ~before], minlength=16),
        np.bincount(categories[before & ~after], minlength=16),
    )
    by_category = {category: Change(int(comes[category]), int(goes[category])) for category in Category}
    return Preview(len(rows), int(comes.sum()), int(goes.sum()), by_category)
