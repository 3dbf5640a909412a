"""The web server's entry."""

import os

from django.core.wsgi import get_wsgi_application

from gallery.launch.processes import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gallery.settings")
if os.environ.get("MANABOORU_LAUNCHED"):  # a web worker whose parent was killed would keep the port
    die_with_parent()

application = get_wsgi_application()

from gallery.search import sample  # noqa: E402  (the site's own modules need the settings)

sample.warm()
