import pytest
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
