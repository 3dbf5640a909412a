import base64
import json

import pytest
import redis
from django.test import Client
from django.urls import reverse

from gallery import reindexing, tasks
from gallery.index import indexing
from gallery.models import Invitation, Tag, TagAlias, TagImplication, TagIndex
from tests.gallery.making import make_post, make_release, make_tag, make_user, predict


@pytest.fixture
def admin(db):
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def post(db):
    post = make_post()
    predict(post, make_release(), {make_tag("cat"): 0.5})
    indexing.rebuild([post.pk])
    return post


def test_strangers_sign_in_where_guessing_is_slowed_down(client, db):
    at_the_door = client.get(reverse("admin:login"), {"next": reverse("admin:gallery_tag_changelist")})
    assert at_the_door.url.startswith(reverse("login") + "?next=/admin/login/")
    wrong = client.post(reverse("admin:login"), {"username": "a", "password": "b"})
    assert wrong.status_code == 302 and wrong.url.startswith(reverse("login"))


def test_members_are_turned_away_and_staff_goes_on(db, admin):
    member = Client()
    member.force_login(make_user())
    assert member.get(reverse("admin:login")).status_code == 403
    assert member.get(reverse("admin:index"), follow=True).status_code == 403
    door = reverse("admin:login")
    assert admin.get(door, {"next": reverse("admin:gallery_tag_changelist")}).url == "/admin/gallery/tag/"
    assert admin.get(door, {"next": "https://example.org/"}).url == reverse("admin:index")


def test_a_tag_is_named_as_a_search_asks_for_it(admin, db):
    new = {"category": 0, "description": ""}
    admin.post(reverse("admin:gallery_tag_add"), {**new, "name": "Long Hair"})
    tag = Tag.objects.get()
    assert tag.name == "long_hair"
    other = Tag.objects.create(name="Long_Hair")  # of a site that was there before names were made alike
    changed = {**new, "name": other.name, "description": "Down to the waist."}
    assert admin.post(reverse("admin:gallery_tag_change", args=[other.pk]), changed).status_code == 302
    admin.post(reverse("admin:gallery_tag_change", args=[tag.pk]), {**new, "name": "Very long  hair"})
    for name in ("-hair", "a*", "a, b"):
        page = admin.post(reverse("admin:gallery_tag_add"), {**new, "name": name}).content.decode()
        assert "begin with - or ~" in page
    assert set(Tag.objects.values_list("name", "description")) == {
        ("very_long_hair", ""),
        ("Long_Hair", "Down to the waist."),
    }


def test_a_rule_on_a_large_site_is_left_to_a_worker(
    admin, post, monkeypatch, settings, django_capture_on_commit_callbacks
):
    monkeypatch.setattr(reindexing, "AT_ONCE", 0)
    broker = redis.from_url(settings.REDIS_URL)
    broker.delete("long")
    rule = {"tag": Tag.objects.get(name="cat").pk, "implied": make_tag("animal").pk}
    with django_capture_on_commit_callbacks(execute=True):
        page = admin.post(reverse("admin:gallery_tagimplication_add"), rule, follow=True)
    assert b"follow in the background" in page.content
    assert names(post) == {"cat"}
    sent = json.loads(broker.lpop("long"))
    assert sent["headers"]["task"] == "gallery.tasks.rebuild_with_tags"
    tasks.rebuild_with_tags(*json.loads(base64.b64decode(sent["body"]))[0])
    assert names(post) == {"cat", "animal"}


def test_rules_that_lead_in_a_circle_are_refused(admin, post):
    cat, animal = Tag.objects.get(name="cat"), make_tag("animal")
    TagAlias.objects.create(name="animal", tag=cat)
    circle = admin.post(reverse("admin:gallery_tagalias_add"), {"name": " CAT", "tag": animal.pk})
    assert b"cat would lead back to itself" in circle.content
    itself = admin.post(reverse("admin:gallery_tagalias_add"), {"name": "cat", "tag": cat.pk})
    assert b"cat would lead back to itself" in itself.content
    TagImplication.objects.create(tag=cat, implied=animal)
    back = admin.post(reverse("admin:gallery_tagimplication_add"), {"tag": animal.pk, "implied": cat.pk})
    assert b"cat leads to animal" in back.content
    assert (TagAlias.objects.count(), TagImplication.objects.count()) == (1, 1)
    assert admin.post(reverse("admin:gallery_tagalias_add"), {"name": "x", "tag": ""}).status_code == 200


def names(post) -> set[str]:
    return set(Tag.objects.filter(pk__in=TagIndex.objects.get(post=post).tag_ids).values_list("name", flat=True))


def test_rules_take_hold_of_posts_at_once(admin, post, transactional_db):
    cat, animal = Tag.objects.get(name="cat"), make_tag("animal")
    admin.post(reverse("admin:gallery_tagimplication_add"), {"tag": cat.pk, "implied": animal.pk})
    assert names(post) == {"cat", "animal"}
    rule = TagImplication.objects.get()
    admin.post(reverse("admin:gallery_tagimplication_delete", args=[rule.pk]), {"post": "yes"})
    assert names(post) == {"cat"}
    admin.post(reverse("admin:gallery_tagalias_add"), {"name": "cat", "tag": animal.pk})
    assert names(post) == {"animal"}
    chosen = {"action": "delete_selected", "_selected_action": [TagAlias.objects.get().pk], "post": "yes"}
    admin.post(reverse("admin:gallery_tagalias_changelist"), chosen)
    assert names(post) == {"cat"}
    change = {"name": "cat", "category": 0, "description": "", "deprecated": "on"}
    admin.post(reverse("admin:gallery_tag_change", args=[cat.pk]), change)
    assert names(post) == set()


def test_tags_cannot_be_deleted_and_invitations_only_read(admin, post):
    tag = Tag.objects.get(name="cat")
    invitation = Invitation.objects.create(token_hash="secret-hash", expires_at="2030-01-01T00:00Z")
    assert admin.post(reverse("admin:gallery_tag_delete", args=[tag.pk]), {"post": "yes"}).status_code == 403
    page = admin.get(reverse("admin:gallery_invitation_change", args=[invitation.pk]))
    assert page.status_code == 200
    assert b"secret-hash" not in page.content


@pytest.mark.parametrize("name", ["tag", "tagalias", "tagimplication", "invitation", "post", "release"])
def test_lists_open(admin, post, name):
    assert admin.get(reverse(f"admin:gallery_{name}_changelist")).status_code == 200


def test_strangers_are_sent_to_the_login(db):
    assert Client().get(reverse("admin:gallery_tag_changelist")).status_code == 302


def test_rules_are_named_by_their_tags(db):
    car, vehicle = make_tag("car"), make_tag("vehicle")
    assert str(TagAlias(name="automobile", tag=car)) == "automobile → car"
    assert str(TagImplication(tag=car, implied=vehicle)) == "car → vehicle"
