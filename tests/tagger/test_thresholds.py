import copy

import pytest

from tagger.thresholds import DEFAULT_PROFILE, ThresholdsError, check, site_profiles
from tests.tagger import releases


def test_five_profiles_of_a_release() -> None:
    thresholds = releases.thresholds()
    thresholds["refined"]["general"]["balanced"]["threshold"] = 0.47
    profiles = {profile.key: profile for profile in site_profiles(thresholds)}
    assert list(profiles) == ["overall", "weighted", "category-specific", "high-precision", "high-recall"]
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


def test_the_stage_chooses_and_an_initial_only_release_falls_back() -> None:
    thresholds = releases.thresholds()
    thresholds["initial"]["overall"]["micro_opt"]["threshold"] = 0.11
    assert site_profiles(thresholds, "initial")[0].overall == 0.11
    assert site_profiles(thresholds, "refined")[0].overall != 0.11
    assert site_profiles({"initial": thresholds["initial"]}, "refined")[0].overall == 0.11


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("refined", "overall", "micro_opt"), None, "lack refined / overall / micro_opt"),
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
