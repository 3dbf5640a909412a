import numpy as np
import pytest

from gallery import tagging
from gallery.likeness import features, search
from gallery.models import Feature, Post, Prediction
from gallery.releases import releasing
from gallery.worker import batching, sweeping
from tests.gallery.working import install, upload

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def data(tagging_site):
    return tagging_site


def test_a_feature_keeps_its_direction():
    feature = RNG.random(1280).astype(np.float16)
    codes = features.pack(feature)
    assert len(codes) == 1280
    direction = features.unpack(codes)
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-5)
    exact = feature.astype(np.float32)
    assert direction @ exact / np.linalg.norm(exact) > 0.9999
    assert features.unpack(features.pack(feature * 7)) @ direction > 0.9999


@pytest.mark.parametrize("feature", [None, np.zeros(8, np.float16), np.array([1, np.inf, 0], np.float16)])
def test_what_has_no_direction_has_no_codes(feature):
    assert features.pack(feature) == b""


@pytest.mark.django_db
def test_features_are_written_with_the_predictions(data):
    release = install(data / "first")
    posts = [upload(number) for number in range(3)]
    assert tagging.tag_waiting() == 3
    rows = Feature.objects.filter(release=release)
    assert set(rows.values_list("post_id", flat=True)) == {post.pk for post in posts}
    predictor = tagging._loaded.predictor
    found = predictor.predict_prepared([batching.pixels_of(predictor, posts[0])])[0]
    stored = features.unpack(rows.get(post=posts[0]).codes)
    exact = found.feature.astype(np.float32)
    assert stored @ exact / np.linalg.norm(exact) > 0.999
    assert features.number() == 3


@pytest.mark.django_db
def test_missing_features_are_filled_when_nothing_waits(data, monkeypatch):
    install(data / "first")
    posts = [upload(number) for number in range(4)]
    tagging.tag_waiting()
    Feature.objects.all().delete()
    Post.objects.filter(pk=posts[0].pk).update(status="deleted")
    (data / "media" / posts[1].file_path).unlink()
    before = dict(Prediction.objects.values_list("post_id", "created_at"))
    sent = []
    monkeypatch.setattr(sweeping, "send", sent.append)
    sweeping.sweep()
    assert sent == ["fill_features"]
    assert tagging.fill_features() == 3
    kept = {row.post_id: len(row.codes) for row in Feature.objects.all()}
    width = kept[posts[2].pk]
    assert kept == {posts[1].pk: 0, posts[2].pk: width, posts[3].pk: width} and width > 0
    assert dict(Prediction.objects.values_list("post_id", "created_at")) == before
    assert tagging.fill_features() == 0
    sweeping.sweep()
    assert sent == ["fill_features"]


@pytest.mark.django_db
def test_a_storage_that_is_away_leaves_no_empty_features(data):
    release = install(data / "first")
    posts = [upload(number) for number in range(3)]
    tagging.tag_waiting()
    Feature.objects.all().delete()
    (data / "media").rename(data / "away")
    assert tagging.fill_features() == 0
    assert not Feature.objects.exists()
    assert not features.any_missing(release)  # nobody asks for a while
    (data / "away").rename(data / "media")
    assert tagging.fill_features() == len(posts)
    assert not Feature.objects.filter(codes=b"").exists()


@pytest.mark.django_db
def test_a_model_that_breaks_leaves_no_empty_features(data, monkeypatch):
    install(data / "first")
    posts = [upload(number) for number in range(3)]
    tagging.tag_waiting()
    Feature.objects.all().delete()
    with monkeypatch.context() as broken:
        broken.setattr(tagging._loaded.predictor, "predict_prepared", None)
        assert tagging.fill_features() == 0
    assert not Feature.objects.exists()
    assert tagging.fill_features() == len(posts)


@pytest.mark.django_db
def test_tagging_again_replaces_an_empty_feature(data):
    release = install(data / "first")
    post = upload(1)
    Feature.objects.create(post=post, release=release, codes=b"")
    tagging.tag_waiting()
    kept = Feature.objects.get(post=post)
    assert kept.codes
    Post.objects.update(tagging_state="waiting")
    tagging.tag_waiting()
    assert Feature.objects.get(post=post).pk == kept.pk


@pytest.mark.django_db
def test_posts_that_wait_go_before_missing_features(data):
    install(data / "first")
    upload(1)
    tagging.tag_waiting()
    Feature.objects.all().delete()
    upload(2)
    assert tagging.fill_features() == 0


@pytest.mark.django_db
def test_another_releases_feature_stands_in_until_the_active_one_has_seen_the_post(data):
    first, second = install(data / "first"), install(data / "second", seed=1, activate=False)
    posts = [upload(number) for number in range(3)]
    tagging.tag_waiting()
    releasing.use(second)
    found = search.of_post(posts[0], 5)
    assert {each.post_id for each in found} == {posts[1].pk, posts[2].pk}
    tagging.predict_posts(first.pk, *(post.pk for post in posts))
    assert Feature.objects.filter(release=second).count() == 0
    Post.objects.update(tagging_state="waiting")
    tagging.tag_waiting()
    assert Feature.objects.filter(release=second).count() == 3
