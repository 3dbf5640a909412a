from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from gallery import profiles
from gallery.http import next_path


@require_POST
def choose_profile(request: HttpRequest) -> HttpResponse:
    """Read the site through another profile from now on; visitors may, too."""
    wanted = request.POST.get("profile", "")
    found = [profile for profile in profiles.choices(request.user) if str(profile.pk) == wanted]
    if found:
        profiles.choose(request, found[0])
    else:
        messages.error(request, "That profile is gone: choose another one in the menu.")
    return redirect(next_path(request))
