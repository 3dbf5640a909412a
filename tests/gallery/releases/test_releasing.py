import json
import time
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from django.apps import apps

from gallery import profiles, search
from gallery.index import indexing
from gallery.models import Category, Prediction, Preference, Profile, Release, Tag, TagAlias, TagIndex
from gallery.releases import releasing
from gallery.releases.releasing import ReleaseError
from gallery.worker import batching
from tests.gallery.making import make_post, make_release, make_tag, make_user, predict
from tests.gallery.working import install
from tests.tagger import releases


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.RELEASES_DIR = tmp_path / "installed"
    return tmp_path


@pytest.mark.django_db
def test_install_copies_the_folder_and_makes_rows(data, settings):
    clash = make_tag("some_show", Category.META)
    release = install(data / "first", activate=False)
    assert release.path == settings.RELEASES_DIR / "first"
    assert (release.path / "model.safetensors").is_file()
    names = dict(Tag.objects.values_list("id", "name"))
    assert [names[tag_id] for tag_id in release.tag_ids] == [name for name, _ in releases.TAGS]
    clash.refresh_from_db()
    assert clash.category == Category.META
    assert Tag.objects.get(name="painter_1").category == Category.ARTIST
    assert not release.active
    keys = list(Profile.objects.filter(release=release).values_list("key", flat=True))
    assert keys[:5] == ["overall", "weighted", "category-specific", "high-precision", "high-recall"]
    assert [path.name for path in settings.RELEASES_DIR.iterdir()] == ["first"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"name": "n" * 81}, "longer than 80 characters"),
        ({"title": "t" * 201}, "longer than 200 characters"),
        ({"licence": "nu\0ll"}, "publish it again"),
    ],
)
def test_a_release_whose_rows_cannot_be_made_leaves_no_folder(data, settings, said, words):
    file = releases.write(data / "first").folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
    with pytest.raises(ReleaseError, match=words):
        releasing.install(data / "first")
    assert not settings.RELEASES_DIR.exists() or not list(settings.RELEASES_DIR.iterdir())
    assert not Release.objects.exists()


@pytest.mark.django_db
def test_published_names_become_names_that_a_search_finds(data):
    """Capitals, spaces and decomposed accents; names that fall together are one tag, with the greater confidence."""
    file = releases.write(data / "first").folder / "vocabulary.json"
    said = json.loads(file.read_text())
    for place, name in enumerate(["Blue Hair", "blue_hair", "Cafe\u0301"]):
        said["tags"][place]["name"] = name
    file.write_text(json.dumps(said))
    release = releasing.install(data / "first")
    names = dict(Tag.objects.values_list("id", "name"))
    assert [names[tag_id] for tag_id in release.tag_ids[:3]] == ["blue_hair", "blue_hair", "caf\u00e9"]
    post = make_post()
    tagger = batching.Tagger(release.pk, release.way, None, None, np.array(release.tag_ids))
    found = SimpleNamespace(indices=np.array([1, 2, 0]), confidences=np.array([0.9, 0.8, 0.2], np.float32))
    batching.row_of(tagger, post, found).save()
    indexing.rebuild([post.pk])
    assert len(Prediction.objects.get().tag_ids) == 2
    for text in ("blue_hair", "Caf\u00e9", "ai:blue_hair,>85%"):
        assert search.find(text, profiles.Thresholds(127)).post_ids == [post.pk], text


@pytest.mark.django_db
def test_a_release_takes_no_numbers_for_tags_that_are_there(data):
    """A site that learns every night would run out of them."""
    first = install(data / "first")
    second = install(data / "second", seed=1)
    assert second.tag_ids == first.tag_ids
    assert make_tag("next").pk == max(first.tag_ids) + 1


@pytest.mark.django_db
def test_tags_of_older_imports_are_renamed_where_the_name_is_free():
    tags = [make_tag(name) for name in ("Blue_Hair", "Hat", "hat", "Cap", "solo")]
    TagAlias.objects.create(name="cap", tag=tags[2])
    import_module("gallery.migrations.0013_name_tags_as_searches_do").rename(apps, None)
    assert [Tag.objects.get(pk=tag.pk).name for tag in tags] == ["blue_hair", "Hat", "hat", "Cap", "solo"]


@pytest.mark.django_db
def test_the_same_release_again_is_found(data):
    first = install(data / "first")
    shipped = Profile.objects.count()
    assert install(data / "first") == first
    assert releasing.install(first.path) == first
    assert Profile.objects.count() == shipped
    (first.path / "model.safetensors").unlink()
    with pytest.raises(ReleaseError):
        releasing.use(first)
    install(data / "first")
    assert (first.path / "model.safetensors").is_file()


@pytest.mark.django_db
def test_another_release_of_the_same_name_is_refused(data):
    install(data / "first")
    config = json.loads((data / "first" / "config.json").read_text())
    (data / "first" / "config.json").write_text(json.dumps({**config, "title": "something else"}))
    with pytest.raises(ReleaseError, match="under a new name"):
        install(data / "first")


@pytest.mark.django_db
def test_bad_folders_are_refused_and_leave_nothing(data):
    (data / "empty").mkdir()
    for folder in (data / "nowhere", data / "empty"):
        with pytest.raises(ReleaseError):
            releasing.install(folder)
    assert not Release.objects.exists()
    assert not Tag.objects.exists()


@pytest.mark.django_db
def test_one_release_is_active_and_its_profiles_are_the_sites(data):
    first = install(data / "first")
    second = install(data / "second", seed=1)
    assert list(Release.objects.filter(active=True)) == [second]
    assert profiles.default_profile().release == second
    releasing.use(first)
    releasing.use(first)
    assert list(Release.objects.filter(active=True)) == [first]
    assert first.activated_at is not None


@pytest.mark.django_db
def test_tags_of_older_releases_stay_until_tagged_again(data):
    old = make_release("old")
    hat, cat = make_tag("hat"), make_tag("cat")
    seen_by_both, seen_by_old = make_post(), make_post()
    predict(seen_by_both, old, {hat: 1.0})
    predict(seen_by_old, old, {hat: 1.0})
    new = install(data / "new", activate=False)
    predict(seen_by_both, new, {cat: 1.0})
    indexing.rebuild([seen_by_both.pk, seen_by_old.pk])
    releasing.use(new)
    assert releasing.rebuild_after_change() == 1
    assert TagIndex.objects.get(post=seen_by_both).tag_ids == [cat.id]
    assert TagIndex.objects.get(post=seen_by_old).tag_ids == [hat.id]
    assert Prediction.objects.count() == 3


@pytest.mark.django_db
def test_a_large_vocabulary_is_installed_in_seconds():
    names = [f"tag_{number}" for number in range(70_000)]
    began = time.perf_counter()
    ids = releasing._tag_ids(names, ["general"] * len(names))
    assert time.perf_counter() - began < 20
    assert len(set(ids)) == 70_000
    assert releasing._tag_ids(names, ["general"] * len(names)) == ids


@pytest.mark.django_db
def test_a_member_keeps_a_chosen_profile_when_its_release_is_removed(data, django_capture_on_commit_callbacks):
    first = install(data / "first", activate=True)
    member = make_user()
    Preference.objects.create(user=member, profile=Profile.objects.get(release=first, key="high-recall"))
    second = install(data / "second", activate=True)
    with django_capture_on_commit_callbacks(execute=True):
        releasing.remove(first)
    assert Preference.objects.get(user=member).profile == Profile.objects.get(release=second, key="high-recall")
