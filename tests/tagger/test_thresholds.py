import copy

import pytest

from tagger.thresholds import DEFAULT_PROFILE, MODES, ThresholdsError, check, site_profiles
from tests.tagger import releases


def test_profiles_of_a_release() -> None:
    thresholds = releases.thresholds()
    thresholds["refined"]["general"]["balanced"]["threshold"] = 0.47
    profiles = {profile.key: profile for profile in site_profiles(thresholds)}
    first = ["overall", "weighted", "category-specific", "high-precision", "high-recall"]
    assert list(profiles) == [*first, "balanced", "micro-optimised", "macro-optimised"]
    assert DEFAULT_PROFILE in profiles
    assert all(profile.name and profile.description for profile in profiles.values())
    overall = thresholds["refined"]["overall"]
    assert profiles["overall"].overall == overall["micro_opt"]["threshold"]
    assert profiles["weighted"].overall == overall["macro_opt"]["threshold"]
    assert profiles["overall"].by_category == profiles["weighted"].by_category == {}
    assert profiles["category-specific"].by_category == {"general": 0.47}
    assert profiles["category-specific"].threshold("artist") == overall["balanced"]["threshold"]
    assert profiles["high-precision"].threshold("general") == 0.9
    assert profiles["high-recall"].threshold("general") == overall["high_recall"]["threshold"]
    assert profiles["balanced"].threshold("general") == overall["balanced"]["threshold"]


def test_every_published_number_reaches_a_profile() -> None:
    """Modes by overall and by category, each with its own number; only two overall ones serve as fallback alone."""
    thresholds = {
        "refined": {
            group: {mode: {"threshold": (10 * row + column) / 100} for column, mode in enumerate(MODES)}
            for row, group in enumerate(("overall", "general", "character"))
        }
    }
    numbers = set()
    for profile in site_profiles(thresholds):
        numbers |= {profile.overall, *profile.by_category.values()}
    assert numbers == {(10 * row + column) / 100 for row in range(3) for column in range(len(MODES))}


@pytest.mark.parametrize(
    ("measured", "expected"),
    [({"precision": 0.46}, 1.0), ({"precision": 0.5}, 0.1), ({}, 0.1), ({"precision": None}, 0.1)],
)
def test_years_that_are_mostly_wrong_are_left_out_of_the_default_profile(measured: dict, expected: float) -> None:
    thresholds = {"refined": {"overall": {mode: {"threshold": 0.3} for mode in MODES}}}
    thresholds["refined"]["year"] = {mode: {"threshold": 0.1, **measured} for mode in MODES}
    thresholds["refined"]["artist"] = {mode: {"threshold": 0.2, "precision": 0.1} for mode in MODES}
    profiles = {profile.key: profile for profile in site_profiles(thresholds)}
    default = profiles.pop(DEFAULT_PROFILE)
    assert default.threshold("year") == expected and default.threshold("artist") == 0.2
    assert ("Years are left out" in default.description) is (expected == 1.0)
    assert {profile.threshold("year") for profile in profiles.values()} == {0.1, 0.3}


def test_only_published_modes_become_profiles() -> None:
    thresholds = {"refined": {"overall": {"balanced": {"threshold": 0.35}}}}
    thresholds["refined"]["character"] = {"balanced": {"threshold": 0.85}}
    profiles = {profile.key: profile for profile in site_profiles(thresholds)}
    assert list(profiles) == ["category-specific", "balanced"]
    assert profiles["category-specific"].threshold("character") == 0.85
    assert profiles["balanced"].threshold("character") == 0.35


def test_the_stage_chooses_and_an_initial_only_release_falls_back() -> None:
    thresholds = releases.thresholds()
    thresholds["initial"]["overall"]["micro_opt"]["threshold"] = 0.11
    assert site_profiles(thresholds, "initial")[0].overall == 0.11
    assert site_profiles(thresholds, "refined")[0].overall != 0.11
    assert site_profiles({"initial": thresholds["initial"]}, "refined")[0].overall == 0.11


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("refined", "overall", "balanced"), None, "lack refined / overall / balanced"),
        (("refined", "general", "balanced", "threshold"), None, "lack refined / general / balanced / threshold"),
        (("refined", "general", "balanced", "threshold"), 1.5, "between 0 and 1"),
        (("refined", "general", "balanced", "threshold"), "0.5", "between 0 and 1"),
        (("refined", "species"), {}, "unknown category 'species'"),
        (("third",), {}, "'third'"),
        (("refined", "overall"), None, "lack refined / overall"),
    ],
)
def test_a_wrong_threshold_is_named(place: tuple[str, ...], value: object, words: str) -> None:
    thresholds = copy.deepcopy(releases.thresholds())
    part = thresholds
    for key in place[:-1]:
        part = part[key]
    if value is None:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    with pytest.raises(ThresholdsError, match=words):
        check(thresholds)


@pytest.mark.parametrize("thresholds", [{}, [], {"overall": {}}])
def test_a_file_without_stages_is_refused(thresholds: object) -> None:
    with pytest.raises(ThresholdsError, match="initial or refined"):
        check(thresholds)
