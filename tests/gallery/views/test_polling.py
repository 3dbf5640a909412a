"""What a page asks for each second holds nothing that somebody may be at: no field, button or opened part."""

from html.parser import HTMLParser

import pytest
from django.urls import reverse
from django.utils import timezone

from gallery.models import Export, Release, ReleaseImport, TaggingRun
from gallery.releases import running
from tests.gallery.making import make_release
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Polled(HTMLParser):
    """The names of the elements within those that ask for themselves again, and their ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.depth, self.within, self.ids = 0, [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if self.depth:
            self.within.append(tag)
        elif "every" in given.get("hx-trigger", ""):
            self.depth = 1
            self.ids.append(given["id"])
            return
        if self.depth and tag not in _VOID:
            self.depth += 1

    def handle_endtag(self, tag):
        self.depth -= bool(self.depth and tag not in _VOID)


@pytest.fixture
def staff():
    return signed_in(is_staff=True)


def polled(page) -> list[str]:
    found = Polled(page.content.decode())
    assert not {"form", "input", "select", "button", "details"} & set(found.within)
    return found.ids


def test_a_choice_of_mode_stays_while_fast_mode_is_checked(staff):
    release = make_release()
    Release.objects.update(gate={"state": running.CHECKING, "since": timezone.now().isoformat()})
    part = staff.post(reverse("run_release", args=[release.pk]), {"stage": "x"}, headers=HTMX)
    assert polled(part) == ["ways-now"] and b"A worker checks" in part.content
    assert staff.get(reverse("release_ways", args=[release.pk]), headers=HTMX).status_code == 204
    Release.objects.update(gate={})
    assert polled(staff.get(reverse("release_ways", args=[release.pk]), headers=HTMX)) == []


def test_exports_that_are_done_stay_as_they_are_while_another_runs(staff):
    done = Export.objects.create(state=Export.State.DONE, counts={})
    row = Export.objects.create(total=10, done=4)
    page = staff.get(reverse("exports"))
    assert polled(page) == [f"export-{row.pk}"] and f'id="export-{done.pk}"' in page.content.decode()


def test_the_button_that_cancels_a_run_stays_until_it_ends(staff):
    """It says the same until then, as nobody draws it anew when the run is ready."""
    run = TaggingRun.objects.create(release=make_release(), scope="all", wanted=2)
    for state in TaggingRun.UNDER_WAY:
        TaggingRun.objects.update(state=state)
        page = staff.get(reverse("tagging_run", args=[run.pk]))
        assert polled(page) == ["run-now"] and b">Cancel the run</button>" in page.content


def test_the_button_that_cancels_a_download_stays_until_it_ends(staff):
    row = ReleaseImport.objects.create(kind="camie-v1", repository="a/b", name="one", state="downloading")
    url = reverse("release_import", args=[row.pk])
    page = staff.get(url, headers=HTMX)
    assert polled(page) == [f"import-{row.pk}-now"] and "HX-Retarget" not in page
    ReleaseImport.objects.update(state="failed")
    page = staff.get(url, headers=HTMX)
    assert polled(page) == []
    assert page["HX-Retarget"] == page["HX-Reselect"] == f"#import-{row.pk}"
