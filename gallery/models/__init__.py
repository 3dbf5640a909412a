from gallery.models.choices import CATEGORY_ORDER, Category, PostStatus, Rating, TaggingState
from gallery.models.edit import Edit
from gallery.models.export import Export
from gallery.models.feature import Feature
from gallery.models.invitation import Invitation
from gallery.models.post import THUMBNAIL_SIZES, Post
from gallery.models.prediction import Prediction
from gallery.models.profile import Preference, Profile
from gallery.models.release import Release
from gallery.models.release_import import ReleaseImport
from gallery.models.saved_search import SavedSearch
from gallery.models.tag import NAMES_SENTENCE, Tag, TagAlias, TagImplication, can_be_asked, typed_name
from gallery.models.tag_index import TagChange, TagIndex
from gallery.models.tagging_run import TaggingRun
from gallery.models.verdict import Verdict

__all__ = [
    "CATEGORY_ORDER",
    "THUMBNAIL_SIZES",
    "Category",
    "Edit",
    "Export",
    "Feature",
    "Invitation",
    "Post",
    "PostStatus",
    "Prediction",
    "Preference",
    "Profile",
    "Rating",
    "Release",
    "ReleaseImport",
    "SavedSearch",
    "Tag",
    "TagAlias",
    "TagChange",
    "TagImplication",
    "TagIndex",
    "TaggingRun",
    "TaggingState",
    "Verdict",
    "typed_name",
    "can_be_asked",
    "NAMES_SENTENCE",
]
