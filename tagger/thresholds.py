"""A release's thresholds in the published Camie layout, and the profiles a site makes of them.

`thresholds.json`: stage (initial, refined), then "overall" or a category, then mode, then at least "threshold";
beside it whatever was measured there: micro_f1, macro_f1, precision, recall. Only overall / balanced must be there:
other people's taggers often publish no more, and a profile is made only of a mode that was published.

How the published app's words map onto modes and profiles:

    its mode          here, one number for all tags    here, a number for each category
    Balanced          balanced                         category-specific (the site's default)
    Micro Optimized   overall                          micro-optimised
    Macro Optimized   weighted                         macro-optimised
    High Precision    -                                high-precision
    High Recall       -                                high-recall

The seed app names five profiles: Overall, Weighted, Category-specific, High precision and High recall. They keep their
keys here; a category that lacks a mode takes that mode's overall number.

The default profile leaves years out where the release itself measured that they are wrong more often than right:
what year a picture is from can seldom be seen, and a wrong year on every post helps nobody. Other profiles show them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tagger.vocabulary import CATEGORIES

STAGES = ("initial", "refined")
MODES = ("balanced", "high_precision", "high_recall", "micro_opt", "macro_opt")
DEFAULT_PROFILE = "category-specific"
_NEVER = 1.0  # no confidence reaches it; what a person says yes to is on all the same

Thresholds = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]


class ThresholdsError(ValueError):
    """A sentence saying which threshold is missing or wrong."""


@dataclass(frozen=True)
class SiteProfile:
    key: str
    name: str
    description: str
    overall: float
    by_category: dict[str, float] = field(default_factory=dict)

    def threshold(self, category: str) -> float:
        return self.by_category.get(category, self.overall)


@dataclass(frozen=True)
class Recipe:
    """How one site profile is made: from which mode, and whether each category has its own number."""

    key: str
    name: str
    description: str
    mode: str
    by_category: bool


RECIPES = (
    Recipe(
        "overall", "Overall", "One threshold for every tag, best over all tags of all pictures.", "micro_opt", False
    ),
    Recipe(
        "weighted", "Weighted", "One threshold for every tag, best when each tag weighs the same.", "macro_opt", False
    ),
    Recipe("category-specific", "Category-specific", "A balanced threshold for each category.", "balanced", True),
    Recipe("high-precision", "High precision", "Fewer tags, and those rarely wrong.", "high_precision", True),
    Recipe("high-recall", "High recall", "More tags, some of them wrong.", "high_recall", True),
    Recipe("balanced", "Balanced", "One threshold for every tag, between precision and recall.", "balanced", False),
    Recipe(
        "micro-optimised",
        "Micro optimised",
        "For each category the threshold best over all its tags.",
        "micro_opt",
        True,
    ),
    Recipe(
        "macro-optimised",
        "Macro optimised",
        "For each category the threshold best when each tag weighs the same.",
        "macro_opt",
        True,
    ),
)


def check(thresholds: Any) -> None:
    """Raises ThresholdsError unless each stage has its overall balanced number and every number is one."""
    if not isinstance(thresholds, Mapping) or not any(stage in thresholds for stage in STAGES):
        raise ThresholdsError("Thresholds need a part named initial or refined.")
    for stage, groups in thresholds.items():
        if stage not in STAGES or not isinstance(groups, Mapping):
            raise ThresholdsError(f"Thresholds have the part {stage!r}; only initial and refined are known.")
        for group, modes in groups.items():
            if group != "overall" and group not in CATEGORIES:
                raise ThresholdsError(f"Thresholds of the {stage} stage have the unknown category {group!r}.")
            for mode in modes:
                _number(thresholds, stage, group, mode)
        _number(thresholds, stage, "overall", "balanced")


def site_profiles(thresholds: Thresholds, stage: str = "refined") -> list[SiteProfile]:
    """Profiles of the modes that were published, in the order shown.

    A release without thresholds of this stage gives those of the other.
    """
    check(thresholds)
    stage = stage if stage in thresholds else next(iter(thresholds))
    return [_profile(thresholds, stage, recipe) for recipe in RECIPES if recipe.mode in thresholds[stage]["overall"]]


def _profile(thresholds: Thresholds, stage: str, recipe: Recipe) -> SiteProfile:
    by_category: dict[str, float] = {}
    if recipe.by_category:
        groups = thresholds[stage]
        having = [category for category in CATEGORIES if recipe.mode in groups.get(category, {})]
        by_category = {category: _number(thresholds, stage, category, recipe.mode) for category in having}
    description = recipe.description
    if recipe.key == DEFAULT_PROFILE and _years_mislead(thresholds[stage].get("year", {}).get(recipe.mode, {})):
        by_category["year"] = _NEVER
        description += " Years are left out: the tagger has them wrong more often than right."
    overall = _number(thresholds, stage, "overall", recipe.mode)
    return SiteProfile(recipe.key, recipe.name, description, overall, by_category)


def _years_mislead(measured: Mapping[str, Any]) -> bool:
    precision = measured.get("precision")
    return isinstance(precision, int | float) and precision < 0.5


def _number(thresholds: Thresholds, stage: str, group: str, mode: str) -> float:
    """One threshold between 0 and 1; anything else is a sentence that names its place."""
    try:
        value = thresholds[stage][group][mode]["threshold"]
    except (KeyError, IndexError, TypeError) as error:
        raise ThresholdsError(f"Thresholds lack {stage} / {group} / {mode} / threshold.") from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ThresholdsError(f"The threshold {stage} / {group} / {mode} is {value!r}; it must be between 0 and 1.")
    return float(value)
