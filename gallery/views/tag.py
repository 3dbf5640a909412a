from __future__ import annotations

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from gallery import profiles, search
from gallery.models import CATEGORY_ORDER, Category, Tag, TagAlias, typed_name

_PAGE = 100


@require_safe
def tags(request: HttpRequest) -> HttpResponse:
    """The tags of the collection by name and category, counted as this visitor sees them.

    Pages go by the count at any confidence, which has an index; within a page by the visitor's.
    """
    name = typed_name(request.GET.get("name", ""))
    category = request.GET.get("category", "")
    found = Tag.objects.order_by("-post_count", "name")
    if name:
        found = found.filter(name__contains=name)
    if category in {each.label for each in Category}:
        found = found.filter(category=Category.named(category))
    thresholds = profiles.resolve(profiles.chosen(request))
    page = Paginator(found, _PAGE).get_page(request.GET.get("page"))
    rows = sorted(((tag, search.count_of(tag, thresholds)) for tag in page), key=lambda row: -row[1])
    context = {"rows": rows, "page": page, "name": name, "category": category, "all_categories": CATEGORY_ORDER}
    return render(request, "tags/tags.html", context)


@require_safe
def tag(request: HttpRequest, name: str) -> HttpResponse:
    """What a tag means, which names lead to it, and what it brings with it."""
    found = Tag.objects.filter(name=name).first()
    alias = TagAlias.objects.filter(name=name).select_related("tag").first()
    if alias and alias.tag_id != getattr(found, "pk", None):
        return redirect("tag", alias.tag.name)
    if found is None:
        raise Http404(f"There is no tag called {name} here.")
    thresholds = profiles.resolve(profiles.chosen(request))
    context = {
        "tag": found,
        "count": search.count_of(found, thresholds),
        "percent": thresholds.byte(found.pk, found.category),
        "aliases": found.aliases.order_by("name"),
        "implied": Tag.objects.filter(implied_by__tag=found).order_by("name"),
        "implied_by": Tag.objects.filter(implications__implied=found).order_by("name"),
    }
    return render(request, "tags/tag.html", context)
