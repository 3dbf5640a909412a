"""Which tags and which posts are kept: the filter of the published Camie run, in its order.

1. Tags with too few posts are dropped. 2. Posts with too few of the tags that are left are dropped. The minima below
are the published run's. Both passes read the metadata a batch at a time; what is held is a count for each tag, then
two numbers for each kept post.
"""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.images import Images
from training.data.metadata import CATEGORIES, Metadata, TagLists, column, either
from training.data.progress import Progress

TAG_MINIMA = {"general": 20, "artist": 200, "copyright": 50, "character": 40, "meta": 50}
POST_MINIMA = {"general": 25, "artist": 0, "copyright": 1, "character": 1, "meta": 0}
MOVING = ("mp4", "webm", "zip", "swf", "ugoira")
Kept = Mapping[str, pa.Array]  # names by category


@dataclass(frozen=True)
class Rules:
    tag_minima: Mapping[str, int] = field(default_factory=lambda: dict(TAG_MINIMA))
    post_minima: Mapping[str, int] = field(default_factory=lambda: dict(POST_MINIMA))
    skip_deleted: bool = False


@dataclass(frozen=True)
class TagCount:
    """Of one category: names before and after step 1, and how often they stand on posts."""

    names: int
    kept: int
    uses: int
    kept_uses: int


def count_tags(metadata: Metadata, progress: Progress) -> dict[str, Counter[str]]:
    """On how many posts each tag of each category stands."""
    counts: dict[str, Counter[str]] = {category: Counter() for category in CATEGORIES}
    for first, table in metadata.batches([f"tag_string_{category}" for category in CATEGORIES]):
        for category, counter in counts.items():
            found = pc.value_counts(TagLists(table, category).values)
            counter.update(dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)))
        progress.at(first + len(table))
    return counts


def frequent(
    counts: Mapping[str, Counter[str]], minima: Mapping[str, int]
) -> tuple[dict[str, pa.Array], dict[str, TagCount]]:
    """Step 1: names that are kept, sorted, and what that drops."""
    kept, told = {}, {}
    for category, counter in counts.items():
        names = sorted(name for name, count in counter.items() if count >= minima.get(category, 0))
        kept[category] = pa.array(names, pa.string())
        uses = sum(counter[name] for name in names)
        told[category] = TagCount(len(counter), len(names), counter.total(), uses)
    return kept, told


@dataclass(frozen=True)
class Candidates:
    """Posts that pass: their row in the metadata and their number, int64 each, in the metadata's order."""

    rows: np.ndarray
    ids: np.ndarray
    dropped: dict[str, int]  # by why, in the order of the tests; each post counts once


def choose_posts(metadata: Metadata, kept: Kept, rules: Rules, images: Images, progress: Progress) -> Candidates:
    """Step 2, and then the posts that have a picture here."""
    rows, ids = array("q"), array("q")
    dropped: Counter[str] = Counter(dict.fromkeys(reasons(rules), 0))
    columns = ["id", "md5", "file_ext", "is_deleted", "is_banned", "media_asset.file_ext", "media_asset.md5"]
    for first, table in metadata.batches([*columns, *(f"tag_string_{category}" for category in CATEGORIES)]):
        left = np.ones(len(table), dtype=bool)
        numbers = pc.fill_null(pc.cast(column(table, "id"), pa.int64()), -1).to_numpy(zero_copy_only=False)
        for reason, passes in tests(table, numbers, kept, rules, images):
            if left.any():
                found = passes(left) if callable(passes) else passes
                dropped[reason] += int((left & ~found).sum())
                left &= found
        rows.extend((first + np.flatnonzero(left)).tolist())
        ids.extend(numbers[left].tolist())
        progress.at(first + len(table))
    row_array, id_array = np.array(rows, dtype=np.int64), np.array(ids, dtype=np.int64)
    once = np.sort(np.unique(id_array, return_index=True)[1])
    dropped[TWICE] = len(id_array) - len(once)
    return Candidates(row_array[once], id_array[once], dict(dropped))


MOVES = "is a video or an animation in a zip file"
DELETED = "is deleted or banned"
NO_PICTURE = "has no picture under the images folder"
TWICE = "stands in the metadata twice"


def too_few(category: str, least: int) -> str:
    return f"has fewer than {least} {category} tags"


def reasons(rules: Rules) -> list[str]:
    few = [too_few(category, least) for category, least in rules.post_minima.items() if least]
    return [*([DELETED] if rules.skip_deleted else []), MOVES, *few, NO_PICTURE, TWICE]


def tests(table: pa.Table, numbers: np.ndarray, kept: Kept, rules: Rules, images: Images):  # noqa: ANN201
    """(why, bool [rows] or a function of the rows that are left that gives it), in order."""
    if rules.skip_deleted:
        yield DELETED, ~(flags(table, "is_deleted") | flags(table, "is_banned"))
    extension = either(table, "file_ext", "media_asset.file_ext")
    if extension is not None:
        moving = pc.is_in(pc.utf8_lower(extension), value_set=pa.array(MOVING))
        yield MOVES, ~pc.fill_null(moving, False).to_numpy(zero_copy_only=False)
    for category, least in rules.post_minima.items():
        if least:
            lengths = TagLists(table, category).kept(kept[category]).lengths()
            yield too_few(category, least), lengths >= least

    def pictured(left: np.ndarray) -> np.ndarray:
        found = np.zeros(len(left), dtype=bool)
        found[left] = images.find(numbers[left], hashes(table, left)) >= 0
        return found

    yield NO_PICTURE, pictured


def hashes(table: pa.Table, chosen: np.ndarray) -> list[str | None] | None:
    """md5 of the chosen rows; None when the metadata has none."""
    found = either(table, "md5", "media_asset.md5")
    return found.filter(pa.array(chosen)).to_pylist() if found is not None else None


def flags(table: pa.Table, name: str) -> np.ndarray:
    found = column(table, name)
    if found is None:
        return np.zeros(len(table), dtype=bool)
    return pc.fill_null(found, False).to_numpy(zero_copy_only=False).astype(bool)


def pick(candidates: Candidates, count: int | None, how: str, seed: int) -> np.ndarray:
    """Places in `candidates` of the newest (highest numbers) or of random ones, ascending; all without a count."""
    everything = np.arange(len(candidates.ids))
    if not count or count >= len(everything):
        return everything
    if how == "random":
        return np.sort(np.random.RandomState(seed).permutation(len(everything))[:count])
    return np.sort(np.argsort(candidates.ids, kind="stable")[-count:])


def hold_out(count: int, share: float, seed: int) -> np.ndarray:
    """bool [count]: the validation split, as scikit-learn's train_test_split draws it for the same seed."""
    held = np.zeros(count, dtype=bool)
    if share and count > 1:
        held[np.random.RandomState(seed).permutation(count)[: int(np.ceil(count * share))]] = True
    return held


def named(values: Sequence[str], minima: Mapping[str, int]) -> dict[str, int]:
    """`general=20 character=40` over the published minima. Raises ValueError with a sentence."""
    found = dict(minima)
    for value in values:
        category, equals, number = value.partition("=")
        if category not in CATEGORIES or not equals or not number.isdigit():
            raise ValueError(f"{value!r} is no minimum; write one as general=20, for {', '.join(CATEGORIES)}.")
        found[category] = int(number)
    return found
