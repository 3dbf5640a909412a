from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from gallery import editing
from gallery.forms import EditForm
from gallery.http import member_only
from gallery.models import Edit, Post, PostStatus
from gallery.views.family import family_context
from gallery.views.panel import here, visible


@require_http_methods(["GET", "HEAD", "POST"])
@member_only
def edit_post(request: HttpRequest, pk: int) -> HttpResponse:
    """The source, credit and parent of a post in a form, with what was changed of them before."""
    post = _editable(request, pk)
    form = EditForm(request.POST if request.method == "POST" else None, post=post)
    if form.is_valid():
        try:
            return _changed(request, pk, editing.change(post, form.wanted(), request.user))
        except editing.BadEdit as error:
            form.add_error(error.detail or None, str(error))
    form.focus_mistake()
    return _form(request, post, form)


@require_POST
@member_only
def undo_edit(request: HttpRequest, pk: int, edit_pk: int) -> HttpResponse:
    """Take one edit back."""
    post = _editable(request, pk)
    edit = get_object_or_404(Edit, pk=edit_pk, post=post)
    try:
        return _changed(request, pk, editing.undo(edit, request.user))
    except editing.BadEdit as error:
        if not request.htmx:
            messages.error(request, str(error))
            return redirect("edit_post", pk)
        context = {"post": post, "form": EditForm(post=post), "mistake": str(error), "here": here(request).urlencode()}
        return render(request, "post/details.html", context, status=422)


def _editable(request: HttpRequest, pk: int) -> Post:
    post = visible(request, pk)
    if post.status != PostStatus.ACTIVE:
        raise PermissionDenied("Only a post that is shown can be edited: restore this one first.")
    return post


def _form(request: HttpRequest, post: Post, form: EditForm) -> HttpResponse:
    """The form as it was sent, or a fresh one: within the post's page for HTMX, else on a page of its own."""
    context = {"post": post, "form": form, "here": here(request).urlencode()}
    if request.htmx and form.is_bound:
        return render(request, "post/details.html", context, status=422)
    context["changes"] = editing.changes(post)
    return render(request, "edit/page.html", context, status=422 if form.is_bound else 200)


def _changed(request: HttpRequest, pk: int, edits: list[Edit]) -> HttpResponse:
    """After an edit: the details and the family anew for HTMX, the post's page for a plain form."""
    place = here(request).urlencode()
    if request.htmx:
        post = visible(request, pk)
        context = {"post": post, "form": EditForm(post=post), "here": place, "answering": True, "edits": edits}
        return render(request, "post/details.html", context | family_context(request, post))
    told = ", ".join(edit.detail for edit in edits)
    messages.success(request, f"Saved: {told}." if edits else "Nothing was changed.")
    post = Post.objects.get(pk=pk)
    return redirect(f"{post.get_absolute_url()}?{place}" if place else post.get_absolute_url())
