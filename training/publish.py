"""Make a release folder of a finished run.

python -m training.publish RUN --out FOLDER --name starter --title "starter (clipart)" --licence CC-BY-SA-4.0
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tagger import release as releases
from tagger.release import ReleaseFolder
from tagger.vocabulary import Vocabulary
from training import card, config, picturing
from training.network import architecture_of
from training.run import RunError, RunFolder, read_json
from training.scoring import plots


def publish(
    run_folder: Path,
    out: Path,
    name: str,
    title: str,
    licence: str,
    credits_file: Path | None = None,
    replace: bool = False,
) -> ReleaseFolder:
    """Half-precision weights of the run's best epoch, with its thresholds, metrics and card. Raises RunError."""
    run = RunFolder(run_folder)
    if run.state.get("status") != "finished":
        raise RunError(f"{run_folder} is not a finished run; train it to its end first.")
    if credits_file and not credits_file.is_file():
        raise RunError(f"There is no file {credits_file} to take the credits from.")
    recipe = config.read(run.config)
    vocabulary = Vocabulary.read(run.vocabulary)
    start = releases.read(run.state["release"]) if run.state.get("release") else None
    architecture = architecture_of(recipe, start, len(vocabulary))
    preprocess = start.preprocess if start else recipe.data.preprocess()
    metrics = read_json(run.folder / "metrics.json")
    if (run.folder / "baselines.json").exists():
        metrics["baselines"] = read_json(run.folder / "baselines.json")
    drawn = {file: title for file, title in plots.FILES.items() if (run.folder / file).exists()}
    credits = {"CREDITS.md": credits_file} if credits_file else start_credits(start)
    kept = (
        {key: start.config[key] for key in ("score_floor", "max_predictions", "exclusive_categories")} if start else {}
    )
    made = releases.write(
        out,
        config={
            "name": name,
            "title": title,
            "licence": licence,
            "architecture": architecture.to_config(),
            "preprocess": preprocess.to_config(),
            **kept,
        },
        weights=run.best_weights(),
        vocabulary=vocabulary,
        thresholds=read_json(run.folder / "thresholds.json"),
        metrics=metrics,
        card=card.write(metrics, vocabulary, title, licence, preprocess.size, drawn),
        extra_files={**credits, **{file: run.folder / file for file in drawn}},
        replace=replace,
    )
    picturing.add_pictures(made.folder, run)
    return made


def start_credits(start: ReleaseFolder | None) -> dict[str, str | bytes | Path]:
    """A fine-tuned release owes its start release's credits too."""
    file = start.folder / "CREDITS.md" if start else None
    return {"CREDITS.md": file} if file and file.exists() else {}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.publish", description="Make a release of a finished run.")
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--out", required=True, type=Path, help="the release folder to write")
    parser.add_argument("--name", required=True, help="short name: letters, digits, dots, dashes, underscores")
    parser.add_argument("--title", help="name for people; the short name if left out")
    parser.add_argument("--licence", default="", help="licence of the weights, as CC-BY-SA-4.0")
    parser.add_argument("--credits", type=Path, help="file that becomes the release's CREDITS.md")
    parser.add_argument("--replace", action="store_true", help="take the place of a release folder that exists")
    chosen = parser.parse_args(arguments)
    title = chosen.title or chosen.name
    try:
        made = publish(chosen.run, chosen.out, chosen.name, title, chosen.licence, chosen.credits, chosen.replace)
    except (ValueError, OSError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 1
    print(f"{made.folder}: {len(made.vocabulary)} tags, {made.weights_file.stat().st_size / 1e6:.1f} MB of weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
