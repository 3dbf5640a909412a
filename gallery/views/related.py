from __future__ import annotations

import hashlib

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from gallery import profiles, search
from gallery.views.terms import row_of

_KEPT_SECONDS = 600


@require_safe
def related(request: HttpRequest) -> HttpResponse:
    """Tags that come with a search: the sidebar's part, and a page of its own for whoever has no script."""
    text = request.GET.get("q", "")
    context: dict[str, object] = {"q": text}
    status = 200
    try:
        tree, found = search.parse(text), _found(request, text)
    except search.SearchError as error:
        context["mistake"], status = error.message, 400
    else:
        lists = (("Closest", found.alike), ("Most frequent", found.frequent))
        context["lists"] = [
            (title, [row_of(tree, tag.name, tag.category, share=tag.share) for tag in tags]) for title, tags in lists
        ]
        context["nothing"] = not found.frequent
    template = "browse/related.html" if request.htmx else "browse/related_page.html"
    response = render(request, template, context, status=200 if request.htmx else status)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _found(request: HttpRequest, text: str) -> search.RelatedTags:
    """Worked out once in ten minutes: what goes together changes slowly."""
    thresholds = profiles.resolve(profiles.chosen(request))
    asked = repr((text, thresholds, request.user.pk))
    key = f"related:{hashlib.sha256(asked.encode('utf-8', 'replace')).hexdigest()}"
    kept = cache.get(key)
    if kept is None:
        found = search.related(text, thresholds, viewer=request.user)
        kept = [[tuple(tag) for tag in tags] for tags in found]
        cache.set(key, kept, _KEPT_SECONDS)
    return search.RelatedTags(*([search.RelatedTag(*tag) for tag in tags] for tags in kept))
