from django.contrib import admin
from django.urls import path

from gallery.views import (
    account,
    browse,
    export,
    health,
    media,
    people,
    post,
    preference,
    profile,
    release,
    seed,
    staff,
    tag,
    tag_again,
    try_it,
    upload,
    verdict,
)

# Reading: finding posts, looking at them, correcting them.
_reading = [
    path("", browse.browse, name="browse"),
    path("suggest/", browse.suggest, name="suggest"),
    path("posts/<int:pk>/", post.post, name="post"),
    path("posts/<int:pk>/delete/", post.delete_post, name="delete_post"),
    path("posts/<int:pk>/restore/", post.restore_post, name="restore_post"),
    path("posts/<int:pk>/tags/", verdict.add_tag, name="add_tag"),
    path("posts/<int:pk>/verdicts/<int:tag_pk>/", verdict.verdict, name="verdict"),
    path("tags/", tag.tags, name="tags"),
    path("tags/<path:name>/", tag.tag, name="tag"),
    path("profiles/choose/", preference.choose_profile, name="choose_profile"),
    path("try/", try_it.try_it, name="try_it"),
    path("try/examples/<str:name>/", try_it.try_example, name="try_example"),
    path("try/<str:token>/", try_it.try_result, name="try_result"),
    path("media/<path:path>", media.media, name="media"),
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
    path("staff/", staff.dashboard, name="staff"),
    path("staff/queue/", staff.queue, name="queue"),
    path("staff/failed/", staff.failed, name="failed"),
    path("staff/failed/retry/", staff.retry, name="retry"),
    path("staff/people/", people.people, name="people"),
    path("staff/people/invite/", people.invite, name="invite"),
    path("staff/people/<int:pk>/", people.change_person, name="change_person"),
    path("staff/invitations/<int:pk>/revoke/", people.revoke_invitation, name="revoke_invitation"),
    path("staff/tag-again/", tag_again.tag_again, name="tag_again"),
    path("staff/runs/<int:pk>/", tag_again.tagging_run, name="tagging_run"),
    path("staff/runs/<int:pk>/cancel/", tag_again.cancel_run, name="cancel_run"),
    path("staff/exports/", export.exports, name="exports"),
    path("staff/exports/<int:pk>/download/", export.download_export, name="download_export"),
    path("staff/exports/<int:pk>/delete/", export.delete_export, name="delete_export"),
    path("staff/releases/", release.releases, name="releases"),
    path("staff/releases/install/", release.install_release, name="install_release"),
    path("staff/releases/<int:pk>/", release.release, name="release"),
    path("staff/releases/<int:pk>/activate/", release.activate_release, name="activate_release"),
    path("staff/seed/", seed.install_seed, name="install_seed"),
    path("staff/seed/progress/", seed.seed_progress, name="seed_progress"),
    path("health/", health.health, name="health"),
]

urlpatterns = [*_reading, *_doing, path("admin/", admin.site.urls)]
