from __future__ import annotations

import shutil
from pathlib import Path

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from gallery import exporting
from gallery.http import staff_only, tar_response
from gallery.models import Export, Verdict

_PAGE = 20


@require_http_methods(["GET", "POST"])
@staff_only
def exports(request: HttpRequest) -> HttpResponse:
    """The dataset folders written so far; a POST begins another. One that runs asks for itself again."""
    if request.method == "POST":
        exporting.start(request.user)
        messages.success(request, "The export has begun.")
        return redirect("exports")
    page = Paginator(Export.objects.select_related("started_by"), _PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "yes": Verdict.objects.filter(answer=True).count(),
        "no": Verdict.objects.filter(answer=False).count(),
    }
    return render(request, "staff/export_list.html" if request.htmx else "staff/exports.html", context)


@require_safe
@staff_only
def download_export(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    export = get_object_or_404(Export, pk=pk, state=Export.State.DONE)
    folder = Path(export.folder)
    if not folder.is_dir():
        raise Http404("The folder of this export is gone from the server's disk: export again.")
    return tar_response(folder)


@require_POST
@staff_only
def delete_export(request: HttpRequest, pk: int) -> HttpResponse:
    export = get_object_or_404(Export, pk=pk)
    if export.state == Export.State.RUNNING:
        messages.error(request, "This export is still being written: delete it when it is done.")
        return redirect("exports")
    ours = exporting.is_ours(export)
    if ours:
        shutil.rmtree(export.folder, ignore_errors=True)
    export.delete()
    if ours:
        messages.success(request, f"Export {pk} is deleted from the server's disk.")
    else:
        messages.success(request, f"Export {pk} is off the list. Its folder was chosen by hand and stays.")
    return redirect("exports")
