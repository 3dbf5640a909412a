"""What was measured of a run as pictures in its folder; a release's card shows them too."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")  # no screen is needed

import numpy as np  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from PIL import Image  # noqa: E402

from tagger.vocabulary import Vocabulary  # noqa: E402
from training.run import RunFolder  # noqa: E402
from training.scoring import calibration, scores  # noqa: E402
from training.scoring.judging import JudgedSplit, last_stage  # noqa: E402
from training.scoring.scores import GRID, Curves  # noqa: E402

FILES = {
    "plot-thresholds.png": "F1 at every threshold",
    "plot-precision-recall.png": "Precision and recall",
    "plot-calibration.png": "Confidence and truth",
    "plot-tags.png": "F1 of each tag by how often it was learned from",
}
COLOURS = {
    "overall": "#222222", "general": "#0075f8", "artist": "#c00004", "copyright": "#a800aa",
    "character": "#00ab2c", "meta": "#fd9200", "rating": "#777777", "year": "#8a6d3b",
}  # fmt: skip
SHOWN = ("test", "validation")  # the first there is


def write(
    run: RunFolder,
    judged: Mapping[str, JudgedSplit],
    vocabulary: Vocabulary,
    thresholds: Mapping[str, Any],
    fitted: Mapping[str, Any],
) -> None:
    """The four pictures of the test split, or of validation where there is none; nothing without either."""
    name = next((name for name in SHOWN if name in judged and judged[name].pictures), None)
    if not run.writes or name is None:
        return
    split = judged[name]
    groups = {group: tags for group, tags in scores.groups(vocabulary).items() if has_truth(split, tags)}
    draw_thresholds(run.folder / "plot-thresholds.png", split, groups, last_stage(thresholds), name)
    draw_precision(run.folder / "plot-precision-recall.png", split, groups, name)
    if fitted:
        draw_calibration(run.folder / "plot-calibration.png", split, fitted["temperature"], name)
    draw_tags(run.folder / "plot-tags.png", split, vocabulary, last_stage(thresholds), name)


def has_truth(split: JudgedSplit, tags: np.ndarray) -> bool:
    return bool(split.last.histogram.positives()[tags].any())


def axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 4), dpi=100)
    area = figure.add_axes((0.1, 0.125, 0.88, 0.795))  # a layout that is found by drawing takes twice as long
    area.set(title=title, xlabel=x, ylabel=y)
    area.grid(alpha=0.25)
    return figure, area


def save(figure: Figure, file: Path) -> None:
    """Drawn once, where `savefig` draws twice; without the time and the library's version, so that the same numbers
    make the same file."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(file)


def draw_thresholds(
    file: Path, split: JudgedSplit, groups: Mapping[str, np.ndarray], thresholds: Mapping[str, Any], name: str
) -> None:
    figure, area = axes(f"F1 at every threshold ({name})", "threshold", "F1: micro —, macro ···")
    for group, tags in groups.items():
        curves, colour = Curves(split.last.histogram, tags), COLOURS[group]
        area.plot(GRID, curves.micro[1], color=colour, label=group, linewidth=1.4)
        area.plot(GRID, curves.macro, color=colour, linestyle=":", linewidth=1.2)
        chosen = thresholds.get(group, thresholds["overall"])["balanced"]["threshold"]
        area.plot([chosen], [np.interp(chosen, GRID, curves.micro[1])], "o", color=colour, markersize=4)
    area.set(xlim=(0, 1), ylim=(0, 1.02))
    area.legend(fontsize=8, title="dot: balanced", title_fontsize=8)
    save(figure, file)


def draw_precision(file: Path, split: JudgedSplit, groups: Mapping[str, np.ndarray], name: str) -> None:
    figure, area = axes(f"Precision and recall ({name})", "recall", "precision")
    for group, tags in groups.items():
        curves = Curves(split.last.histogram, tags)
        some = curves.recall > 0  # where nothing is found there is no precision
        area.plot(curves.recall[some], curves.precision[some], color=COLOURS[group], label=group, linewidth=1.4)
    area.set(xlim=(0, 1.01), ylim=(0, 1.02))
    area.legend(fontsize=8)
    save(figure, file)


def draw_calibration(file: Path, split: JudgedSplit, temperature: float, name: str) -> None:
    figure, area = axes(f"Confidence and truth ({name})", "confidence", "share that is true")
    area.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    for at, label, style in ((1.0, "as it is", "o-"), (temperature, f"temperature {temperature:g}", "s--")):
        points = calibration.curve(split.last.logits, at)
        error = calibration.expected_error(points)
        x, y = [p["confidence"] for p in points], [p["true"] for p in points]
        area.plot(x, y, style, markersize=4, linewidth=1.4, label=f"{label}, error {error:.3f}")
    area.set(xlim=(0, 1), ylim=(0, 1))
    area.legend(fontsize=8)
    save(figure, file)


def draw_tags(file: Path, split: JudgedSplit, vocabulary: Vocabulary, thresholds: Mapping[str, Any], name: str) -> None:
    figure, area = axes(f"F1 of each tag ({name})", "pictures it was learned from", "F1 at the balanced threshold")
    bins = scores.threshold_bins(vocabulary, thresholds, "balanced")
    right, wrong, positives = split.last.cells.at(bins).counts()
    f1, counts = scores.f_score(right, wrong, positives), np.maximum(vocabulary.counts, 1)
    for category, tags in scores.groups(vocabulary).items():
        tags = tags[positives[tags] > 0]
        if category != "overall" and len(tags):
            area.scatter(counts[tags], f1[tags], s=9, color=COLOURS[category], alpha=0.6, label=category, linewidths=0)
    area.set(xscale="log", ylim=(-0.02, 1.02))
    area.legend(fontsize=8)
    save(figure, file)
