"""How good releases are on the same pictures of a dataset, and how sure it is that one is better.

    python -m training.compare RELEASE [RELEASE ...] --dataset FOLDER [--split test] [--mode balanced]

Each release is judged at its own thresholds, on the first one's tags: of a tag that a later one lacks it finds none.
Intervals are the middle 95 % over bootstrap samples of subjects; a difference is sure when its interval is all above 0.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tagger import release as releases
from tagger.model import CamieTagger
from tagger.release import ReleaseFolder
from tagger.thresholds import MODES
from tagger.vocabulary import Vocabulary
from training import dataset
from training.dataset import DatasetFolder
from training.feeding import pictures, targets
from training.feeding.feed import chunks
from training.network import Normalise, folded
from training.scoring import calibration, judging, outcomes, scores
from training.scoring.judging import Judged, JudgedSplit
from training.scoring.outcomes import Outcomes
from training.scoring.tables import to_markdown

BATCH = 64


@dataclass(frozen=True)
class Sample:
    """Pictures of one split that releases are judged on; `cache` keeps what is computed of them."""

    split: Any
    rows: list[dict[str, Any]]
    index: np.ndarray
    cache: Path
    folder: Path

    @classmethod
    def of(cls, source: DatasetFolder, name: str, cache: Path) -> "Sample":
        if name not in source.splits:
            raise dataset.DatasetError(f"{source.folder} has no split {name}; it has {', '.join(source.splits)}.")
        rows = dataset.labels(source.splits[name])
        return cls(source.splits[name], rows, np.arange(len(rows)), cache, source.folder)

    def part(self, index: np.ndarray) -> "Sample":
        return Sample(self.split, [self.rows[i] for i in index], self.index[index], self.cache, self.folder)


def load(release: ReleaseFolder) -> CamieTagger:
    if release.architecture is None:
        raise releases.ReleaseError(f"The release {release.name} is no model of ours; it can't be judged here.")
    tagger = CamieTagger(release.architecture)
    stored = releases.load_weights(release)
    tagger.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    return tagger.eval()


@torch.inference_mode()
def features(release: ReleaseFolder, tagger: CamieTagger, sample: Sample) -> Tensor:
    """What the backbone makes of the sample's split, float32 [rows, size]; kept by backbone and pictures, since
    releases that were tuned behind it share it. Raises DatasetError for a picture that cannot be read."""
    file = sample.cache / f"features-{fingerprint(tagger, release, sample)}.npy"
    if not file.exists():
        normalise = Normalise(release.preprocess.mean, release.preprocess.std, torch.device("cpu"))
        network = folded(tagger.backbone.features)
        source = pictures.Source(sample.split, release.preprocess, sample.folder)
        found = [tagger.pool(network(normalise(normalise.unit(batch)))) for batch in decoded(source)]
        np.save(file, torch.cat(found).numpy())
    return torch.from_numpy(np.load(file)[sample.index])


def decoded(source: pictures.Source) -> Iterator[Tensor]:
    """All pictures in order, uint8 [B, size, size, 3] each."""
    with ThreadPoolExecutor(pictures.cores()) as pool:
        for rows in chunks(len(source), BATCH):
            found = list(pool.map(source.decode, map(int, rows)))
            if broken := next((one for one in found if isinstance(one, str)), None):
                raise dataset.DatasetError(broken)
            yield torch.from_numpy(np.stack(found))


def fingerprint(tagger: CamieTagger, release: ReleaseFolder, sample: Sample) -> str:
    digest = hashlib.blake2b(repr(release.preprocess).encode(), digest_size=8)
    digest.update(pictures.fingerprint(sample.split, release.preprocess).encode())
    for tensor in tagger.backbone.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.inference_mode()
def judge(release: ReleaseFolder, sample: Sample, vocabulary: Vocabulary) -> JudgedSplit:
    """The release's scores of the sample's pictures, in the columns of `vocabulary`."""
    tagger = load(release)
    found = features(release, tagger, sample)
    truths = targets.build(sample.rows, vocabulary)
    ours = np.array([i for i, name in enumerate(vocabulary.names) if name in release.vocabulary], dtype=np.int64)
    theirs = np.array([release.vocabulary.index(vocabulary.names[i]) for i in ours], dtype=np.int64)
    split = JudgedSplit(len(sample.rows), [row["group"] for row in sample.rows])
    for rows in chunks(len(sample.rows)):
        truth, known = truths.known(rows)
        initial, refined = tagger.head(found[torch.from_numpy(rows)])
        stages = {"initial": initial} | ({} if refined is initial else {"refined": refined})
        for stage, logits in stages.items():
            values = np.full(truth.shape, -calibration.LIMIT, dtype=np.float32)
            values[:, ours] = logits.numpy()[:, theirs]
            split.stages.setdefault(stage, Judged(len(vocabulary))).add(values, truth, known)
    return split


def outcome(release: ReleaseFolder, split: JudgedSplit, vocabulary: Vocabulary, mode: str) -> Outcomes:
    """The last stage at the release's own thresholds of a mode, each category at its own."""
    thresholds = judging.last_stage(release.thresholds)
    return split.last.cells.at(scores.threshold_bins(vocabulary, thresholds, mode))


def compare(folders: Sequence[Path], sample: Sample, mode: str) -> list[str]:
    """Tables in Markdown: each release's numbers, then what each later one differs from the first."""
    found = [releases.read(folder) for folder in folders]
    vocabulary = found[0].vocabulary
    groups = scores.groups(vocabulary)
    judged = [judge(release, sample, vocabulary) for release in found]
    at = [outcome(release, split, vocabulary, mode) for release, split in zip(found, judged, strict=True)]
    units = judged[0].units
    lines = table([release.name for release in found], at, groups, units)
    for release, later in zip(found[1:], at[1:], strict=True):
        lines += ["", f"{release.name} minus {found[0].name}:", ""]
        lines += difference_table(outcomes.differences(at[0], later, groups, units), at[0], later, groups)
    return lines


def measured(outcome: Outcomes, tags: np.ndarray) -> Mapping[str, float]:
    return scores.measures(*(counts[tags] for counts in outcome.counts()))


def table(names: Sequence[str], at: Sequence[Outcomes], groups: outcomes.Groups, units: np.ndarray) -> list[str]:
    rows = []
    for name, one in zip(names, at, strict=True):
        for group, sure in outcomes.intervals(one, groups, units).items():
            numbers = measured(one, groups[group])
            cells = [f"{numbers[key]:.3f} ({sure[key][0]:.3f} to {sure[key][1]:.3f})" for key in sure]
            rows.append((name, group, *cells, f"{numbers['precision']:.3f}", f"{numbers['recall']:.3f}"))
    return to_markdown(("release", "tags", "micro F1", "macro F1", "precision", "recall"), rows)


def difference_table(
    sure: Mapping[str, Mapping[str, outcomes.Interval]], before: Outcomes, after: Outcomes, groups: outcomes.Groups
) -> list[str]:
    rows = []
    for group, intervals in sure.items():
        first, second = measured(before, groups[group]), measured(after, groups[group])
        if first["positives"]:
            cells = [
                f"{second[key] - first[key]:+.3f} ({low:+.3f} to {high:+.3f})" for key, (low, high) in intervals.items()
            ]
            rows.append((group, *cells))
    return to_markdown(("tags", "micro F1", "macro F1"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.compare", description="Judge releases side by side.")
    parser.add_argument("release", nargs="+", type=Path, help="release folders; the first one's tags are judged")
    parser.add_argument("--dataset", required=True, type=Path, help="the dataset folder")
    parser.add_argument("--split", default="test", help="its split (default: test)")
    parser.add_argument("--mode", default="balanced", choices=MODES, help="thresholds by category (default: balanced)")
    parser.add_argument("--cache", type=Path, help="folder for decoded pictures; a temporary one unless given")
    chosen = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            cache = chosen.cache or Path(temporary)
            cache.mkdir(parents=True, exist_ok=True)
            sample = Sample.of(dataset.read(chosen.dataset, cache / "datasets"), chosen.split, cache)
            print("\n".join(compare(chosen.release, sample, chosen.mode)))
    except (ValueError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
