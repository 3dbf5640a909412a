import io
import json
from datetime import timedelta

import psycopg
import pytest
import redis
from datasets import load_dataset
from django.conf import settings as site
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pyarrow.parquet import ParquetFile

from gallery import correcting, exporting, tasks, uploading
from gallery.index import indexing
from gallery.models import Category, Export, TagAlias
from tests.gallery.making import make_release, make_site_profiles, make_tag, make_user, predict
from tests.gallery.test_pictures import file_of, scene


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.MEDIA_ROOT, settings.EXPORTS_DIR = tmp_path / "media", tmp_path / "exports"
    return tmp_path


@pytest.fixture
def judged(db):
    """A post with a prediction, a yes, a no and a year; and one that nobody judged."""
    release = make_release()
    make_site_profiles(release, category_specific=0.5)
    hat, cat, dog = make_tag("hat"), make_tag("cat"), make_tag("dog")
    year, safe = make_tag("year_2021", Category.YEAR), make_tag("rating_general", Category.RATING)
    post, other = (uploading.store(file_of(scene(size, 30)), source="there", credit="me").post for size in (40, 50))
    predict(post, release, {hat: 0.9, cat: 0.2, dog: 0.8, year: 0.7, safe: 0.3})
    predict(other, release, {hat: 0.9})
    indexing.rebuild([post.pk, other.pk])
    correcting.record(post, cat, True, make_user())
    correcting.record(post, dog, False, make_user())
    return post


def test_an_export_tells_yes_no_and_unknown_apart(judged, data):
    row = exporting.start(None)
    tasks.run_export(row.pk)
    row.refresh_from_db()
    assert (row.state, row.total, row.done) == ("done", 1, 1)
    assert row.counts == {"posts": 1, "yes": 1, "no": 1, "missing": 0}
    [found] = load_dataset(row.folder, cache_dir=str(data / "cache"))["train"]
    assert found["image"].size == (40, 30)
    assert (found["verified"], found["rejected"], found["complete"]) == (["cat"], ["dog"], False)
    assert (found["tags_general"], found["tags_year"], found["year"]) == (["cat", "hat"], ["year_2021"], 2021)
    assert (found["rating"], found["release"], found["md5"]) == ("general", "first", judged.md5)
    assert found["predicted_tags"] == ["hat", "dog", "year_2021", "rating_general", "cat"]
    assert found["predicted_confidences"][0] == pytest.approx(0.9, abs=1 / 254)
    assert (found["source"], found["artist_credit"], found["width"]) == ("there", "me", 40)
    about = json.loads((data / "exports" / row.folder / "dataset.json").read_text())
    assert (about["format"], about["release"], about["counts"]) == ("manabooru-dataset", "first", {"train": 1})
    assert {tag["name"]: tag["count"] for tag in about["vocabulary"]} == {
        "cat": 1,
        "hat": 1,
        "year_2021": 1,
        "rating_general": 1,
        "dog": 0,
    }


def test_all_posts_in_shards(judged, data, monkeypatch):
    monkeypatch.setattr(exporting, "_ROWS_A_GROUP", 1)
    monkeypatch.setattr(exporting, "_SHARD_BYTES", 1)
    out = io.StringIO()
    call_command("export_corrections", "--all", "--out", str(data / "mine"), stdout=out)
    assert "2 posts with 1 yes and 1 no" in out.getvalue()
    assert sorted(path.name for path in (data / "mine" / "data").iterdir()) == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    assert len(load_dataset(str(data / "mine"), cache_dir=str(data / "cache"))["train"]) == 2


def test_large_pictures_are_written_in_smaller_groups(judged, data, monkeypatch):
    monkeypatch.setattr(exporting, "_GROUP_BYTES", 1)
    row = Export.objects.create()
    exporting.export(row, everything=True)
    [shard] = (data / "exports").rglob("*.parquet")
    file = ParquetFile(shard)
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [1, 1]
    assert row.done == 2


def test_the_trainer_reads_an_export(judged, data):
    from training import dataset

    call_command("export_corrections", "--out", str(data / "mine"), stdout=io.StringIO())
    opened = dataset.read(data / "mine", cache=data / "cache")
    assert set(opened.splits["train"].column_names) == set(dataset.FEATURES)
    assert opened.splits["train"].features == {**dataset.FEATURES, "image": opened.splits["train"].features["image"]}


def test_missing_files_are_counted_and_left_out(judged):
    default_storage.delete(judged.file_path)
    row = Export.objects.create()
    exporting.export(row, everything=True)
    assert row.counts == {"posts": 1, "yes": 0, "no": 0, "missing": 1}


def test_a_picture_that_cannot_be_read_is_named(judged, data):
    path = data / "media" / judged.file_path
    path.unlink()
    path.mkdir()  # there, and not to be read
    row = Export.objects.create()
    with pytest.raises(exporting.ExportError, match=f"post {judged.pk}, {judged.file_path}, can't be read"):
        exporting.export(row)
    assert "can't be written" not in row.error and row.state == "failed"


@pytest.mark.django_db
def test_an_export_that_cannot_be_says_why(data):
    with pytest.raises(CommandError, match="yes or no to some tags"):
        call_command("export_corrections")
    row = Export.objects.get()
    assert (row.state, row.finished_at is None) == ("failed", False)
    assert "yes or no" in row.error
    assert not list(data.rglob("*.parquet"))


def test_a_folder_that_exists_is_not_touched(judged, data):
    (data / "mine").mkdir()
    with pytest.raises(CommandError, match="exists already"):
        call_command("export_corrections", "--out", str(data / "mine"))
    assert not list((data / "mine").iterdir())


def test_a_message_that_comes_twice_exports_once(judged):
    row = exporting.start(None)
    tasks.run_export(row.pk)
    tasks.run_export(row.pk)
    tasks.run_export(row.pk + 1)
    assert Export.objects.get().state == "done"


@pytest.fixture
def elsewhere(db):
    """Another database session, as another worker has."""
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as session:
        yield session


def test_an_export_whose_worker_was_killed_fails_and_leaves_nothing(judged, data):
    row = Export.objects.create(total=9, done=4)
    left = data / "exports" / f".export-{row.pk}-20260101-000000.abc" / "data"
    left.mkdir(parents=True)
    assert exporting.sweep() == 1
    row.refresh_from_db()
    assert (row.state, row.error) == ("failed", "The worker was stopped while it wrote: export again.")
    assert not list((data / "exports").iterdir())
    exporting.run(row.pk)
    assert Export.objects.get().state == "failed"


def test_an_export_that_another_worker_writes_is_left_to_it(judged, elsewhere):
    row = Export.objects.create(total=9, done=4)
    elsewhere.execute("select pg_advisory_lock(%s, %s)", [exporting._LOCK, row.pk])
    assert exporting.sweep() == 0
    exporting.run(row.pk)
    row.refresh_from_db()
    assert (row.state, row.done) == ("running", 4)
    elsewhere.execute("select pg_advisory_unlock(%s, %s)", [exporting._LOCK, row.pk])
    exporting.run(row.pk)
    row.refresh_from_db()
    assert (row.state, row.total, row.done) == ("done", 1, 1)


def test_an_export_whose_message_was_lost_is_sent_again(judged):
    row, broker = Export.objects.create(), redis.from_url(site.REDIS_URL)
    broker.delete("long")
    assert exporting.sweep() == 0 and broker.llen("long") == 0
    Export.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert exporting.sweep() == 0 and broker.llen("long") == 1
    broker.delete("default")
    row.refresh_from_db()
    assert row.state == "running"


def test_a_verdict_given_under_an_alias_is_exported_as_its_tag(judged, data):
    TagAlias.objects.create(name="cat", tag=make_tag("feline"))
    indexing.rebuild([judged.pk])
    row = exporting.start(None)
    tasks.run_export(row.pk)
    row.refresh_from_db()
    [found] = load_dataset(row.folder, cache_dir=str(data / "cache"))["train"]
    assert (found["verified"], found["rejected"]) == (["feline"], ["dog"])
    assert "feline" in found["tags_general"]
