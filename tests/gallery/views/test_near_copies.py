import hashlib
import io
import threading

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.urls import reverse

from gallery import locking
from gallery.models import THUMBNAIL_SIZES, Post, PostStatus
from tests.gallery.test_merging import drawing
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    return signed_in()


def file(width: int, colour: str = "red") -> SimpleUploadedFile:
    drawing(width, colour).save(made := io.BytesIO(), "PNG")
    return SimpleUploadedFile(f"{width}-{colour}.png", made.getvalue(), "image/png")


def send(client, *files, htmx=True, **about):
    headers = {"HX-Request": "true"} if htmx else {}
    return client.post(reverse("upload"), {"files": list(files), **about}, headers=headers)


def choose(client, post, choice, htmx=True):
    headers = {"HX-Request": "true"} if htmx else {}
    return client.post(reverse("upload_choice", args=[post.pk]), {"choice": choice}, headers=headers)


@pytest.fixture
def first(member) -> Post:
    send(member, file(400))
    return Post.objects.get()


def held() -> Post:
    return Post.objects.get(status=PostStatus.HELD)


def test_the_uploader_is_asked_and_the_file_kept(member, first):
    page = send(member, file(200)).content.decode()
    assert f"post {first.pk}" in page and "data-held" in page
    for choice in ("skip", "keep", "merge"):
        assert f'value="{choice}"' in page
    assert f"keep post {first.pk}" in page
    assert held().parent == first
    assert "keep yours" in send(member, file(800)).content.decode()


@pytest.mark.parametrize(
    ("choice", "words", "left"),
    [("skip", "skipped", 1), ("keep", "a child of", 2), ("merge", "Its verdicts went to post", 1)],
)
def test_each_choice_answers_with_its_row(member, first, choice, words, left):
    send(member, file(200))
    answer = choose(member, held(), choice)
    text = answer.content.decode()
    assert answer.status_code == 200 and words in text
    assert ("a child of" in text) == (choice == "keep")
    assert Post.objects.active().count() == left
    assert not Post.objects.filter(status=PostStatus.HELD).exists()


def test_merging_into_the_new_one_says_so(member, first):
    send(member, file(800))
    answer = choose(member, held(), "merge").content.decode()
    assert f"post {first.pk}</a> was merged into it" in answer and "uploaded" in answer


def test_held_pictures_come_back_on_the_page_and_are_chosen_for_all_at_once(member, first):
    send(member, file(200), file(300), htmx=False)
    page = member.get(reverse("upload")).content.decode()
    assert page.count("data-held") == 2 and "<strong" in page
    answer = member.post(reverse("upload_choices"), {"choice": "keep"}, follow=True)
    assert "2 pictures: done as you chose" in answer.content.decode()
    assert Post.objects.active().count() == 3
    assert Post.objects.filter(parent=first).count() == 2


@pytest.mark.parametrize(("near", "active", "deleted"), [("skip", 1, 0), ("keep", 2, 0), ("merge", 1, 1)])
def test_a_choice_may_be_made_before(member, first, near, active, deleted):
    answer = send(member, file(200), near=near)
    assert answer.status_code == 200 and "data-held" not in answer.content.decode()
    assert Post.objects.active().count() == active
    assert Post.objects.filter(status=PostStatus.DELETED).count() == deleted


def test_nobody_else_sees_or_decides_it(member, first, client):
    send(member, file(200))
    post, stranger = held(), signed_in()
    assert choose(stranger, post, "skip").status_code == 404
    assert stranger.get(post.get_absolute_url()).status_code == 404
    assert stranger.get(post.thumbnail_url).status_code == 404
    assert "data-held" not in stranger.get(reverse("upload")).content.decode()
    assert member.get(post.get_absolute_url()).status_code == 200
    assert held() == post


def test_a_wrong_choice_asks_again_and_a_late_one_changes_nothing(member, first):
    send(member, file(200))
    post = held()
    assert "data-held" in choose(member, post, "burn").content.decode()
    choose(member, post, "keep")
    answer = choose(member, post, "skip")
    assert answer.status_code == 200 and Post.objects.active().count() == 2
    assert choose(member, post, "burn", htmx=False).status_code == 200
    assert send(member, file(300), near="burn").status_code == 400


def test_without_a_script_each_choice_returns_to_the_page(member, first):
    send(member, file(200))
    answer = choose(member, held(), "skip", htmx=False)
    assert answer.url == reverse("upload") and Post.objects.count() == 1


def test_a_picture_skipped_in_another_window_is_said_to_be_gone(member, first):
    send(member, file(200), file(300), htmx=False)
    gone, other = Post.objects.filter(status=PostStatus.HELD).order_by("pk")
    choose(member, gone, "skip")
    answer = choose(member, gone, "keep")
    assert answer.status_code == 200 and "skipped meanwhile" in answer.content.decode()
    assert choose(member, gone, "keep", htmx=False).url == reverse("upload")
    assert "skipped meanwhile" in member.get(reverse("upload")).content.decode()
    assert Post.objects.get(status=PostStatus.HELD) == other


def test_what_the_blacklist_hides_is_named_beside_a_near_copy_without_its_picture(member, first):
    member.post("/account/blacklist/", {"blacklist": "width:400"})
    for answer in (send(member, file(200)), member.get(reverse("upload"))):
        page = answer.content.decode()
        assert f"Post {first.pk}, hidden by your blacklist" in page and first.thumbnail_url not in page
        assert "Skip it" in page and "Merge, keep" in page


@pytest.mark.django_db(transaction=True)
def test_two_requests_with_the_same_file_at_once_make_one_post(member):
    people, pages = [member, signed_in()], {}

    def upload(person) -> None:
        pages[person] = send(person, file(400))
        connection.close()

    threads = [threading.Thread(target=upload, args=[person]) for person in people]
    with transaction.atomic():
        locking.take_turns_at_file(hashlib.sha256(file(400).read()).hexdigest())
        for thread in threads:
            thread.start()
        while _waiting() < 2:  # both have seen that the site has no such file
            assert all(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()
    post = Post.objects.get()
    assert [page.status_code for page in pages.values()] == [200, 200]
    texts = sorted(page.content.decode() for page in pages.values())
    assert sorted("already here" in text for text in texts) == [False, True]
    assert all(post.get_absolute_url() in text for text in texts)
    assert default_storage.exists(post.file_path) and default_storage.exists(post.thumbnail_path(THUMBNAIL_SIZES[0]))


def _waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from pg_locks where locktype = 'advisory' and not granted")
        return cursor.fetchone()[0]
