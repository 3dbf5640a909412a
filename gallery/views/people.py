from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from gallery.accounts import inviting
from gallery.forms import InvitationForm
from gallery.http import staff_only
from gallery.models import Invitation, PostStatus

_PAGE = 50


@require_safe
@staff_only
def people(request: HttpRequest) -> HttpResponse:
    return _page(request, InvitationForm())


def _page(request: HttpRequest, form: InvitationForm, **more: object) -> HttpResponse:
    uploads = Count("posts", filter=Q(posts__status=PostStatus.ACTIVE))
    users = User.objects.annotate(uploads=uploads).order_by("-is_active", "username")
    name = request.GET.get("name", "").strip()
    if name:
        users = users.filter(username__icontains=name)
    page = Paginator(users, _PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "name": name, "invitations": _open_invitations(), "form": form, **more}
    if request.method == "POST":
        context["here"] = reverse("people")  # nothing answers at the form's own address but a form
    return render(request, "staff/people.html", context)


def _open_invitations() -> QuerySet[Invitation]:
    return Invitation.objects.filter(used_at=None, expires_at__gt=timezone.now()).select_related("created_by")


@require_POST
@staff_only
def invite(request: HttpRequest) -> HttpResponse:
    """Make a one-time link and show it, this once: only its hash is stored. Admins alone invite staff."""
    form = InvitationForm(request.POST)
    if form.is_valid() and not inviting.may_invite(request.user, form.cleaned_data["role"]):
        form.add_error("role", "Only an admin can invite staff: ask one, or invite a member.")
    if not form.is_valid():
        return _page(request, form)
    invitation, token = inviting.invite(form.cleaned_data["role"], request.user, form.cleaned_data["days"])
    link = request.build_absolute_uri(reverse("join", args=[token]))
    response = _page(request, InvitationForm(), link=link, invitation=invitation)
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@staff_only
def revoke_invitation(request: HttpRequest, pk: int) -> HttpResponse:
    _open_invitations().filter(pk=pk).delete()
    messages.success(request, "The invitation is revoked: its link no longer opens.")
    return redirect("people")


@require_POST
@staff_only
def change_person(request: HttpRequest, pk: int) -> HttpResponse:
    """Make someone member or staff, close their account or open it again (`act`)."""
    person = get_object_or_404(User, pk=pk)
    acts = {
        "member": ("is_staff", False, "is a member now"),
        "staff": ("is_staff", True, "is staff now"),
        "close": ("is_active", False, "can no longer sign in; their posts stay"),
        "open": ("is_active", True, "can sign in again"),
    }
    act = request.POST.get("act", "")
    if refusal := _refusal(request.user, person, act, acts):
        messages.error(request, refusal)
    else:
        field, value, told = acts[act]
        setattr(person, field, value)
        person.save(update_fields=[field])
        if not value:
            inviting.revoke_all(person)
        messages.success(request, f"{person.username} {told}.")
    return redirect("people")


def _refusal(user: User, person: User, act: str, acts: dict[str, object]) -> str:
    """Why this person may not do that to that one; empty when they may."""
    if act not in acts:
        return "Nothing changed: choose what to do from the list."
    if person == user:
        return "Nobody changes their own account here: another admin can."
    if not user.is_superuser and (person.is_staff or person.is_superuser or act == "staff"):
        return "Only an admin changes who is staff: ask one."
    if person.is_superuser and act == "member":
        return f"{person.username} is an admin: take that away in the admin pages first."
    return ""
