import hashlib
import io
import threading

import pytest
from celery import Celery
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.db import connection
from PIL import Image

from gallery import uploading
from gallery.celery import app as site_app
from gallery.models import THUMBNAIL_SIZES, Post, PostStatus, TaggingState, TagIndex
from gallery.uploading import Refused
from tests.gallery.making import make_user
from tests.gallery.test_pictures import file_of, scene


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    return settings.MEDIA_ROOT


def files_in(folder) -> list:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.django_db
def test_upload_stores_the_file_thumbnails_and_rows():
    data = file_of(scene(900, 600)).getvalue()
    user = make_user()
    stored = uploading.store(io.BytesIO(data), name="C:\\me\\my\x00 cat.png", uploader=user, credit="me")
    post, created = stored.post, stored.created
    assert created
    post.refresh_from_db()
    assert (post.sha256, post.md5) == (hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest())
    assert (post.file_name, post.uploader, post.file_size) == ("my cat.png", user, len(data))
    assert (post.tagging_state, post.priority) == (TaggingState.WAITING, Post.UPLOAD_PRIORITY)
    assert default_storage.open(post.file_path).read() == data
    for size in THUMBNAIL_SIZES:
        assert Image.open(default_storage.open(post.thumbnail_path(size))).width == size
    index = TagIndex.objects.get(post=post)
    assert (index.tag_ids, bytes(index.confidences), index.rating) == ([], b"\0", None)


@pytest.mark.django_db
def test_animations_are_kept_byte_for_byte():
    first, *rest = [scene(40, 40).rotate(angle) for angle in (0, 90, 180)]
    data = file_of(first, "GIF", save_all=True, append_images=rest, duration=50).getvalue()
    post = uploading.store(io.BytesIO(data)).post
    assert post.animated
    assert default_storage.open(post.file_path).read() == data


@pytest.mark.django_db
@pytest.mark.parametrize("spooled", [False, True])
def test_django_uploads_are_stored(spooled):
    data = file_of(scene(30, 30)).getvalue()
    if spooled:
        file = TemporaryUploadedFile("x.png", "image/png", len(data), None)
        file.write(data)
    else:
        file = SimpleUploadedFile("x.png", data)
    post = uploading.store(file, name=file.name).post
    assert default_storage.open(post.file_path).read() == data


@pytest.mark.django_db
def test_upload_of_a_copy_finds_the_post():
    data = file_of(scene(30, 30)).getvalue()
    first = uploading.store(io.BytesIO(data), uploader=make_user())
    second = uploading.store(io.BytesIO(data), uploader=make_user(), name="other.jpg")
    assert (second.post, second.created) == (first.post, False)
    assert Post.objects.count() == 1


@pytest.mark.django_db
def test_a_deleted_picture_comes_back_only_for_its_uploader_and_staff():
    data = file_of(scene(30, 30)).getvalue()
    owner = make_user()
    post = uploading.store(io.BytesIO(data), uploader=owner).post
    for person, comes_back in [(make_user(), False), (None, False), (owner, True), (make_user(is_staff=True), True)]:
        uploading.delete(post)
        assert not TagIndex.objects.filter(post=post).exists()
        if comes_back:
            assert uploading.store(io.BytesIO(data), uploader=person).post.status == PostStatus.ACTIVE
            assert TagIndex.objects.filter(post=post).exists()
        else:
            with pytest.raises(Refused, match="deleted"):
                uploading.store(io.BytesIO(data), uploader=person)


@pytest.mark.django_db
def test_what_the_staff_deleted_comes_back_only_for_the_staff():
    data = file_of(scene(30, 30)).getvalue()
    owner, staff = make_user(), make_user(is_staff=True)
    post = uploading.store(io.BytesIO(data), uploader=owner).post
    uploading.delete(post, staff)
    uploading.delete(post, owner)
    with pytest.raises(Refused, match="ask its staff"):
        uploading.store(io.BytesIO(data), uploader=owner)
    assert uploading.store(io.BytesIO(data), uploader=staff).post.status == PostStatus.ACTIVE
    post.refresh_from_db()
    uploading.delete(post, owner)
    assert uploading.store(io.BytesIO(data), uploader=owner).post.status == PostStatus.ACTIVE


@pytest.mark.django_db
def test_refused_files_leave_nothing(settings, media):
    settings.UPLOAD_MAX_MB = 1
    whole = file_of(scene(300, 300), "JPEG").getvalue()
    for data, message in [
        (b"", "empty"),
        (b"\0" * (1024 * 1024 + 1), "at most 1 MB"),
        (b"not a picture", "send a JPEG"),
        (whole[: len(whole) // 2], "damaged"),
    ]:
        with pytest.raises(Refused, match=message):
            uploading.store(io.BytesIO(data))
    assert not Post.objects.exists()
    assert not files_in(media)


@pytest.mark.django_db(transaction=True)
def test_files_go_again_when_the_row_fails(media):
    user = make_user()
    user.pk = 2**70  # more than the column holds, so the insert fails
    with pytest.raises(Exception, match="out of range|bigint|integer"):
        uploading.store(file_of(scene(30, 30)), uploader=user)
    assert not Post.objects.exists()
    assert not files_in(media)


@pytest.mark.django_db
def test_what_a_dead_process_left_half_written_is_replaced(media):
    data = file_of(scene(30, 30)).getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    left = media / Post(sha256=sha256, ext="png").file_path
    left.parent.mkdir(parents=True)
    left.write_bytes(data[:10])
    post = uploading.store(io.BytesIO(data)).post
    assert (media / post.file_path).read_bytes() == data
    assert len(files_in(media)) == 3


@pytest.mark.django_db(transaction=True)
def test_two_uploads_of_one_picture_at_once_make_one_post(media):
    data = file_of(scene(30, 30)).getvalue()
    stored, start = [], threading.Barrier(4)

    def upload() -> None:
        start.wait()
        stored.append(uploading.store(io.BytesIO(data)))
        connection.close()

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.created for result in stored) == [False, False, False, True]
    assert len({result.post.pk for result in stored}) == 1
    assert len(files_in(media)) == 3


@pytest.mark.django_db(transaction=True)
def test_upload_works_while_the_broker_is_down(tmp_path):
    with Celery(broker=f"redis+socket://{tmp_path}/nothing.sock") as app:
        app.set_current()
        try:
            assert uploading.store(file_of(scene(30, 30))).created
        finally:
            site_app.set_current()
