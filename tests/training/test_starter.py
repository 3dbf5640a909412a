"""The starter's data: exact avatars, subjects kept apart, tags worth having."""

from io import BytesIO

import pytest
from PIL import Image

from training.starter import emoji, packages
from training.starter.avatars import avatars, part_tags
from training.starter.clipart import artist_tag, folder_tags, series
from training.starter.colors import color_name, hair_color
from training.starter.rendering import RenderError, fit, render
from training.starter.splitting import fraction, near_copies, split
from training.starter.vocabulary import choose, general_tags

STYLES = ("sprouts", "personas")


def drawn(seed: int = 3) -> list[dict[str, object]]:
    return list(avatars(4, seed, 64, STYLES))


def test_avatars_are_the_same_for_the_same_seed() -> None:
    assert drawn() == drawn()
    assert {row["md5"] for row in drawn()}.isdisjoint(row["md5"] for row in drawn(4))


def test_an_avatar_row_has_its_picture_tags_and_rights() -> None:
    row = drawn()[1]
    image = Image.open(BytesIO(row["image"]["bytes"]))
    assert max(image.size) == 64 and image.mode == "RGB"
    assert row["tags_copyright"] == ["dicebear_personas"] and row["tags_artist"] == ["draftbit"]
    assert {"person", "portrait"} <= set(row["tags_general"])
    assert "CC BY 4.0" in row["source"] and row["licence"] == "CC BY 4.0"
    assert row["complete"] and row["rating"] is None and row["group"] != drawn()[3]["group"]


def test_parts_give_only_tags_that_are_drawn() -> None:
    options = {
        "hairVariant": "bobBangs",
        "eyesVariant": "variant07",
        "glassesVariant": "round",
        "hairColor": ["#101010"],
    }
    assert part_tags(options) == {"bob_cut", "short_hair", "glasses", "round_eyewear", "black_hair"}
    assert "black_hair" not in part_tags(options | {"hairVariant": "bald"})


@pytest.mark.parametrize(("code", "name"), [("#ff0000", "red"), ("#1d5dff", "blue"), ("#ffffff", "white")])
def test_colours_have_their_common_names(code: str, name: str) -> None:
    assert color_name(code) == name


def test_pale_yellow_hair_is_blonde() -> None:
    assert hair_color("#e9b729") == "blonde_hair"


def rows_of(count: int, family: str = "noto") -> list[dict[str, object]]:
    """Grey squares of different brightness: three drawings a subject."""
    made = []
    for number in range(count):
        encoded = BytesIO()
        Image.new("L", (16, 16), number * 255 // count).save(encoded, "PNG")
        made.append(
            {"image": {"bytes": encoded.getvalue()}, "md5": str(number), "group": f"s{number // 3}", "family": family}
        )
    return made


def test_no_subject_is_in_training_and_in_a_judged_split() -> None:
    rows = rows_of(3000, family="comicgen")
    names = split(rows, style=None)
    groups = {name: {row["group"] for row, split in zip(rows, names, strict=True) if split == name} for name in names}
    assert not groups["test"] & groups["train"] and not groups["validation"] & groups["train"]
    assert not groups["test"] & (groups["validation"] | groups["seen"])
    assert 0.10 < names.count("test") / 3000 < 0.14 and groups["seen"] & groups["train"]


def test_a_style_left_out_is_never_trained_on() -> None:
    rows = rows_of(60, family="comicgen") + rows_of(60, family="fluent-emoji-flat")
    names = split(rows, style="fluent-emoji-flat")
    assert set(names[60:]) == {"style"} and "style" not in names[:60]


def test_a_judged_near_copy_of_a_training_picture_is_found() -> None:
    rows = rows_of(2)
    assert near_copies([rows[0], rows[0] | {"group": "other"}], ["train", "test"]) == [1]
    assert near_copies(rows, ["train", "test"]) == []


def test_the_share_of_a_subject_never_changes() -> None:
    assert fraction("emoji cat face") == fraction("emoji cat face") != fraction("emoji dog face")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("man running", "woman running: facing right"),
        ("three o’clock", "nine-thirty"),
        ("red heart", "blue heart"),
        ("person: red hair", "woman: white hair"),
        ("up arrow", "down arrow"),
        ("full moon", "first quarter moon"),
    ],
)
def test_near_copies_among_emoji_are_one_subject(one: str, other: str) -> None:
    assert emoji.subject_group(one) == emoji.subject_group(other)


def test_different_flags_and_animals_are_different_subjects() -> None:
    assert emoji.subject_group("flag: France") != emoji.subject_group("flag: Japan")
    assert emoji.subject_group("cat face") != emoji.subject_group("dog face")


def test_numbered_clipart_is_one_subject(tmp_path) -> None:
    assert series(tmp_path / "jigsaw_blue_01.svg") == series(tmp_path / "jigsaw_blue_12.svg")
    assert series(tmp_path / "cat.svg") != series(tmp_path / "dog.svg")


def test_clipart_folders_and_creators_become_tags() -> None:
    assert folder_tags("animals/mammals/dogs") == ["dog", "mammal", "animal"]
    assert artist_tag("Gerald G.") == "gerald_g" and artist_tag("Anonymous") == ""


def test_slang_and_filing_words_are_no_tags_and_synonyms_are_one() -> None:
    assert general_tags(["143", "ily", "unsorted", "Beverage", "drink", "ice cream"]) == ["drink", "ice_cream"]


def test_rare_tags_are_dropped_and_a_name_has_one_category() -> None:
    rows = [
        {"tags_general": ["cat", "odd", *(["rare"] if n < 5 else [])], "tags_artist": ["cat"], "group": f"s{n // 3}"}
        for n in range(24)
    ]
    for row in rows:
        row["tags_general"] = row["tags_general"] if row["group"] in {"s0", "s1"} else ["cat"]
    rows += [{"tags_general": ["cat"], "tags_artist": [], "group": "s99"}]
    assert choose(rows, ("general", "artist")) == {"general": {"cat": 25}, "artist": {}}


def test_an_empty_drawing_is_refused_and_a_drawing_is_cut_to_its_box() -> None:
    with pytest.raises(RenderError, match="empty"):
        fit(Image.new("RGBA", (50, 50)), 32)
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h4v4h-4z" fill="#f00"/></svg>'
    square = fit(render(svg, 90), 32)
    assert square.size == (32, 32) and square.getpixel((16, 16)) == (255, 0, 0)


def test_a_missing_program_is_a_sentence_with_the_remedy(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(packages.PackageError, match="install Node.js"):
        packages.check()
