from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from gallery.models import Post


@require_safe
def browse(request: HttpRequest) -> HttpResponse:
    """The grid of posts, newest first."""
    posts = Post.objects.active().order_by("-id")[:40]
    return render(request, "browse/browse.html", {"posts": posts, "q": request.GET.get("q", "")})


@require_safe
def suggest(request: HttpRequest) -> JsonResponse:
    """Completions of the word under the cursor."""
    return JsonResponse({"suggestions": []})
