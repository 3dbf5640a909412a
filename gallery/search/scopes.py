"""What a search depends on besides its text and tags: who looks, by which profile, at which posts.

`profile:` is about the terms beside it, `search:` stands for the saved searches of who looks, and
`status:deleted` reads posts that are not in the index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.utils.text import slugify

from gallery import profiles
from gallery.index import indexing
from gallery.models import Post, PostStatus, SavedSearch, typed_name
from gallery.search.errors import SearchError, did_you_mean, nearest
from gallery.search.nodes import (
    Leaf,
    Metatag,
    Node,
    Not,
    all_of,
    any_of,
    inside,
    is_profile,
    is_shape,
    leaves,
    rewritten,
    terms,
    top,
)
from gallery.search.parser import parse
from gallery.search.terms import Context
from gallery.search.values import BadValue, Sql

Viewer = AbstractBaseUser | AnonymousUser | None
Note = Callable[[str], None]

DELETED_READ = 1000  # deleted posts that one search looks at
SAVED_TERMS = 400  # terms that saved searches may bring into one search


# profile:


def scoped(tree: Node, context: Context) -> Context:
    """The context in which a group's terms are read: by the profile that stands beside them, if one does."""
    leaf = next(filter(is_profile, top(tree)), None)
    if leaf is None:
        return context
    try:
        return replace(context, thresholds=thresholds_named(leaf.value, context.viewer))
    except BadValue as error:
        raise error.of(leaf.name, leaf.value, leaf.position, leaf.length) from None


def thresholds_named(name: str, viewer: Viewer) -> profiles.Thresholds:
    """The thresholds of a profile that this person may choose, by its key; raises BadValue."""
    found = {profile.key: profile for profile in profiles.choices(viewer or AnonymousUser())}
    key = slugify(name).replace("_", "-")
    if key not in found:
        raise BadValue(f"give the name of a profile: {', '.join(found) or 'there is none yet'}.", nearest(key, found))
    return profiles.resolve(found[key])


# search:


def expanded(tree: Node, viewer: Viewer, note: Note) -> Node:
    """The tree with each `search:` replaced by what the saved searches of that name ask."""
    asked = {leaf.value for leaf in leaves(tree) if _is_saved(leaf)}
    if not asked:
        return tree
    if viewer is None or not viewer.is_authenticated:
        note("Saved searches belong to an account: sign in to use search:.")
        return rewritten(tree, lambda leaf: any_of(()) if _is_saved(leaf) else leaf)
    saved: dict[str, list[str]] = {}
    for row in SavedSearch.of(viewer):
        saved.setdefault(row.name, []).append(row.query)
    meant = {value: rewritten(_meant(value, saved, note), _elsewhere) for value in asked}
    return rewritten(tree, lambda leaf: meant[leaf.value] if _is_saved(leaf) else leaf)


def _elsewhere(leaf: Leaf) -> Leaf:
    """A term that stands in no place of the text."""
    return replace(leaf, position=-1, length=0)


def in_the_text(error: SearchError, tree: Node) -> SearchError:
    """The error at its place in the text: one in a saved search where the text asks for it."""
    if error.position >= 0:
        return error
    asked = next(filter(_is_saved, leaves(tree)))
    sentence = f"A saved search can't be asked, change it first. {error.message}"
    return SearchError(sentence, asked.position, asked.length)


def _is_saved(leaf: Leaf) -> bool:
    return isinstance(leaf, Metatag) and leaf.name == "search"


def is_personal(tree: Node) -> bool:
    """Whether it depends on who asks what a search finds: by their saved searches, or the names of their files."""
    return any(isinstance(leaf, Metatag) and leaf.name in ("search", "filename") for leaf in leaves(tree))


def _meant(value: str, saved: dict[str, list[str]], note: Note) -> Node:
    """Any of the saved searches of one name, or of all names."""
    name = typed_name(value)
    queries = saved.get(name, [])
    if not queries and name == "all":
        queries = [query for some in saved.values() for query in some]
    if not saved:
        note("You have no saved searches yet: Save, above the posts of a search, keeps one.")
    elif not queries:
        note(f"You have no saved search called {value}.{did_you_mean(nearest(name, saved))}")
    trees, found = [], 0
    for query in queries:
        try:
            conditions = without_shape(parse(query))
        except SearchError as error:
            note(f"The saved search “{query}” can't be read. {error.message}")
            continue
        found += terms(conditions)
        if found > SAVED_TERMS or any(map(_is_saved, leaves(conditions))):
            note(f"The saved search “{query}” was left out: search:{value} has too many terms, or leads to others.")
            continue
        trees.append(conditions)
    return any_of(trees)


def without_shape(tree: Node) -> Node:
    """The conditions of a search alone, without its order and limit."""
    return all_of(node for node in top(tree) if not is_shape(node))


# status:deleted


def asks_for_deleted(tree: Node) -> bool:
    """Whether a search is about more than the active posts."""
    if isinstance(tree, Not) and _status(tree.child) in ("active", "deleted"):
        return _status(tree.child) == "active"
    return _status(tree) in ("deleted", "any", "all") or any(map(asks_for_deleted, inside(tree)))


def _status(node: Node) -> str:
    is_status = isinstance(node, Metatag) and node.name in ("status", "is")
    return node.value.lower() if is_status else ""


def with_deleted(tree: Node, viewer: Viewer, note: Note) -> Sql | None:
    """What stands for the index in a search that is about deleted posts, too; None when this person sees none."""
    if viewer is None or not viewer.is_authenticated:
        note("Deleted posts are shown to the staff and to who uploaded them: sign in first.")
        return None
    posts = Post.objects.filter(status=PostStatus.DELETED).order_by("-id")
    if not getattr(viewer, "is_staff", False):
        posts = posts.filter(uploader_id=viewer.pk)
        note("Of deleted posts, you see those that you uploaded.")
    ids = list(posts.values_list("id", flat=True)[: DELETED_READ + 1])
    if len(ids) > DELETED_READ:
        note(f"Of the deleted posts, the newest {DELETED_READ:,} were searched.")
    rows = indexing.rows_for(ids[:DELETED_READ])
    deleted = Sql(
        "select d.post_id, d.tag_ids::int[] as tag_ids, d.confidences, d.rating, d.overruled::int[] as overruled,"
        " now() as updated_at from unnest(%s::bigint[], %s::text[], %s::bytea[], %s::smallint[], %s::text[])"
        " as d (post_id, tag_ids, confidences, rating, overruled)",
        (
            tuple(row.post_id for row in rows),
            tuple("{" + ",".join(map(str, row.tag_ids)) + "}" for row in rows),
            tuple(row.confidences for row in rows),
            tuple(row.rating for row in rows),
            tuple(row.overruled and "{" + ",".join(map(str, row.overruled)) + "}" for row in rows),
        ),
    )
    if any(_status(node) == "deleted" for node in top(tree)):
        return Sql(f"({deleted.text}) i", deleted.params)
    active = "select post_id, tag_ids, confidences, rating, overruled, updated_at from tag_index"
    return Sql(f"({active} union all {deleted.text}) i", deleted.params)
