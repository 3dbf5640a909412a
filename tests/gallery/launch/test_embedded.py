import json
import shutil

import pytest
import redis
from django.core.cache import cache
from django.db import connection

from gallery.launch import embedded
from gallery.models import Tag


@pytest.mark.django_db
def test_suite_runs_on_real_servers():
    Tag.objects.create(name="1girl")
    cache.set("answer", 42, 10)
    with connection.cursor() as cursor:
        cursor.execute("select idx('{1,2,3}'::int[], 3)")
        assert cursor.fetchone() == (3,)
    assert cache.get("answer") == 42


def test_two_launchers_never_share_a_folder(tmp_path):
    servers = embedded.start(tmp_path, fast=True)
    try:
        with pytest.raises(embedded.EmbeddedError, match="already runs"):
            embedded.start(tmp_path, fast=True)
    finally:
        servers.stop()


def test_a_copy_of_the_folder_leaves_the_first_site_alone(tmp_path):
    servers = embedded.start(tmp_path / "site", postgres=False, fast=True)
    try:
        (tmp_path / "copy").mkdir()
        shutil.copy2(tmp_path / "site" / embedded.STATE_FILE, tmp_path / "copy")
        embedded.start(tmp_path / "copy", postgres=False, fast=True).stop()
        assert redis.Redis.from_url(servers.redis_url).ping()
    finally:
        servers.stop()


def test_what_a_killed_launcher_left_is_removed(tmp_path):
    (tmp_path / "left").mkdir()
    state = {"data": str(tmp_path), "sockets": str(tmp_path / "left")}
    (tmp_path / embedded.STATE_FILE).write_text(json.dumps(state))
    embedded.start(tmp_path, postgres=False, redis=False).stop()
    assert not (tmp_path / "left").exists()
