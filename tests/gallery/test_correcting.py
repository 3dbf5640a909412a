import pytest

from gallery import correcting
from gallery.correcting import BadTag
from gallery.index import indexing
from gallery.models import Category, Tag, TagAlias, TagImplication, TagIndex, Verdict
from gallery.profiles import Thresholds
from tests.gallery.making import make_post, make_release, make_tag, make_user, predict


@pytest.fixture
def post(db):
    return make_post()


def test_a_verdict_keeps_who_and_what_they_saw(post):
    hat, cat, release, user = make_tag("hat"), make_tag("cat"), make_release(), make_user()
    before = correcting.record(post, cat, True, user)
    assert (before.release, before.confidence) == (None, None)
    predict(post, release, {hat: 0.5})
    verdict = correcting.record(post, hat, False, user)
    assert (verdict.release, verdict.confidence, verdict.user, verdict.origin) == (release, 127, user, "person")
    unseen = correcting.record(post, cat, True, user, origin="import")
    assert (unseen.pk, unseen.release, unseen.confidence, unseen.origin) == (before.pk, release, None, "import")
    row = TagIndex.objects.get(post=post)
    assert (row.tag_ids, bytes(row.confidences)) == ([cat.id], b"\0\xff")


def test_a_name_typed_with_loose_accents_is_the_composed_one(post):
    tag = correcting.add(post, "Cafe\u0301 Table", make_user())
    assert tag.name == "caf\u00e9_table"
    assert correcting.add(post, "caf\u00e9_table", make_user()) == tag


def test_undo_brings_the_prediction_back(post):
    hat, release, user = make_tag("hat"), make_release(), make_user()
    predict(post, release, {hat: 0.5})
    correcting.record(post, hat, True, user)
    correcting.record(post, hat, False, user)
    assert Verdict.objects.get().answer is False
    correcting.undo(post, hat, user)
    assert not Verdict.objects.exists()
    assert bytes(TagIndex.objects.get(post=post).confidences) == b"\0\x7f"
    correcting.undo(post, hat, user)


def test_one_yes_among_ratings(post):
    safe, explicit = (make_tag(f"rating_{name}", Category.RATING) for name in ("general", "explicit"))
    correcting.record(post, safe, True, None)
    correcting.record(post, explicit, True, None)
    assert list(Verdict.objects.values_list("tag_id", "answer")) == [(explicit.id, True)]
    correcting.record(post, safe, False, None)
    assert Verdict.objects.count() == 2


@pytest.mark.parametrize(
    ("text", "name", "category"),
    [
        ("Long  Hair ", "long_hair", Category.GENERAL),
        ("artist:Some One", "some_one", Category.ARTIST),
        ("char:reimu", "reimu", Category.CHARACTER),
        (":3", ":3", Category.GENERAL),
        ("re:zero", "re:zero", Category.GENERAL),
        ("rating:explicit", "rating_explicit", Category.RATING),
        ("rating:s", "rating_sensitive", Category.RATING),
        ("year:2021", "year_2021", Category.YEAR),
        ("year_2021", "year_2021", Category.YEAR),
        ("existing", "existing", Category.META),
        ("artist:existing", "existing", Category.META),
        ("other_name", "existing", Category.META),
    ],
)
def test_typed_tags(post, text, name, category):
    existing = make_tag("existing", Category.META)
    TagAlias.objects.create(name="other_name", tag=existing)
    tag = correcting.add(post, text, None)
    assert (tag.name, tag.category) == (name, category)
    assert TagIndex.objects.get(post=post).tag_ids == [tag.id]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "artist:",
        "-hat",
        "~hat",
        "a*b",
        "a,b",
        "a\x00b",
        "x" * 201,
        "rating:nice",
        "rating:",
        "year:21",
        "100%",
    ],
)
def test_bad_tags_are_refused(post, text):
    with pytest.raises(BadTag):
        correcting.add(post, text, None)
    assert not Tag.objects.exists()


def test_a_verdict_on_an_alias_is_one_on_its_tag(post):
    cat, feline = make_tag("cat"), make_tag("feline")
    TagAlias.objects.create(name="feline", tag=cat)
    assert correcting.record(post, feline, True, None).tag == cat


def test_tags_of_a_post(post):
    who, hat, cat, animal, no, own = (
        make_tag(name, category)
        for name, category in [
            ("who", Category.CHARACTER),
            ("hat", Category.GENERAL),
            ("cat", Category.GENERAL),
            ("animal", Category.GENERAL),
            ("no", Category.GENERAL),
            ("own", Category.ARTIST),
        ]
    )
    TagImplication.objects.create(tag=cat, implied=animal)
    predict(post, make_release(), {who: 0.9, hat: 0.2, cat: 0.6, no: 0.8})
    indexing.rebuild([post.pk])
    correcting.record(post, no, False, None)
    correcting.record(post, own, True, None)
    shown = correcting.tags_of(post, Thresholds(127))
    assert [(t.tag.name, t.confidence, t.on, t.verdict, t.implied) for t in shown] == [
        ("own", None, True, True, False),
        ("who", 228, True, None, False),
        ("animal", 152, True, None, True),
        ("cat", 152, True, None, False),
        ("hat", 50, False, None, False),
        ("no", 203, False, False, False),
    ]


def test_a_verdict_given_under_an_alias_shows_on_its_tag_and_can_be_taken_back(post):
    smile, smiling, user = make_tag("smile"), make_tag("smiling"), make_user()
    correcting.record(post, smiling, True, user)
    TagAlias.objects.create(name="smiling", tag=smile)
    indexing.rebuild([post.pk])
    [found] = correcting.tags_of(post, Thresholds(overall=127))
    assert (found.tag, found.on, found.verdict, found.implied) == (smile, True, True, False)
    correcting.undo(post, smile, user)
    assert not Verdict.objects.exists()
    assert not correcting.tags_of(post, Thresholds(overall=127))
