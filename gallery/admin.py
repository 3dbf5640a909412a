"""Django's admin for what the site's own pages don't edit: tags, aliases, implications; and a look at the rest."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from gallery import reindexing
from gallery.http import next_path, staff_only
from gallery.models import Invitation, Post, Release, Tag, TagAlias, TagImplication


@staff_only
def sign_in(request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
    """Lead strangers through the site's own sign-in, which slows down whoever guesses; Django's does not."""
    return redirect(next_path(request, reverse("admin:index")))


admin.site.login = sign_in
admin.site.site_header = admin.site.site_title = f"{settings.SITE_NAME}: tables"


class ReadOnly(admin.ModelAdmin):
    """Rows that only the site's verbs change."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class Rule(admin.ModelAdmin):
    """A row of which the tag index makes use: posts that have its tags are rebuilt with each change."""

    tag_names: tuple[str, ...] = ("name",)  # where the row has the names of its tags

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        before = self._names(type(obj).objects.get(pk=obj.pk)) if change else set()
        super().save_model(request, obj, form, change)
        self._rebuild(request, before | self._names(obj))

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        names = self._names(obj)
        super().delete_model(request, obj)
        self._rebuild(request, names)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        names = {name for obj in queryset for name in self._names(obj)}
        super().delete_queryset(request, queryset)
        self._rebuild(request, names)

    def _rebuild(self, request: HttpRequest, names: set[str]) -> None:
        if not reindexing.after_rule_change(names):
            self.message_user(request, "The posts with these tags follow in the background.", messages.INFO)

    def _names(self, obj: Model) -> set[str]:
        return {attrgetter(path)(obj) for path in self.tag_names}


@admin.register(Tag)
class TagAdmin(Rule):
    list_display = ["name", "category", "post_count", "deprecated"]
    list_filter = ["category", "deprecated"]
    search_fields = ["name"]
    fields = ["name", "category", "description", "deprecated"]
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # releases point at tags by id: deprecate a tag instead


@admin.register(TagAlias)
class TagAliasAdmin(Rule):
    list_display = ["name", "tag"]
    search_fields = ["name", "tag__name"]
    autocomplete_fields = ["tag"]
    list_select_related = ["tag"]
    tag_names = ("name", "tag.name")


@admin.register(TagImplication)
class TagImplicationAdmin(Rule):
    list_display = ["tag", "implied"]
    search_fields = ["tag__name", "implied__name"]
    autocomplete_fields = ["tag", "implied"]
    list_select_related = ["tag", "implied"]
    tag_names = ("tag.name", "implied.name")


@admin.register(Invitation)
class InvitationAdmin(ReadOnly):
    list_display = ["pk", "role", "created_by", "created_at", "expires_at", "used_by"]
    exclude = ["token_hash"]


@admin.register(Post)
class PostAdmin(ReadOnly):
    list_display = ["pk", "status", "tagging_state", "uploader", "created_at"]
    list_filter = ["status", "tagging_state"]
    search_fields = ["md5", "sha256"]
    show_full_result_count = False


@admin.register(Release)
class ReleaseAdmin(ReadOnly):
    list_display = ["name", "title", "active", "installed_at"]
    exclude = ["tag_ids"]
