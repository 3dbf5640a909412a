"""Who is signed in, read in one query with what nearly every page shows of a member.

The preference with its profile, the profiles to choose from, the saved searches: read anew for each request, so that
no page shows what another one changed.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user, get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.postgres.expressions import ArraySubquery
from django.core.exceptions import PermissionDenied
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model, OuterRef, QuerySet
from django.db.models.functions import JSONObject
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from gallery import profiles
from gallery.models import Profile, SavedSearch

_PROFILE = ("id", "owner_id", "release_id", "key", "name", "description", "position")
_THRESHOLDS = ("overall", "by_category", "by_tag", "by_tag_id")
_SEARCH = ("id", "owner_id", "name", "query", "seen")


class MemberBackend(ModelBackend):
    """Signs in by name and password."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> AbstractBaseUser:
        user = super().authenticate(request, **credentials)
        if user is None:
            # The backend behind this one keeps older sessions alive: it need not hash the password again.
            raise PermissionDenied
        return user

    def get_user(self, user_id: int) -> AbstractBaseUser | None:
        user = _members().filter(pk=user_id).first()
        if user is None or not self.user_can_authenticate(user):
            return None
        user.offered_profiles = [_row(Profile, row) for row in user.profile_rows]
        user.kept_searches = [_row(SavedSearch, row) for row in user.search_rows]
        return user


def alone(request: HttpRequest) -> AbstractBaseUser | AnonymousUser:
    """Who is signed in, read without what pages show: a picture's file asks who may see it, no more.

    As Django's `get_user` does; of what is out of the ordinary in a session, that decides.
    """
    session = request.session
    if session.get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS:
        user = get_user_model().objects.filter(pk=session.get(SESSION_KEY), is_active=True).first()
        if user and constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()):
            return user
    return get_user(request)


def _members() -> QuerySet:
    offered = profiles.choices_of(OuterRef("pk")).values_list(_as_json(*_PROFILE, *_THRESHOLDS))
    kept = SavedSearch.objects.filter(owner_id=OuterRef("pk")).values_list(_as_json(*_SEARCH))
    members = get_user_model().objects.select_related("preference__profile")
    return members.annotate(profile_rows=ArraySubquery(offered), search_rows=ArraySubquery(kept))


def _as_json(*columns: str) -> JSONObject:
    return JSONObject(**{column: column for column in columns})


def _row(model: type[Model], values: dict[str, Any]) -> Model:
    """The row of these columns, the others to be read when asked for; what is no column becomes an attribute."""
    columns = [field.attname for field in model._meta.concrete_fields if field.attname in values]
    row = model.from_db(DEFAULT_DB_ALIAS, columns, [values[column] for column in columns])
    vars(row).update({name: value for name, value in values.items() if name not in columns})
    return row
