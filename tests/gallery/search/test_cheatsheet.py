"""Danbooru's cheat sheet, metatag by metatag: each works, or finds nothing and says why."""

from __future__ import annotations

import pytest

from gallery import search
from gallery.models import Release
from gallery.profiles import Thresholds
from tests.gallery.making import make_site_profiles
from tests.gallery.search.world import World, make_world

HALF = Thresholds(127)

WORKING = """
    user:anna user:any user:none id:5 id:>5 id:1,2,3 md5:d41d8cd98f00b204e9800998ecf8427e rating:g rating:safe
    rating:g,s rating:questionable status:active status:any status:all parent:5 parent:any parent:none parent:active
    child:any child:none child:5 child:deleted source:none source:https://a source:*example* is:parent is:child is:sfw
    is:nsfw is:active is:jpg is:explicit has:parent has:children has:child has:source filetype:png filetype:jpg,gif
    width:100 height:>=100 mpixels:<1 ratio:16:9 ratio:16/9 ratio:1.78 filesize:1.5mb filesize:>200kb tagcount:>0
    gentags:1..5 arttags:0 copytags:<2 chartags:0 metatags:0 child_count:0 children:>0 active_children:0
    deleted_children:0 date:2024-01-31 date:>2024-01 date:2024-01-01..2024-02-01 age:<2w age:1d..3y age:2mi ai:solo
    ai:solo,>90% ai:solo,70..80 ai:solo,<20% ai:solo,0 unaliased:blue_hair limit:5 random:3 order:id order:id_desc
    order:md5 order:created_at order:change order:mpixels order:filesize order:tagcount order:gentags_asc
    order:portrait order:landscape order:random order:custom order:none order:child_count order:width_asc
    is:g is:s is:q is:e is:safe date:20240131 date:31_January_2024 date:Jan_31_2024 date:2024-01-31T12:30
    order:active_child_count order:deleted_children_asc
""".split()  # noqa: SIM905
OURS = (
    """
    similar:5 similar:5,>50% judge:anna judge:any judge:none judged:2024-02 judged:>2024-01-01 tagged:2024-01..2024-03
    change:today verdicts:>0 verdict_count:2 verdict:yes verdict:seed human:solo rejected:solo release:starter
    credit:by* credit:none filename:x sha256:"""
    + "0" * 64
    + """ yeartags:1 has:credit has:verdicts is:tagged
    uploader:anna search:all profile:strict order:verdicts order:verdict_count_asc order:yeartags order:random_5
    randseed:7 wildcard:*_hair
"""
)
NOT_HERE = """
    approver:x commenter:x comm:any noter:x noteupdater:x artcomm:x commentaryupdater:x flagger:x appealer:x upvote:x
    downvote:x fav:x ordfav:x reacted:x disapproved:x pixelhash:x pixiv_id:5 pixiv:any embedded:true duration:>5
    exif:Model score:>5 upvotes:1 downvotes:1 favcount:>1 comment_count:1 comments:1 deleted_comments:1
    active_comment_count:1 notes:1 note_count:1 flags:1 pools:1 series_pools:1 collection_pool_count:1 appeals:1
    approvals:1 replacements:1 disapprovals:1 pool:any pool:5 pool:*x* ordpool:5 favgroup:x ordfavgroup:x note:x
    comment:x commentary:true
""".split()  # noqa: SIM905
HARMLESS = """
    status:pending status:flagged status:appealed status:banned status:modqueue status:unmoderated is:pending
    is:wiki_image has:appeals has:flags has:replacements has:comments has:commentary has:notes has:pools
    filetype:mp4 filetype:webm,swf is:zip parent:pending
""".split()  # noqa: SIM905
NOT_ORDERED = """
    order:score order:score_asc order:upvotes order:downvotes order:favcount order:comment order:comment_bumped_asc
    order:note order:artcomm order:duration order:disapproved order:rank order:modqueue order:comment_count order:notes
    order:pool_count_asc
""".split()  # noqa: SIM905


@pytest.fixture
def world(db) -> World:
    return make_world(40)


def test_what_is_stored_is_searched(world, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    make_site_profiles(Release.objects.get(), strict=0.9)
    for text in (*WORKING, *OURS.split()):
        page = search.find(text, HALF)
        assert not [note for note in page.notes if "keeps nothing" in note], text
        assert search.count(text, HALF).exact, text


def test_what_is_not_stored_finds_nothing_and_says_so(world):
    for text in NOT_HERE:
        page = search.find(text, HALF)
        assert page.post_ids == [] and "This site keeps nothing" in page.notes[0], text
        assert len(search.find(f"-{text}", HALF).post_ids) == 40, text
        assert search.find(f"solo or {text}", HALF).post_ids == search.find("solo", HALF).post_ids, text


def test_what_no_post_can_be_finds_nothing(world):
    for text in HARMLESS:
        page = search.find(text, HALF)
        assert page.post_ids == [] and "This site keeps nothing that" in page.notes[0], text
        assert len(search.find(f"-{text}", HALF).post_ids) == 40, text
    assert search.find("filetype:jpg,mp4", HALF).post_ids == search.find("filetype:jpg", HALF).post_ids != []


@pytest.mark.parametrize(("text", "listed"), [("is:x", "animated"), ("has:x", "children"), ("status:x", "deleted")])
def test_only_what_can_be_found_is_told_to_a_mistake(text, listed):
    with pytest.raises(search.SearchError, match=f"{listed}.*[.]$") as raised:
        search.parse(text)
    absent = {each.partition(":")[2] for each in HARMLESS} - {"mp4", "webm,swf"}
    assert not [word for word in absent if f" {word}" in raised.value.message]


def test_what_cannot_be_ordered_by_says_so(world):
    for text in NOT_ORDERED:
        page = search.find(text, HALF)
        assert page.post_ids == search.find("", HALF).post_ids and "newest first instead" in page.notes[0], text


def test_a_post_is_found_with_its_children(world):
    child = next(post for post in world.posts if post.parent)
    family = {post.id for post in world.posts if child.parent in (post.id, post.parent)}
    assert set(search.find(f"parent:{child.parent}", HALF).post_ids) == family
    assert search.find(f"child:{child.id}", HALF).post_ids == [child.parent]
    with pytest.raises(search.SearchError, match="Did you mean deleted"):
        search.parse("parent:deletd")


@pytest.mark.parametrize("order", ["random_7", "custom id:9,3,6", "tagcount", "child_count_asc", "ratio", "change"])
def test_previous_and_next_follow_every_order(world, order):
    listed = search.find(f"order:{order}", HALF, limit=99).post_ids
    for place in (0, len(listed) // 2, len(listed) - 1):
        before = listed[place - 1] if place else None
        after = listed[place + 1] if place + 1 < len(listed) else None
        assert search.neighbours(f"order:{order}", HALF, listed[place])[:2] == (before, after)


@pytest.mark.parametrize("order", ["random_7", "tagcount", "id", "filesize_asc"])
def test_numbered_pages_are_the_parts_of_the_list(world, order):
    listed = search.find(f"order:{order}", HALF, limit=99).post_ids
    for number in range(1, 8):
        page = search.find(f"order:{order}", HALF, limit=7, page=number)
        assert page.post_ids == listed[(number - 1) * 7 : number * 7]
        assert bool(page.next) == (number * 7 < len(listed)) and bool(page.previous) == (1 < number < 7)
