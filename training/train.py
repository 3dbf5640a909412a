"""Train a tagger.

    python -m training.train RECIPE --dataset FOLDER --run FOLDER [--release FOLDER] [--set section.key=value ...]
    python -m training.train RECIPE --plan [--tags N] [--card 12GB]
    python -m training.train RECIPE --steps 50 [--tags N] [--plain]

RECIPE is a file or the name of one in training/recipes. The same command goes on with a run that was stopped.
--plan says what memory it needs, --steps measures speed and memory on made pictures; neither needs data.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tagger import release as releases
from tagger.release import ReleaseFolder
from training import config, dataset, evaluation, measure, plan
from training.config import Recipe
from training.dataset import DatasetFolder
from training.engine import free_memory
from training.feeding.material import Material, prepare
from training.network import TrainedTagger, grown_tagger, new_tagger
from training.run import RunError, RunFolder
from training.trainer import Trainer


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.train", description="Train a tagger.")
    parser.add_argument("recipe", help="a recipe file, or the name of one in training/recipes")
    parser.add_argument("--dataset", type=Path, help="dataset folder to learn from")
    # torchrun takes --run for the start of an option of its own, even behind the module's name
    parser.add_argument("--run", "--run-folder", type=Path, help="run folder to write, or to go on with")
    parser.add_argument("--release", type=Path, help="release folder to start from")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change the recipe")
    parser.add_argument("--minutes", type=float, help="time for the steps; the schedule ends with it")
    parser.add_argument("--plan", action="store_true", help="say what memory the recipe needs, and stop")
    parser.add_argument("--card", help="with --plan: whether it fits a card of so much memory, as 12GB")
    parser.add_argument("--steps", type=int, help="measure so many steps on made pictures, and stop")
    parser.add_argument("--plain", action="store_true", help="with --steps: in eager PyTorch, without DeepSpeed")
    parser.add_argument("--tags", type=int, default=70_527, help="with --plan and --steps: tags of the vocabulary")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # DeepSpeed's launcher adds it
    chosen = parser.parse_args(arguments)
    if not (chosen.plan or chosen.steps) and not (chosen.dataset and chosen.run):
        parser.error("give --dataset and --run to train, or --plan or --steps to measure")
    for name in ("minutes", "steps", "tags"):
        if (value := getattr(chosen, name)) is not None and value <= 0:
            parser.error(f"--{name} must be above 0")
    return chosen


# what a run may leave that was killed before it had written its recipe
FIRST_MADE = ("checkpoints", "cache", "samples", "state.json")


def open_run(folder: Path, recipe: Recipe, source: Path, release: ReleaseFolder | None) -> RunFolder:
    """A new run folder, or the old one when the recipe, dataset and release are the same. Raises RunError."""
    first = os.environ.get("RANK", "0") == "0"
    while not first and not (folder / "config.toml").exists():  # the first process makes the folder, this file last
        time.sleep(0.05)
    run = RunFolder(folder, writes=first)
    text = config.to_toml(recipe)
    told = {
        "recipe": recipe.name,
        "dataset": str(source.absolute()),
        "release": str(release.folder.absolute()) if release else None,
    }
    if run.config.exists():
        if run.config.read_text("utf-8") != text or any(run.state.get(key) != told[key] for key in told):
            raise RunError(f"{folder} holds a run with another recipe, dataset or release; choose a new folder.")
        return run
    if folder.exists() and any(part.name not in FIRST_MADE for part in folder.iterdir()):
        raise RunError(f"{folder} is no run folder and not empty; choose a new folder.")
    run.make()
    run.update(status="preparing", step=0, **told)
    run.write_text("config.toml", text)
    return run


def train(
    recipe: Recipe, dataset_folder: Path, run_folder: Path, release_folder: Path | None, minutes: float | None
) -> RunFolder:
    """Trains to the end and evaluates; goes on where an earlier call was stopped."""
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    release = releases.read(release_folder) if release_folder else None
    config.demand(
        release is not None or not recipe.loss.soft_spread,
        "This recipe leans on a release's opinions; give --release FOLDER, or set loss.soft_spread to 0.",
    )
    if not run_folder.exists():
        dataset.about(dataset_folder)  # a mistyped folder makes no run
    run = open_run(run_folder, recipe, dataset_folder, release)
    if run.state.get("status") == "finished":
        run.say("this run is finished; publish it, or choose a new folder")
        return run
    with run.alone():
        try:
            return learn(recipe, dataset.read(dataset_folder, run.cache / "datasets"), run, release, minutes)
        except (ValueError, OSError, FloatingPointError) as error:
            with contextlib.suppress(OSError):
                run.update(status="stopped", error=str(error))
            raise


def learn(
    recipe: Recipe, source: DatasetFolder, run: RunFolder, release: ReleaseFolder | None, minutes: float | None
) -> RunFolder:
    material = prepare(recipe, source, run, release)
    if run.state.get("status") != "trained":
        teach(recipe, material, run, release, minutes)
        free_memory()  # a card that held a training may not hold another network beside it
    if run.writes:
        evaluation.finish(run, material, recipe)
    return run


def teach(
    recipe: Recipe, material: Material, run: RunFolder, release: ReleaseFolder | None, minutes: float | None
) -> None:
    """From the start, or the last checkpoint, to the best weights in the run folder."""
    if release and not recipe.model.fresh_head:
        tagger, carried = grown_tagger(release, material.vocabulary, recipe.train.seed)
        run.say(carried.sentence)
        run.write_json("carried.json", carried.to_json())
    else:
        tagger = new_tagger(recipe, material.vocabulary, len(material.train), release)
    trainer = Trainer(recipe, material, TrainedTagger(tagger, recipe), run, minutes)
    trainer.train()
    trainer.engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parse(arguments)
    try:
        recipe = config.read(chosen.recipe, chosen.set)
        if chosen.plan:
            print(plan.text(plan.plan(recipe, chosen.tags), recipe, chosen.tags, chosen.card))
            return 0
        if chosen.steps:
            print(json.dumps(measure.measure(recipe, chosen.tags, chosen.steps, chosen.plain)))
            return 0
        train(recipe, chosen.dataset, chosen.run, chosen.release, chosen.minutes)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
