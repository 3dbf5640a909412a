from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from gallery.search.absent import ABSENT_METATAGS
from gallery.search.fields import MAX_LIMIT
from gallery.search.names import WILDCARD_TAGS
from gallery.search.nodes import WILDCARD_TERMS
from gallery.search.orders import ONE_WAY, TWO_WAYS
from gallery.search.parser import MAX_DEPTH, MAX_TERMS

_LIMITS = (
    f"A search has at most {MAX_TERMS} terms beside order: and limit:, in groups at most {MAX_DEPTH} deep, a wildcard"
    f" counts as {WILDCARD_TERMS} and stands for the {WILDCARD_TAGS} most used tags that match, a page shows at most"
    f" {MAX_LIMIT} posts, and a search may take three seconds. Whatever is cut is said above the posts."
)

# Title, a note, and (example, what it finds).
SECTIONS: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "Terms",
        _LIMITS,
        [
            ("1girl long_hair", "posts with both tags; and between them says the same"),
            ("-long_hair", "posts without it"),
            ("cat or dog", "either; binds weaker than the space"),
            ("~cat ~dog ~bird", "at least one of those marked"),
            ("(cat or dog) -(indoors night)", "groups"),
            ("*_hair", "any tag that ends so"),
            ('tag:"or"', "a tag whose name would mean something else"),
            ('wildcard:"*fate)"', "such a name with * in it: here the ) would close a group"),
        ],
    ),
    (
        "Who says so",
        "",
        [
            ("ai:smile", "the tagger gave it 50% or more, whatever people and profiles say"),
            ("ai:smile,>90%", "more than 90%; 70..80, <20% and 0 for not at all work, too"),
            ("human:smile", "a person said yes"),
            ("rejected:smile", "a person said no"),
            ("ai:smile -human:smile -rejected:smile", "predicted, and nobody looked yet"),
            ("human:smile -ai:smile", "what the tagger missed"),
            ("judge:any", "somebody judged a tag; judge:name for one person"),
            ("judged:today", "when that was, as date: is written; tagged: is when a release tagged it"),
            ("verdicts:>=3", "so many verdicts"),
            ("verdict:none", "nobody judged any tag; also yes, no, any, seed, import"),
            ("smile profile:high-recall", "by another profile, for this search or its group"),
            ("(smile profile:high-recall) -(smile profile:high-precision)", "what one profile adds to another"),
            ("release:none", "posts that no release has tagged; or a release's name"),
        ],
    ),
    (
        "About the post",
        "Numbers take 5, >=5, <5, 5..10 (both ends in), 5...10 (the last out), ..5 and lists as 5,7..9.",
        [
            ("rating:general,sensitive", "rating: g, s, q, e, or none"),
            ("is:sfw -is:animated", "also nsfw, parent, child, deleted, and every file type"),
            ("id:1..100", "by number"),
            ("width:>=1920 height:>=1080", "in pixels"),
            ("ratio:16:9", "width by height"),
            ("mpixels:>2", "millions of pixels"),
            ("filesize:1mb..4mb", "b, kb, mb; one size alone matches what is near"),
            ("filetype:png", "jpg png gif webp avif"),
            ("similar:1", "the 100 posts most like post 1, the most alike first; near copies before all"),
            ("similar:1,>50% rating:general", "only those so alike; other terms narrow it further"),
            ("date:2024-01", "the upload: a day, a month, a year, 31_jan_2024, today, yesterday, 2024-01-31T12:30"),
            ("change:today", "the last change of its tags"),
            ("age:<2w", "s mi h d w mo y"),
            ("user:none", "who uploaded it; uploader: is the same"),
            ("source:https://", "beginning so, with * anywhere; none, any"),
            ("credit:*cc0*", "artist and licence, likewise; filename: of your own uploads"),
            ("has:source", "that there is one; also credit, verdicts, parent, children"),
            ("parent:any", "versions of another post; parent:123 is post 123 and its versions; child: the other way"),
            ("status:deleted", "your own, or all for the staff; also active, any"),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", "the file; or its sha256:"),
            ("tagcount:<5", "tags on; gentags arttags copytags chartags metatags yeartags count one category"),
            ("search:all", "what your saved searches find; search:name for one of them"),
        ],
    ),
    (
        "The list",
        f"Orders: {', '.join(TWO_WAYS)}, each with _asc or _desc if you like, and {', '.join(ONE_WAY)}.",
        [
            ("order:id", "oldest first"),
            ("smile order:filesize", "largest first"),
            ("order:random", "shuffled; its pages keep the order"),
            ("order:custom id:3,1,2", "as listed"),
            ("limit:20", "posts on a page"),
            ("random:5", "so many of them, picked by chance"),
            ("random:5 randseed:7", "the same of them each time; randseed:7 order:random keeps an order, too"),
        ],
    ),
]


@require_safe
def search_help(request: HttpRequest) -> HttpResponse:
    """The whole grammar by examples."""
    absent = " ".join(f"{name}:" for name in sorted(ABSENT_METATAGS))
    return render(request, "browse/help.html", {"sections": SECTIONS, "absent": absent})
