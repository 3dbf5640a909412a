"""One-time links that make accounts; the first admin comes through one, too."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from gallery import locking
from gallery.models import Invitation

_ACCOUNT_LOCK = 0x6A6F_696E  # any number that no other advisory lock of the site uses


class InvitationError(ValueError):
    """A link or an account that can't be used; the text is for the person, one sentence."""


def invite(role: str, created_by: AbstractUser | None = None, days: int = 7) -> tuple[Invitation, str]:
    """Make an invitation and its token; only the token's hash is stored, so show the link now."""
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        token_hash=Invitation.hash_of(token),
        role=Invitation.Role(role),
        created_by=created_by,
        expires_at=timezone.now() + timedelta(days=days),
    )
    return invitation, token


def find(token: str) -> Invitation:
    """The open invitation of a token. Raises InvitationError."""
    return _usable(Invitation.objects.filter(token_hash=Invitation.hash_of(token)).first())


@transaction.atomic
def accept(token: str, username: str, password: str) -> AbstractUser:
    """Make the account that a link is for, and use the link up. Raises InvitationError.

    A staff invitation makes a superuser while the site has none.
    """
    locking.take_turns(_ACCOUNT_LOCK)  # two links must not make two first admins
    rows = Invitation.objects.select_for_update().filter(token_hash=Invitation.hash_of(token))
    invitation = _usable(rows.first())
    staff = invitation.role == Invitation.Role.STAFF
    first_admin = staff and not has_admin()
    username = _check_account(username.strip(), password)
    users = get_user_model().objects
    user = users.create_user(username, password=password, is_staff=staff, is_superuser=first_admin)
    invitation.used_by, invitation.used_at = user, timezone.now()
    invitation.save(update_fields=["used_by", "used_at"])
    return user


def may_invite(maker: AbstractUser | None, role: str) -> bool:
    """Whether this person invites in this role: admins alone invite staff. The site itself has no maker's name."""
    if maker is None:
        return True
    may = maker.is_superuser or (maker.is_staff and role == Invitation.Role.MEMBER)
    return maker.is_active and may


def revoke_all(maker: AbstractUser) -> None:
    """Forget the open invitations that a person made: they stay void when the account is opened again."""
    Invitation.objects.filter(created_by=maker, used_at=None).delete()


def has_admin() -> bool:
    """Whether an admin can sign in: without one, the next account made by a staff link becomes it."""
    return get_user_model().objects.filter(is_superuser=True, is_active=True).exists()


def first_admin_token() -> str | None:
    """A fresh token for the first admin, voiding earlier ones; None when there is an admin."""
    if has_admin():
        return None
    Invitation.objects.filter(created_by=None, role=Invitation.Role.STAFF, used_at=None).delete()
    return invite(Invitation.Role.STAFF)[1]


def _usable(invitation: Invitation | None) -> Invitation:
    if invitation is None:
        raise InvitationError("This link is not an invitation: ask for a new one.")
    if invitation.used_at is not None:
        raise InvitationError("This invitation was used already: sign in, or ask for a new one.")
    if not invitation.open:
        raise InvitationError("This invitation is too old: ask for a new one.")
    if not may_invite(invitation.created_by, invitation.role):
        raise InvitationError("This invitation is void, as its maker invites no more: ask for a new one.")
    return invitation


def _check_account(username: str, password: str) -> str:
    model = get_user_model()
    try:
        username = model._meta.get_field("username").clean(model.normalize_username(username), None)
        validate_password(password, model(username=username))
    except ValidationError as error:
        raise InvitationError(" ".join(error.messages)) from error
    if model.objects.filter(username__iexact=username).exists():
        raise InvitationError("That name is taken: choose another.")
    return username
