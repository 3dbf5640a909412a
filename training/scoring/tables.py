"""What was measured of a run as tables in its folder: report.md for reading, CSV for everything else.

report.md            every split: modes, categories, intervals, selection, calibration
scores.csv           split, stage, mode, group and their measures
tags-<split>.csv     each tag that occurs in the split: its measures at the balanced threshold, average precision
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tagger.thresholds import MODES
from tagger.vocabulary import Vocabulary
from training.run import RunFolder
from training.scoring import calibration, scores
from training.scoring.judging import HEADLINE, JudgedSplit, last_stage

SITE_MODE = "balanced"  # each category at its own: the site's default profile
SCORE_COLUMNS = ("split", "stage", "mode", "group", "micro_f1", "macro_f1", "precision", "recall", "positives", "tags")
TAG_COLUMNS = (
    "name", "category", "trained_on", "positives", "threshold", "precision", "recall", "f1", "average_precision",
)  # fmt: skip
NAMES = {"micro_f1": "micro F1", "macro_f1": "macro F1"}
Row = Sequence[Any]


def write(
    run: RunFolder,
    metrics: Mapping[str, Any],
    judged: Mapping[str, JudgedSplit],
    vocabulary: Vocabulary,
    thresholds: Mapping[str, Any],
) -> None:
    run.write_text("scores.csv", to_csv(SCORE_COLUMNS, score_rows(metrics)))
    for name, split in judged.items():
        run.write_text(f"tags-{name}.csv", to_csv(TAG_COLUMNS, tag_rows(split, vocabulary, last_stage(thresholds))))
    run.write_text("report.md", report(metrics))


def to_csv(columns: Row, rows: Iterable[Row]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([columns, *rows])
    return file.getvalue()


def score_rows(metrics: Mapping[str, Any]) -> Iterable[Row]:
    for split, found in metrics["splits"].items():
        for stage in ("initial", "refined"):
            for mode, groups in found.get(stage, {}).items():
                for group, numbers in groups.items():
                    yield split, stage, mode, group, *(numbers[column] for column in SCORE_COLUMNS[4:])


def tag_rows(split: JudgedSplit, vocabulary: Vocabulary, thresholds: Mapping[str, Any]) -> Iterable[Row]:
    """Tags of the split by category, the most frequent first."""
    bins = scores.threshold_bins(vocabulary, thresholds, SITE_MODE)
    right, wrong, positives = split.last.cells.at(bins).counts()
    precision = scores.ratio(right, right + wrong)
    recall, f1 = scores.ratio(right, positives), scores.f_score(right, wrong, positives)
    average = calibration.average_precision(split.last.logits)
    order = {category: number for number, category in enumerate(scores.groups(vocabulary))}
    tags = [tag for tag in range(len(vocabulary)) if positives[tag]]
    for tag in sorted(tags, key=lambda tag: (order[vocabulary.categories[tag]], -positives[tag])):
        measured = (scores.GRID[bins[tag]], precision[tag], recall[tag], f1[tag], average[tag])
        counts = (vocabulary.counts[tag], int(positives[tag]))
        yield vocabulary.names[tag], vocabulary.categories[tag], *counts, *(f"{number:.4f}" for number in measured)


def to_markdown(columns: Sequence[str], rows: Iterable[Row]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    return lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]


def report(metrics: Mapping[str, Any]) -> str:
    lines = [f"# {metrics['run'].get('recipe', 'A run')}: what was measured", ""]
    lines += ["Thresholds are chosen on the validation split alone. Intervals: 95 %, by bootstrap over subjects."]
    for name, split in metrics["splits"].items():
        lines += ["", f"## {name} ({split['pictures']} pictures)", "", *interval_table(split)]
        for stage in ("refined", "initial"):
            if stage in split:
                lines += ["", f"### {stage} stage, micro F1 / macro F1 by mode", "", *mode_table(split[stage])]
        if "selection" in split:
            lines += ["", "### Tags selected by the first stage", ""]
            lines += to_markdown(
                ("measure", "value"), [(k.replace("_", " "), v) for k, v in split["selection"].items()]
            )
    return "\n".join([*lines, *calibration_part(metrics.get("calibration") or {})]) + "\n"


def interval_table(split: Mapping[str, Any]) -> list[str]:
    """The last stage, each category at its best threshold, with how sure it is."""
    rows = []
    for group, numbers in last_stage(split)[HEADLINE].items():
        if group in split["intervals"]:
            sure = split["intervals"][group]
            cells = [f"{numbers[key]:.3f} ({sure[key][0]:.3f} to {sure[key][1]:.3f})" for key in NAMES]
            average = split["average_precision"].get(group, 0.0)
            rest = (f"{numbers['precision']:.3f}", f"{numbers['recall']:.3f}", f"{average:.3f}")
            rows.append((group, *cells, *rest, numbers["tags"]))
    return to_markdown(("tags", *NAMES.values(), "precision", "recall", "mean average precision", "tags seen"), rows)


def mode_table(stage: Mapping[str, Any]) -> list[str]:
    groups = [group for group, numbers in stage[HEADLINE].items() if numbers["tags"]]
    rows = [
        (group, *(f"{stage[mode][group]['micro_f1']:.3f} / {stage[mode][group]['macro_f1']:.3f}" for mode in MODES))
        for group in groups
    ]
    return to_markdown(("tags", *(mode.replace("_", " ") for mode in MODES)), rows)


def calibration_part(found: Mapping[str, Any]) -> list[str]:
    if not found:
        return []
    rows = [
        (name, errors["error"], errors["error_at_temperature"])
        for name, errors in found.items()
        if isinstance(errors, Mapping)
    ]
    lines = ["", "## Calibration", "", f"Fitted temperature: {found['temperature']} (1: confidences as they are). "]
    lines += ["Mean distance of confidence and truth over predictions of 0.1 and more:", ""]
    return lines + to_markdown(("split", "as it is", "with the temperature"), rows)
