"""Train a tagger.

    python -m training.train RECIPE --dataset FOLDER --run FOLDER [--release FOLDER] [--set section.key=value ...]

RECIPE is a file or the name of one in training/recipes. The same command goes on with a run that was stopped.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from tagger import release as releases
from tagger.release import ReleaseFolder
from training import config, dataset, evaluation
from training.config import Recipe
from training.material import prepare
from training.network import TrainedTagger, grown_tagger, new_tagger
from training.run import RunError, RunFolder
from training.trainer import Trainer


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.train", description="Train a tagger.")
    parser.add_argument("recipe", help="a recipe file, or the name of one in training/recipes")
    parser.add_argument("--dataset", required=True, type=Path, help="dataset folder to learn from")
    parser.add_argument("--run", required=True, type=Path, help="run folder to write, or to go on with")
    parser.add_argument("--release", type=Path, help="release folder to start from")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change the recipe")
    parser.add_argument("--minutes", type=float, help="time for the steps; the schedule ends with it")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # DeepSpeed's launcher adds it
    return parser.parse_args(arguments)


def open_run(folder: Path, recipe: Recipe, source: Path, release: ReleaseFolder | None) -> RunFolder:
    """A new run folder, or the old one when the recipe, dataset and release are the same. Raises RunError."""
    run = RunFolder(folder, writes=os.environ.get("RANK", "0") == "0")
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
    if folder.exists() and any(folder.iterdir()):
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
    run = open_run(run_folder, recipe, dataset_folder, release)
    if run.state.get("status") == "finished":
        run.say("this run is finished; publish it, or choose a new folder")
        return run
    source = dataset.read(dataset_folder, run.cache / "datasets")
    material = prepare(recipe, source, run, release)
    if release:
        tagger = grown_tagger(release, material.vocabulary, recipe.train.seed)
    else:
        tagger = new_tagger(recipe, material.vocabulary, len(material.train))
    network = TrainedTagger(tagger, recipe)
    if run.state.get("status") != "trained":
        trainer = Trainer(recipe, material, network, run, minutes)
        trainer.train()
        network = trainer.network
        trainer.engine.close()
    if run.writes:
        evaluation.finish(run, material, network, recipe)
    return run


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parse(arguments)
    try:
        recipe = config.read(chosen.recipe, chosen.set)
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
