"""A release's card, filled from what was measured: what it is, what it learned from, how good it is, what it cannot."""

from collections.abc import Mapping
from typing import Any

from tagger.vocabulary import Vocabulary
from training.scoring.judging import HEADLINE, last_stage

FEW = 20  # tags of a category that are named
Metrics = Mapping[str, Any]


def write(
    metrics: Metrics,
    vocabulary: Vocabulary,
    title: str,
    licence: str,
    size: int,
    plots: Mapping[str, str] | None = None,
) -> str:
    """Markdown. `size` is the side of the pictures the model sees; `plots` are titles by file in the release folder."""
    parts = [
        f"# {title}",
        opening(metrics["run"], vocabulary, size),
        data_part(metrics["run"], vocabulary),
        quality_part(metrics),
        plots_part(plots),
        verdict_part(metrics),
        limits_part(metrics, vocabulary),
        f"## Licence\n\n{licence or 'None was stated'}. Credits are in CREDITS.md where the sources ask for them.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def opening(run: Mapping[str, Any], vocabulary: Vocabulary, size: int) -> str:
    start = f", from the release {run['release']}," if run.get("release") else ""
    minutes = max(run.get("elapsed", 0) / 60, 0.1)
    best = run.get("best") or {}
    return (
        f"A two-stage tagger for {len(vocabulary)} tags, {run.get('parameters', 0) / 1e6:.2f} million parameters, for "
        f"pictures of {size} x {size} pixels. Trained by the recipe `{run['recipe']}`{start} for {run.get('epoch', 0)} "
        f"epochs in {minutes:.1f} minutes; the weights are those after epoch {best.get('epoch')}."
    )


def data_part(run: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    told = run["dataset"]
    counts = ", ".join(f"{name} {count}" for name, count in run.get("pictures", {}).items())
    lines = ["## Data", "", f"Dataset: {told.get('name')}. Pictures: {counts}."]
    lines += [f"Source: {told['source']}."] if told.get("source") else []
    lines += [f"Licence of the pictures: {told['licence']}."] if told.get("licence") else []
    by_category = {c: vocabulary.categories.count(c) for c in dict.fromkeys(vocabulary.categories)}
    lines += ["", "| category | tags | the most frequent |", "|---|--:|---|"]
    for category, count in by_category.items():
        tags = sorted(vocabulary.indices_of(category), key=lambda tag: -vocabulary.counts[tag])[:FEW]
        names = ", ".join(vocabulary.names[tag] for tag in tags).replace("|", "\\|")  # "|_|" is a tag
        lines.append(f"| {category} | {count} | {names} |")
    return "\n".join(lines)


def quality_part(metrics: Metrics) -> str:
    if not metrics["splits"]:
        return "## Quality\n\nNot measured: the dataset had no pictures to hold out."
    lines = [
        "## Quality",
        "",
        "Micro F1 / macro F1, each category at its own threshold, chosen on the validation split alone. Macro is the "
        "mean over tags that occur in the split. The interval is the middle 95 % of micro F1 over bootstrap samples of "
        "subjects; mAP is the mean average precision of a tag.",
    ]
    for name, split in metrics["splits"].items():
        lines += ["", *split_table(name, split, metrics.get("baselines", {}))]
    if calibration := metrics.get("calibration"):
        lines += ["", calibration_sentence(calibration)]
    return "\n".join(lines)


def calibration_sentence(found: Mapping[str, Any]) -> str:
    errors = [f"{name} {split['error']:.3f}" for name, split in found.items() if isinstance(split, Mapping)]
    return (
        f"Confidences of 0.1 and more are off the truth by, on average: {', '.join(errors)}. "
        f"The temperature that fits them best on the validation split is {found['temperature']:g} (1 is no change)."
    )


def plots_part(plots: Mapping[str, str] | None) -> str:
    return "\n\n".join(f"![{title}]({file})" for file, title in (plots or {}).items())


def split_table(name: str, split: Mapping[str, Any], baselines: Mapping[str, Any]) -> list[str]:
    """One split: a row for each category, a column for each stage and baseline."""
    stages = {stage: split[stage][HEADLINE] for stage in ("refined", "initial") if stage in split}
    others = {title: found[name] for title, found in baselines.items() if name in found}
    columns = {**stages, **others}
    lead = last_stage(split)[HEADLINE]
    lines = [f"### {name} ({split['pictures']} pictures)", ""]
    lines.append(f"| tags | {' | '.join(columns)} | interval | precision | recall | mAP |")
    lines.append("|---" * (len(columns) + 5) + "|")
    for group, numbers in lead.items():
        if numbers["tags"]:
            cells = [pair(column.get(group)) for column in columns.values()]
            cells += [
                span(split.get("intervals", {}).get(group)),
                *(f"{numbers[k]:.3f}" for k in ("precision", "recall")),
            ]
            average = split.get("average_precision", {}).get(group)
            lines.append(f"| {group} | {' | '.join(cells)} | {'-' if average is None else f'{average:.3f}'} |")
    return lines


def span(intervals: Mapping[str, Any] | None) -> str:
    return "{:.3f} to {:.3f}".format(*intervals["micro_f1"]) if intervals else "-"


def pair(numbers: Mapping[str, float] | None) -> str:
    return f"{numbers['micro_f1']:.3f} / {numbers['macro_f1']:.3f}" if numbers else "-"


def verdict_part(metrics: Metrics) -> str:
    found = metrics.get("verdicts")
    if not found or not found["cells"]:
        return ""
    return (
        f"## Corrections\n\nPeople judged {found['cells']} tags. What they had been shown agreed with "
        f"{found['before']} of their verdicts; this release agrees with {found['after']}. "
        "Most of these pictures it has learned from."
    )


def limits_part(metrics: Metrics, vocabulary: Vocabulary) -> str:
    lines = ["## What it cannot do", ""]
    lines.append("- It knows only its own tags, and pictures like those it learned from: a strange style costs much.")
    if "rating" not in vocabulary.categories:
        lines.append("- It predicts no rating: its data has none. Pictures stay unrated until a person rates them.")
    if "year" in vocabulary.categories:
        lines.append("- A year is mostly not visible in a picture; take it as a guess at the style's age.")
    if "artist" in vocabulary.categories:
        lines.append("- An artist tag means a likeness to pictures seen under that name, not who made the picture.")
    lines += [f"- {note}" for note in metrics["run"].get("notes", [])]
    return "\n".join(lines)
