from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from gallery import profiles
from gallery.forms import PROFILE_CATEGORIES, ProfileForm
from gallery.http import member_only
from gallery.models import Profile


@require_safe
def list_profiles(request: HttpRequest) -> HttpResponse:
    """The site's profiles and one's own, with what they mean; visitors may choose, too."""
    choices = profiles.choices(request.user)
    context = {
        "site_profiles": [_card(profile) for profile in choices if profile.owner_id is None],
        "own_profiles": [_card(profile) for profile in choices if profile.owner_id is not None],
        "chosen": profiles.chosen(request),
    }
    return render(request, "profiles/list.html", context)


def _card(profile: Profile) -> dict[str, object]:
    """A profile and its threshold in each category; `own` is false where the overall one counts."""
    numbers = [
        {
            "category": category.label,
            "value": profile.by_category.get(category.label, profile.overall),
            "own": category.label in profile.by_category,
        }
        for category in PROFILE_CATEGORIES
    ]
    return {"profile": profile, "numbers": numbers}


@require_http_methods(["GET", "POST"])
@member_only
def new_profile(request: HttpRequest) -> HttpResponse:
    """A profile of one's own, begun from any other one (`?from=`), else from the one in use."""
    start = _start(request)
    if request.method == "GET":
        start = Profile(**_values(start), name=f"Copy of {start.name}"[:60])
    return _edit(request, start, None, compared_with=_start(request))


@require_http_methods(["GET", "POST"])
@member_only
def edit_profile(request: HttpRequest, pk: int) -> HttpResponse:
    profile = get_object_or_404(Profile, pk=pk, owner=request.user)
    return _edit(request, profile, profile, compared_with=profile)


def _edit(request: HttpRequest, start: Profile, profile: Profile | None, compared_with: Profile) -> HttpResponse:
    form = ProfileForm(request.POST if request.method == "POST" else None, start=start)
    if form.is_valid():
        try:
            saved = profiles.save_own(request.user, profile=profile, **form.cleaned_profile())
        except profiles.ProfileError as error:
            form.add_error(None, str(error))
        else:
            if request.POST.get("use"):
                profiles.choose(request, saved)
            messages.success(request, f"The profile {saved.name} is saved.")
            return redirect("profiles")
    context = {"form": form, "profile": profile, "compared_with": compared_with, "chosen": profiles.chosen(request)}
    return render(request, "profiles/edit.html", context)


@require_POST
def preview_profile(request: HttpRequest) -> HttpResponse:
    """The part of the edit page that says which tags would come on and go off."""
    compared_with = _start(request)
    form = ProfileForm(request.POST, start=compared_with)
    form.fields["name"].required = False
    context: dict[str, object] = {"compared_with": compared_with}
    if form.is_valid():
        new = Profile(**{**form.cleaned_profile(), "name": ""})
        preview = profiles.preview(None, profiles.resolve(new), profiles.resolve(compared_with))
        context["preview"] = preview
        context["rows"] = [(category.label, *preview.by_category[category]) for category in PROFILE_CATEGORIES]
    return render(request, "profiles/preview.html", context)


@require_POST
@member_only
def delete_profile(request: HttpRequest, pk: int) -> HttpResponse:
    profile = get_object_or_404(Profile, pk=pk, owner=request.user)
    profile.delete()
    messages.success(request, f"The profile {profile.name} is deleted.")
    return redirect("profiles")


def _start(request: HttpRequest) -> Profile:
    """The profile that a form names to begin from or compare with; else the one in use."""
    wanted = request.POST.get("from") or request.GET.get("from", "")
    found = [profile for profile in profiles.choices(request.user) if str(profile.pk) == wanted]
    return found[0] if found else profiles.chosen(request)


def _values(profile: Profile) -> dict[str, object]:
    return {"overall": profile.overall, "by_category": profile.by_category, "by_tag": profile.by_tag}
