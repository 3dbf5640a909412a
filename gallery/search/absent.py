"""Names that Danbooru knows and this site has nothing for: they find nothing, harmlessly."""

# ruff: noqa: SIM905 (one name a line would hide the table)
_COUNTED = frozenset(
    """
    comment deleted_comment active_comment note deleted_note active_note flag
    pool deleted_pool active_pool series_pool collection_pool appeal approval replacement disapproval
    """.split()
)
_PEOPLE = frozenset(
    """
    approver commenter comm noter noteupdater artcomm commentaryupdater flagger appealer upvote downvote fav
    ordfav reacted disapproved
    """.split()
)
_OTHERS = frozenset(
    """
    pixelhash pixiv_id pixiv embedded duration exif score upvotes downvotes favcount ordpool
    favgroup ordfavgroup note comment commentary pool
    """.split()
)
_COUNTS = {f"{name}_count" for name in _COUNTED} | {f"{name}s" for name in _COUNTED}
ABSENT_METATAGS = _PEOPLE | _OTHERS | _COUNTS
# `order:score` and the like: newest first, with a note.
ABSENT_ORDERS = _COUNTS | frozenset(
    """
    score upvotes downvotes favcount comment comment_bumped note artcomm duration disapproved rank modqueue
    """.split()
)
