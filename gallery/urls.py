from django.contrib import admin
from django.urls import path

from gallery.views import account, browse, health, preference, profile, tag, upload

# Reading: finding posts, looking at them, correcting them.
_reading = [
    path("", browse.browse, name="browse"),
    path("suggest/", browse.suggest, name="suggest"),
    path("tags/", tag.tags, name="tags"),
    path("profiles/choose/", preference.choose_profile, name="choose_profile"),
]

# Doing: uploading, profiles, accounts, the staff's pages.
_doing = [
    path("upload/", upload.upload, name="upload"),
    path("upload/<int:pk>/", upload.upload_status, name="upload_status"),
    path("profiles/", profile.list_profiles, name="profiles"),
    path("profiles/new/", profile.new_profile, name="new_profile"),
    path("profiles/preview/", profile.preview_profile, name="preview_profile"),
    path("profiles/<int:pk>/", profile.edit_profile, name="edit_profile"),
    path("profiles/<int:pk>/delete/", profile.delete_profile, name="delete_profile"),
    path("login/", account.login, name="login"),
    path("logout/", account.logout, name="logout"),
    path("join/<str:token>/", account.join, name="join"),
    path("account/", account.account, name="account"),
    path("health/", health.health, name="health"),
]

urlpatterns = [*_reading, *_doing, path("admin/", admin.site.urls)]
