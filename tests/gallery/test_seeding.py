import json

import pytest
from django.core.cache import cache

from gallery import correcting, seeding, uploading
from gallery.models import Category, Post, Tag, TagIndex, Verdict
from gallery.seeding import SeedError
from tests.gallery.test_pictures import file_of, scene


@pytest.fixture
def folder(tmp_path, settings):
    """A seed of three pictures."""
    settings.MEDIA_ROOT = tmp_path / "media"
    seed = tmp_path / "seed"
    (seed / "pictures").mkdir(parents=True)
    pictures = []
    for number in range(3):
        name = f"pictures/{number}.webp"
        (seed / name).write_bytes(file_of(scene(30 + number, 30), "WEBP").getvalue())
        tags = {"general": ["hat", f"thing_{number}"], "artist": ["someone"]}
        pictures.append({"file": name, "md5": str(number), "tags": tags, "source": "s", "credit": f"credit {number}"})
    (seed / "seed.json").write_text(json.dumps({"pictures": pictures}))
    return seed


@pytest.mark.django_db
def test_pictures_come_with_tags_that_people_gave(folder):
    steps = []
    assert seeding.install_seed(lambda done, total: steps.append((done, total)), folder) == 3
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert Tag.objects.get(name="someone").category == Category.ARTIST
    assert set(Verdict.objects.values_list("answer", "origin", "user")) == {(True, "seed", None)}
    index = TagIndex.objects.get(post__credit="credit 1")
    names = set(Tag.objects.filter(pk__in=index.tag_ids).values_list("name", flat=True))
    assert names == {"hat", "thing_1", "someone"}
    assert bytes(index.confidences) == b"\0\xff\xff\xff"


@pytest.mark.django_db
def test_twice_adds_nothing_and_keeps_what_people_changed(folder):
    seeding.install_seed(folder=folder)
    post, gone = Post.objects.order_by("pk")[:2]
    correcting.record(post, Tag.objects.get(name="hat"), False, None)
    correcting.undo(post, Tag.objects.get(name="someone"), None)
    uploading.delete(gone)
    assert seeding.install_seed(folder=folder) == 0
    assert post.verdicts.filter(answer=True).count() == 1
    assert Post.objects.active().count() == 2


@pytest.mark.django_db
def test_tags_are_named_as_searches_ask_for_them(folder):
    file = folder / "seed.json"
    file.write_text(file.read_text().replace("someone", "Nadja Gru\u0308n"))
    seeding.install_seed(folder=folder)
    assert Tag.objects.get(category=Category.ARTIST).name == "nadja_gr\u00fcn"


@pytest.mark.django_db
def test_what_broke_off_is_taken_up_again(folder):
    (folder / "pictures/1.webp").rename(folder / "away")
    with pytest.raises(SeedError, match="1.webp"):
        seeding.install_seed(folder=folder)
    (folder / "away").rename(folder / "pictures/1.webp")
    assert seeding.install_seed(folder=folder) == 2
    assert Verdict.objects.count() == 9


@pytest.mark.django_db
def test_a_broken_seed_is_said(tmp_path):
    with pytest.raises(SeedError, match="can't be read"):
        seeding.install_seed(folder=tmp_path)


@pytest.mark.django_db
def test_state_follows_the_worker(folder, monkeypatch):
    monkeypatch.setattr(seeding, "FOLDER", folder)
    cache.clear()
    assert seeding.state() == {"running": False, "done": 0, "total": 3, "error": ""}
    seeding.start()
    assert seeding.state()["running"]
    seeding.remember(2, 3)
    assert seeding.state()["done"] == 2
    seeding.remember(3, 3)
    assert not seeding.state()["running"]
    cache.clear()
