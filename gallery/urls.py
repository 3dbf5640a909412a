from django.contrib import admin
from django.urls import path

from gallery.views import browse, preference, tag

# Reading: finding posts, looking at them, correcting them.
_reading = [
    path("", browse.browse, name="browse"),
    path("suggest/", browse.suggest, name="suggest"),
    path("tags/", tag.tags, name="tags"),
    path("profiles/choose/", preference.choose_profile, name="choose_profile"),
]

# Doing: uploading, profiles, accounts, the staff's pages.
_doing = []

urlpatterns = [*_reading, *_doing, path("admin/", admin.site.urls)]
