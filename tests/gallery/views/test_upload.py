import base64

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from playwright.sync_api import expect

from gallery.index import indexing
from gallery.models import Category, Post, TaggingState
from tests.gallery.making import make_post, make_release, make_tag, predict
from tests.gallery.views.people import bring_in, picture, signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    return signed_in()


def send(client, *files, htmx=True, **about):
    headers = {"HX-Request": "true"} if htmx else {}
    return client.post(reverse("upload"), {"files": list(files), **about}, headers=headers)


def test_the_page_states_the_limits(member, settings):
    settings.UPLOAD_MAX_MB, settings.UPLOAD_MAX_MEGAPIXELS = 7, 33
    page = member.get(reverse("upload")).content.decode()
    assert "up to 7 MB and 33 megapixels" in page
    assert f'data-max-bytes="{7 * 1024 * 1024}"' in page


def test_strangers_are_sent_to_the_login_page(client):
    assert client.get(reverse("upload")).url == "/login/?next=/upload/"
    answer = send(client, picture())
    assert answer["HX-Redirect"].startswith("/login/")
    assert not Post.objects.exists()


def test_one_file_from_the_script_answers_with_its_row(member):
    answer = send(member, picture(name="a cat.png"), source="https://example.org/1")
    post = Post.objects.get()
    assert answer.status_code == 200
    assert post.get_absolute_url() in answer.content.decode()
    assert reverse("upload_status", args=[post.pk]) in answer.content.decode()
    assert (post.uploader, post.source, post.file_name) == (member.user, "https://example.org/1", "a cat.png")


@pytest.mark.parametrize("source", ["https://", "http:example.org", "https://example.org/a picture", "http://["])
def test_a_source_that_leads_nowhere_is_refused_as_where_it_is_edited(member, source):
    for htmx in (True, False):
        answer = send(member, picture(), source=source, credit="Jane", htmx=htmx)
        page = answer.content.decode()
        assert answer.status_code == 400 and "Write the whole address of the source" in page
        assert htmx or (f'value="{source}"' in page and 'value="Jane"' in page)
    assert not Post.objects.exists()
    send(member, picture(), source=" a  book ")
    assert Post.objects.get().source == "a book"


def test_a_copy_shows_the_post_that_is_here(member):
    send(member, picture())
    answer = send(member, picture())
    assert "already here" in answer.content.decode()
    assert Post.objects.count() == 1


def test_a_plain_form_sends_several_and_lists_each(member):
    answer = send(member, picture("red"), picture("blue"), SimpleUploadedFile("a<b>.png", b"no"), htmx=False)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert Post.objects.count() == 2
    assert page.count('class="badge badge-good"') == 2
    assert "a&lt;b&gt;.png" in page


def test_a_refused_file_gets_a_sentence_and_stores_nothing(member):
    answer = send(member, SimpleUploadedFile("x.png", b"not a picture"))
    assert answer.status_code == 400
    assert "upload-refusal" in answer.content.decode()
    assert not Post.objects.exists()


def test_a_too_large_file_is_dropped_while_it_comes(member, settings):
    settings.UPLOAD_MAX_MB = 1
    big = SimpleUploadedFile("big.png", b"\0" * (1024 * 1024 + 1))
    answer = send(member, big, picture(), htmx=False)
    assert "at most 1 MB" in answer.content.decode()
    assert Post.objects.count() == 1


def test_too_many_files_at_once_get_a_sentence(member, settings):
    settings.DATA_UPLOAD_MAX_NUMBER_FILES = 2
    answer = send(member, picture("red"), picture("blue"), picture("green"), htmx=False)
    assert answer.status_code == 400
    assert "at most 2 files" in answer.content.decode()


def test_no_file_and_a_wrong_method_are_told_so(member):
    assert "No file came" in send(member).content.decode()
    assert member.put(reverse("upload")).status_code == 405


def test_the_form_needs_its_token(member, client):
    client.handler.enforce_csrf_checks = True
    client.force_login(member.user)
    assert send(client, picture()).status_code == 403
    assert not Post.objects.exists()


def test_status_asks_again_while_waiting_and_says_what_for(member):
    first, later = (make_post(tagging_state=TaggingState.WAITING) for _ in range(2))
    page = member.get(reverse("upload_status", args=[first.pk])).content.decode()
    assert "no release of the tagger is active" in page
    make_release()
    page = member.get(reverse("upload_status", args=[first.pk])).content.decode()
    assert "1 before it" in page and "every 450ms" in page
    assert "looks at it" in member.get(reverse("upload_status", args=[later.pk])).content.decode()


def test_status_shows_the_tags_that_are_on_and_stops(member):
    sure, unsure = make_tag("long_hair"), make_tag("hat", Category.META)
    post = make_post()
    predict(post, make_release(tags=[sure, unsure]), {sure: 0.9, unsure: 0.2})
    indexing.rebuild([post.pk])
    page = member.get(reverse("upload_status", args=[post.pk])).content.decode()
    assert "long hair" in page and "hat</a>" not in page
    assert "hx-trigger" not in page


def test_status_of_a_failed_post_says_why_and_stops(member):
    post = make_post(tagging_state=TaggingState.FAILED, tagging_error="Frame 3 is broken.")
    page = member.get(reverse("upload_status", args=[post.pk])).content.decode()
    assert "Frame 3 is broken." in page and "hx-trigger" not in page


def test_status_is_for_members_and_of_posts_that_exist(member, client):
    assert member.get(reverse("upload_status", args=[99])).status_code == 404
    assert client.get(reverse("upload_status", args=[make_post().pk])).status_code == 302


def test_a_disk_that_takes_no_files_is_told_of(member, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "taken"
    settings.MEDIA_ROOT.write_text("a file where the folder should be")
    answer = send(member, picture())
    assert answer.status_code == 400
    assert "make room on its disk" in answer.content.decode()
    assert not Post.objects.exists()


# A folder as a drop brings it: a picture, a file and a folder without read permission (root's own browser has it).
_DROP = """(data) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const refuse = (take, fail) => fail(new DOMException("It can't be read", "NotReadableError"));
  const folder = (batches) => ({
    isDirectory: true,
    createReader: () => ({ readEntries: (take, fail) => batches ? take(batches.shift() ?? []) : refuse(take, fail) }),
  });
  const red = { isFile: true, file: (take) => take(new File([bytes], "red.png", { type: "image/png" })) };
  const art = folder([[{ isFile: true, file: refuse }, red], [folder(null)]]);
  const event = new DragEvent("drop", { bubbles: true, cancelable: true });
  const value = { types: ["Files"], files: [], items: [{ webkitGetAsEntry: () => art }] };
  Object.defineProperty(event, "dataTransfer", { value });
  document.body.dispatchEvent(event);
}"""


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_dropped_folder_is_sent_without_what_can_not_be_read(member, page, live_server):
    bring_in(member, page, live_server.url).goto(f"{live_server.url}/upload/")
    page.evaluate(_DROP, base64.b64encode(picture("red").read()).decode())
    expect(page.locator("#upload-unread")).to_contain_text("2 files or folders could not be read")
    expect(page.locator("#upload-words")).to_have_text("1 of 1 sent")
    assert Post.objects.count() == 1


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_chosen_folder_is_sent_with_the_folders_in_it(member, page, live_server, tmp_path):
    (tmp_path / "art/more").mkdir(parents=True)
    for path, colour in (("art/red.png", "red"), ("art/more/blue.png", "blue")):
        (tmp_path / path).write_bytes(picture(colour).read())
    bring_in(member, page, live_server.url).goto(f"{live_server.url}/upload/")
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose a folder").click()
    chooser.value.set_files(tmp_path / "art")
    expect(page.locator("#upload-words")).to_have_text("2 of 2 sent")
    assert Post.objects.count() == 2


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_no_folder_is_offered_where_the_browser_takes_none(member, page, live_server):
    page.add_init_script("delete HTMLInputElement.prototype.webkitdirectory")
    bring_in(member, page, live_server.url).goto(f"{live_server.url}/upload/")
    expect(page.locator("#upload-form")).to_be_visible()
    expect(page.get_by_text("Choose a folder")).to_be_hidden()


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_file_is_sent_again_once_its_source_is_mended(member, page, live_server, expected_errors):
    expected_errors += ["400"]
    bring_in(member, page, live_server.url).goto(f"{live_server.url}/upload/")
    page.get_by_text("Source and credit for all of them").click()
    page.get_by_label("Source").fill("https://")
    page.locator("#files").set_input_files([{"name": "a.png", "mimeType": "image/png", "buffer": picture().read()}])
    expect(page.get_by_role("alert").first).to_contain_text("Write the whole address of the source")
    page.get_by_label("Source").fill("https://example.org/1")
    page.get_by_role("button", name="Try the failed ones again").click()
    expect(page.locator("#upload-words")).to_have_text("1 of 1 sent")
    assert Post.objects.get().source == "https://example.org/1"
