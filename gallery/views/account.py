from __future__ import annotations

from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth.forms import PasswordChangeForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from gallery import blacklisting, profiles
from gallery.accounts import inviting
from gallery.accounts.inviting import InvitationError
from gallery.accounts.signing_in import SignInError, sign_in
from gallery.forms import JoinForm, SignInForm
from gallery.http import for_members, member_only, next_path
from gallery.models import Invitation


@require_http_methods(["GET", "POST"])
@never_cache
@sensitive_post_parameters("password")
def login(request: HttpRequest) -> HttpResponse:
    """Sign in, and go back to the page one came from."""
    target = next_path(request)
    form = SignInForm(request.POST or None)
    if form.is_valid():
        try:
            sign_in(request, form.cleaned_data["username"], form.cleaned_data["password"])
            return redirect(target)
        except SignInError as error:
            form.add_error(None, str(error))
    elif request.user.is_authenticated and request.method == "GET":
        return redirect(target)
    context = {"form": form, "next": target, "for_members": target != "/" and for_members(target)}
    return render(request, "account/login.html", context)


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    auth.logout(request)
    messages.success(request, "You are signed out.")
    return redirect("browse")


@require_http_methods(["GET", "POST"])
@never_cache
@sensitive_post_parameters("password")
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Make an account through a one-time link; its maker is signed in at once."""
    try:
        invitation = inviting.find(token)
    except InvitationError as error:
        return render(request, "account/join.html", {"refusal": str(error)}, status=410)
    form = JoinForm(request.POST or None)
    if form.is_valid():
        try:
            user = inviting.accept(token, form.cleaned_data["username"], form.cleaned_data["password"])
        except InvitationError as error:
            form.add_error(None, str(error))
        else:
            auth.login(request, user, settings.AUTHENTICATION_BACKENDS[0])
            messages.success(request, f"Welcome, {user.username}.")
            return redirect("browse")
    first = invitation.role == Invitation.Role.STAFF and not inviting.has_admin()
    return render(request, "account/join.html", {"form": form, "invitation": invitation, "first_admin": first})


@require_http_methods(["GET", "POST"])
@never_cache
@member_only
@sensitive_post_parameters()
def account(request: HttpRequest) -> HttpResponse:
    """Who one is here; a form changes the password and keeps this session."""
    form = PasswordChangeForm(request.user, request.POST or None)
    del form.fields["old_password"].widget.attrs["autofocus"]  # one comes to look, mostly
    if form.is_valid():
        auth.update_session_auth_hash(request, form.save())
        messages.success(request, "Your password is changed; other devices are signed out.")
        return redirect("account")
    counts = {
        "uploads": request.user.posts.active().count(),
        "verdicts": request.user.verdicts.count(),
        "profiles": request.user.profiles.count(),
    }
    stored = profiles.preference(request)
    blacklisted = len(blacklisting.rules(stored.blacklist)) if stored else 0
    context = {"form": form, "counts": counts, "profile": profiles.chosen(request), "blacklisted": blacklisted}
    return render(request, "account/account.html", context)
