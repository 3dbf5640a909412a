"""How good a run's best weights are, split by split, and the thresholds its release will have.

    python -m training.evaluation RUN [--dataset FOLDER]

Thresholds are chosen on the validation split alone. Where it is too small, or holds verdicts instead of complete tags
(people judge what they were shown, so those cells are no sample), the start release's thresholds are kept.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tagger import release as releases
from tagger.model import CamieTagger
from tagger.release import ReleaseFolder
from tagger.vocabulary import Vocabulary
from training import config, dataset
from training.engine import own_device
from training.feeding.feed import Feed, chunks
from training.feeding.material import FEWEST_TO_CHOOSE_BY, Material, Part, prepare
from training.network import TrainedTagger, architecture_of
from training.run import RunError, RunFolder, read_json
from training.scoring import calibration, judging, plots, scores, tables
from training.scoring.judging import HEADLINE, JudgedSplit, last_stage
from training.scoring.scores import Histogram

Thresholds = dict[str, Any]
KEPT_STATE = [
    "recipe",
    "release",
    "steps",
    "step",
    "epochs",
    "epoch",
    "elapsed",
    "best",
    "pictures",
    "parameters",
    "notes",
]


def confidences(network: TrainedTagger, feed: Feed, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Both stages' confidences for some rows, float32 [B, tags]; one stage for an initial-only tagger."""
    return {stage: calibration.sigmoid(found) for stage, found in judging.logits(network, feed, rows).items()}


def histograms(network: TrainedTagger, feed: Feed) -> dict[str, Histogram]:
    counted: dict[str, Histogram] = {}
    for rows in chunks(len(feed.part)):
        truth, known = feed.part.targets.known(rows)
        for stage, found in confidences(network, feed, rows).items():
            counted.setdefault(stage, Histogram(found.shape[1])).add(found, truth, known)
    return counted


# at the end of a run


def best_network(run: RunFolder, recipe: config.Recipe, tags: int) -> TrainedTagger:
    """A run's best weights as they were written, in full precision, on a card where there is one."""
    release: ReleaseFolder | None = releases.read(run.state["release"]) if run.state.get("release") else None
    tagger = CamieTagger(architecture_of(recipe, release, tags))
    tagger.load_state_dict(run.best_weights())
    return TrainedTagger(tagger, recipe).to(own_device(), memory_format=torch.channels_last)


def finish(run: RunFolder, material: Material, recipe: config.Recipe) -> dict[str, Any]:
    """Judges the best weights on every split but train; writes thresholds.json and metrics.json."""
    network = best_network(run, recipe, len(material.vocabulary))
    device = network.tagger.temperature.device
    judged = {
        name: judging.judge(network, Feed(part, material, recipe, network, device))
        for name, part in material.parts.items()
        if name != "train"
    }
    thresholds = settle_thresholds(run, material, judged, network, recipe)
    splits = {name: judging.report(split, material.vocabulary, thresholds) for name, split in judged.items()}
    metrics: dict[str, Any] = {"run": about_run(run, material), "splits": splits}
    if not material.train.targets.complete.all():
        metrics["verdicts"] = verdicts(network, material, recipe, thresholds)
        run.say(
            "verdicts met by the start release and now: {before} and {after} of {cells}".format(**metrics["verdicts"])
        )
    if (run.folder / "baselines.json").exists():
        metrics["baselines"] = read_json(run.folder / "baselines.json")
    metrics["calibration"] = calibrate(run, judged) if material.held_out() >= FEWEST_TO_CHOOSE_BY else {}
    run.write_json("thresholds.json", thresholds)
    run.write_json("metrics.json", metrics)
    tables.write(run, metrics, judged, material.vocabulary, thresholds)
    plots.write(run, judged, material.vocabulary, thresholds, metrics["calibration"])
    for name, found in splits.items():
        run.say(f"{name}: {sentence_of(last_stage(found)[HEADLINE])}")
    run.update(status="finished")
    return metrics


def sentence_of(measures: dict[str, dict[str, float]]) -> str:
    return "  ".join(f"{group} {m['micro_f1']:.3f}/{m['macro_f1']:.3f}" for group, m in measures.items() if m["tags"])


def about_run(run: RunFolder, material: Material) -> dict[str, Any]:
    about = {name: run.state[name] for name in KEPT_STATE if name in run.state}
    told = {name: material.about.get(name) for name in ("name", "source", "licence", "filters")}
    release = Path(about["release"]).name if about.get("release") else None
    return about | {"release": release, "tags": len(material.vocabulary), "dataset": told}


def settle_thresholds(
    run: RunFolder,
    material: Material,
    judged: dict[str, JudgedSplit],
    network: TrainedTagger,
    recipe: config.Recipe,
) -> Thresholds:
    complete = material.held_out()
    if complete >= FEWEST_TO_CHOOSE_BY:
        chosen_on = judged["validation"].histograms()
    elif run.state.get("release"):
        run.note(f"The validation split has {complete} complete pictures, so the start release's thresholds are kept.")
        return releases.read(run.state["release"]).thresholds
    elif complete:
        run.note(f"The thresholds are chosen on only {complete} validation pictures.")
        chosen_on = judged["validation"].histograms()
    else:
        run.note("There is no validation split, so the thresholds come from the training pictures: do not trust them.")
        feed = Feed(material.train, material, recipe, network, network.tagger.temperature.device)
        chosen_on = histograms(network, feed)
    return {stage: scores.choose(histogram, material.vocabulary) for stage, histogram in chosen_on.items()}


def calibrate(run: RunFolder, judged: dict[str, JudgedSplit]) -> dict[str, Any]:
    """The temperature of the last stage, fitted on the validation split, and each split's error with and without it;
    the curves go into calibration.json."""
    temperature = calibration.fit_temperature(judged["validation"].last.logits)
    reports = {name: calibration.report(split.last.logits, temperature) for name, split in judged.items()}
    run.write_json("calibration.json", {"temperature": temperature, "splits": reports})
    errors = {name: {k: v for k, v in found.items() if "error" in k} for name, found in reports.items()}
    return {"temperature": temperature, **errors}


def category_thresholds(thresholds: Thresholds, vocabulary: Vocabulary, mode: str = "balanced") -> np.ndarray:
    """The site's default threshold of each tag, float [tags]."""
    stage = last_stage(thresholds)
    return np.array(
        [(stage.get(category) or stage["overall"])[mode]["threshold"] for category in vocabulary.categories]
    )


def verdicts(
    network: TrainedTagger, material: Material, recipe: config.Recipe, thresholds: Thresholds
) -> dict[str, int]:
    """Of the cells that people judged: how many the start release's predictions met, and how many the run's do."""
    least = category_thresholds(thresholds, material.vocabulary)
    total = dict.fromkeys(("cells", "before", "after"), 0)
    for part in material.parts.values():
        feed = Feed(part, material, recipe, network, network.tagger.temperature.device)
        for rows in chunks(len(part)):
            rows = rows[~part.targets.complete[rows]]
            if not len(rows):
                continue
            truth, known = part.targets.known(rows)
            found = last_stage(confidences(network, feed, rows))
            total["cells"] += int(known.sum())
            total["before"] += int((known & ((predicted(part, rows) >= least) == truth)).sum())
            total["after"] += int((known & ((found >= least) == truth)).sum())
    return total


def predicted(part: Part, rows: np.ndarray) -> np.ndarray:
    """What the people who judged were shown, float32 [B, tags]; 0 where nothing was."""
    shown = np.zeros((len(rows), part.targets.tags), dtype=np.float32)
    positions, tags = part.targets.predicted.cells(rows)
    shown[positions, tags] = part.targets.confidences.cells(rows)[1]
    return shown


def open_run(
    folder: Path, dataset_folder: Path | str | None, trained: bool = True
) -> tuple[RunFolder, config.Recipe, Material]:
    """A run, its recipe and its material. Raises RunError, also for one that should be `trained` and is not."""
    run = RunFolder(folder)
    if not (run.config.exists() and run.state):
        raise RunError(f"{folder} is no run folder; train into it first.")
    if trained and run.state["status"] not in ("trained", "finished"):
        raise RunError(f"{folder} was not trained to its end; the command that began it goes on with it.")
    recipe = config.read(run.config)
    source = dataset.read(dataset_folder or run.state["dataset"], run.cache / "datasets")
    release: ReleaseFolder | None = releases.read(run.state["release"]) if run.state.get("release") else None
    return run, recipe, prepare(recipe, source, run, release)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.evaluation", description="Judge a run's best weights.")
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--dataset", help="another dataset folder than the run's own")
    chosen = parser.parse_args(arguments)
    try:
        run, recipe, material = open_run(chosen.run, chosen.dataset)
        with run.alone():
            finish(run, material, recipe)
    except (ValueError, OSError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
