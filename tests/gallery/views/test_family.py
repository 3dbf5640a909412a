import pytest

from gallery import merging, uploading
from gallery.index import indexing
from gallery.merging import Choice
from gallery.models import Post
from gallery.uploading import ASK
from tests.gallery.making import make_post
from tests.gallery.test_merging import drawing
from tests.gallery.test_pictures import file_of
from tests.gallery.views.people import signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    return signed_in()


def test_parent_and_children_are_shown_both_ways(client):
    parent = make_post()
    first, second, gone = make_post(parent=parent), make_post(parent=parent), make_post(parent=parent, status="deleted")
    page = client.get(parent.get_absolute_url()).content.decode()
    assert "Children" in page and first.get_absolute_url() in page and second.get_absolute_url() in page
    assert gone.get_absolute_url() not in page
    page = client.get(first.get_absolute_url()).content.decode()
    assert "Parent and its children" in page and parent.get_absolute_url() in page
    Post.objects.filter(pk=parent.pk).update(status="deleted")
    page = client.get(first.get_absolute_url()).content.decode()
    assert "Parent" not in page and second.get_absolute_url() not in page
    assert "Parent" not in client.get(make_post().get_absolute_url()).content.decode()


def test_a_merged_post_leads_to_the_one_it_became(member, client):
    first = uploading.store(file_of(drawing(400)), name="one.png", uploader=member.user).post
    held = uploading.store(file_of(drawing(800)), name="two.png", uploader=member.user, near=ASK).post
    page = member.get(held.get_absolute_url()).content.decode()
    assert "waits for its uploader" in page and first.get_absolute_url() in page
    kept = merging.decide(held, Choice.MERGE, member.user).kept
    assert client.get(first.get_absolute_url()).url == kept.get_absolute_url()
    page = member.get(first.get_absolute_url()).content.decode()
    assert f'merged into <a href="{kept.get_absolute_url()}"' in page
    page = member.post(f"{first.get_absolute_url()}restore/", follow=True).content.decode()
    assert f"Post {first.pk} is back, with its own verdicts, which post {kept.pk} gave back." in page
    first.refresh_from_db()
    assert first.status == "active" and first.merged_into is None
    assert client.get(first.get_absolute_url()).status_code == 200


def test_family_that_the_blacklist_hides_is_named_without_its_picture(member):
    parent = make_post()
    posts = [parent, make_post(parent=parent, width=70), make_post(parent=parent, width=80)]
    indexing.rebuild([post.pk for post in posts])
    member.post("/account/blacklist/", {"blacklist": "width:70"})
    page = member.get(parent.get_absolute_url()).content.decode()
    assert posts[1].get_absolute_url() in page and f"Post {posts[1].pk}, hidden by your blacklist" in page
    assert posts[1].thumbnail_url not in page and posts[2].thumbnail_url in page
    assert posts[1].sample_url in member.get(posts[1].get_absolute_url()).content.decode()
