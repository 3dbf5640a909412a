"""How fast pictures are tagged, beside two peers: `python -m tests.benchmarks.tagging` (`make bench-tagging`).

Camie v1's full architecture with random weights at 512 pixels; JPEG files in, tags out. All engines take turns in one
process, one thread each; what counts is CPU time, so that other work on the machine disturbs little. Ratios above 1
mean that this program is faster. Peers: onnxruntime float32 as dghs-imgutils feeds it, and the original app's way,
torch eager with a Python loop. Each engine's best turn is compared; the table shows the middle one too.

Where fast mode is of no use its figures are null and the reason is printed; `--anyway` measures it all the same.
A random network is a pessimistic judge of agreement: it makes noise of rounding that a trained one does not.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image

from tagger import fast, selecting
from tagger.camie import load_model
from tagger.inference import Predictor
from tagger.preprocess import Preprocess
from tagger.release import ReleaseFolder
from tests.benchmarks import camie_peers, loading
from tests.benchmarks.camie_peers import Original, Peer

STARTER = Path(__file__).resolve().parent.parent.parent / "tagger/releases/starter"
Engine = Callable[[list[Path]], object]
# Pillow's words for the common kinds; most files are of the first.
JPEGS: dict[str, dict[str, Any]] = {
    "4:2:0": {"subsampling": 2},
    "4:4:4": {"subsampling": 0},
    "4:2:0 progressive": {"subsampling": 2, "progressive": True},
}


class Ours:
    """This program, from files to tags."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.predictor = Predictor(folder, "cpu", threads=1, mode=mode)

    def __call__(self, files: list[Path]) -> None:
        arrays = []
        for file in files:
            with Image.open(file) as image:
                self.predictor.draft(image)
                arrays.append(self.predictor.prepare(image))
        self.predictor.batch_size = len(files)
        self.predictor.predict_prepared(arrays)

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        return self.predictor.engine.scores(pixels)[0]


def cpu(run: Callable[..., object], *given: object) -> float:
    began = time.process_time()
    run(*given)
    return time.process_time() - began


def take_turns(engines: dict[str, Engine], files: list[Path], batch: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds a picture of each engine in each round; the first round warms up and is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds + 1):
        chosen = [files[(number * batch + place) % len(files)] for place in range(batch)]
        for name, engine in engines.items():
            spent = cpu(engine, chosen) / batch
            if number:
                seconds[name].append(spent)
    return seconds


def show_turns(title: str, seconds: dict[str, list[float]]) -> None:
    print(f"\n{title}\n{'':<34}best ms  middle ms  onnxruntime's best / this one's")
    for name, spent in seconds.items():
        ratio = min(seconds["onnxruntime fp32 (imgutils way)"]) / min(spent)
        print(f"{name:<34}{min(spent) * 1e3:7.0f}  {np.median(spent) * 1e3:9.0f}  {ratio:5.2f}")


def ratio(seconds: dict[str, list[float]], ours: str, theirs: str) -> float:
    return round(min(seconds[theirs]) / min(seconds[ours]), 3)


def postprocessing(release: ReleaseFolder) -> float:
    """Times faster than the cheapest loop, on scores of which about a hundred tags pass; the same tags."""
    tags = len(release.vocabulary)
    scores = np.random.default_rng(0).normal(0, 1, tags).astype(np.float32)
    floor, most = release.score_floor, release.max_predictions
    scores += np.log(floor / (1 - floor)) - np.sort(scores)[-min(101, tags // 2)]
    names = release.vocabulary.names
    ours = [names[tag] for tag in selecting.select_one(scores, floor, most, "sigmoid")[0]]
    assert ours == list(camie_peers.loop(scores, names, floor)), "the loop finds other tags"
    many = 100  # at once: one is shorter than the clock can tell
    loops, quicks = [], []
    for _ in range(15):  # in turns, so that other work disturbs both alike
        loops.append(cpu(camie_peers.loop, scores, names, floor))
        quicks.append(cpu(lambda: [selecting.select_one(scores, floor, most, "sigmoid") for _ in range(many)]))
    loop, quick = min(loops), min(quicks)
    print(f"\npost-processing of {tags:,} scores: {quick / many * 1e3:.3f} ms, the loop {loop * 1e3:.2f} ms")
    return round(loop * many / quick, 1)


def decoding(folder: Path, preprocess: Preprocess, quick: bool) -> None:
    """Prints what `draft` gains on large JPEGs beside the peer's way, and how far the pixels are from those.

    The second stages of a progressive file's decoding can't be left out: there, that alone is half of the plain way.
    """
    print("\nJPEGs of quality 90             peer ms  draft ms  ratio  pixel difference, mean / max of 255")
    for width, height in ((1000, 1400), (1448, 2048)) if quick else ((1000, 1400), (1448, 2048), (2480, 3508)):
        image = camie_peers.picture(width, height, 100)
        for kind, options in JPEGS.items():
            image.save(folder / "large.jpg", quality=90, **options)
            theirs, ours, apart = decoded(folder / "large.jpg", preprocess)
            print(
                f"{width:>5} x {height:<5} {kind:<17}{theirs:8.1f} {ours:9.1f} {theirs / ours:6.2f}"
                f"  {apart.mean():.2f} / {apart.max():.0f}"
            )


def decoded(file: Path, preprocess: Preprocess) -> tuple[float, float, np.ndarray]:
    """CPU ms from file to input, the peer's and ours, and how far ours is from theirs, of 255."""

    def drafted() -> np.ndarray:
        with Image.open(file) as image:
            preprocess.draft(image)
            return preprocess(image)

    theirs, ours = [], []
    for _ in range(12):  # in turns, so that other work disturbs both alike
        theirs.append(cpu(camie_peers.padded, file, preprocess.size) * 1e3)
        ours.append(cpu(drafted) * 1e3)
    return min(theirs), min(ours), np.abs(drafted() - camie_peers.padded(file, preprocess.size)) * 255


def agreement(folder: Path, pictures: list[Image.Image]) -> float | None:
    """Of fast with exact mode, on the random release; prints the starter's own, too."""
    gate = fast.check(folder, pictures, "cpu", 1, anyway=True)
    print(f"\nagreement of fast mode (mean Jaccard of tags on), random network: {gate.agreement}, by {gate.engine}")
    starter = fast.check(STARTER, fast.calibration_pictures(STARTER), "cpu", 1, anyway=True)
    print(f"the starter release, on its {starter.pictures} calibration pictures: {starter.agreement}")
    return gate.agreement


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    release = camie_peers.write_release(folder / "release", options.quick)
    size = release.preprocess.size
    model = load_model(release, torch.device("cpu"), torch.float32)
    camie_peers.write_graph(model, folder / "graph.onnx", size)
    files = camie_peers.jpegs(folder, options.pictures, *((300, 400) if options.quick else (1448, 2048)))
    peer, original, exact = "onnxruntime fp32 (imgutils way)", "torch eager fp32 (original app)", "ours, exact"
    engines: dict[str, Any] = {
        peer: Peer(release, folder / "graph.onnx"),
        original: Original(release, model),
        exact: Ours(release.folder, "exact"),
    }
    reason = fast.why_not(release, "cpu")
    if reason:
        print(f"Fast mode is of no use here. {reason}")
    if not reason or options.anyway:
        engines["ours, fast"] = Ours(release.folder, "fast")
        print(f"fast mode is {engines['ours, fast'].predictor.engine.title}")
    one = take_turns(engines, files, 1, options.rounds)
    show_turns("whole path, batch 1, CPU ms a picture", one)
    pixels = np.stack([camie_peers.padded(file, size) for file in files[:3]])
    scores = engines[peer].logits(pixels)
    apart = float(np.abs(engines[exact].logits(pixels) - scores).max())
    print(f"scores of the peer: from {scores.min():.2f} to {scores.max():.2f}, {np.std(scores):.2f} standard deviation")
    several = {name: engine for name, engine in engines.items() if name != original}
    eight = take_turns(several, files, options.batch, max(1, options.rounds // 3))
    show_turns(f"whole path, batch {options.batch}, CPU ms a picture", eight)
    measured = "ours, fast" in engines
    del engines, several, model
    figures = {
        "exact_path_vs_onnxruntime": ratio(one, exact, peer),
        "exact_path_vs_original": ratio(one, exact, original),
        "exact_max_logit_difference": float(f"{apart:.3g}"),
        "fast_path_vs_onnxruntime_b1": ratio(one, "ours, fast", peer) if measured else None,
        "fast_path_vs_onnxruntime_b8": ratio(eight, "ours, fast", peer) if measured else None,
        "fast_jaccard": agreement(release.folder, [Image.open(file).convert("RGB") for file in files[:6]]),
        "postprocess_vs_loop": postprocessing(release),
    }
    decoding(folder, release.preprocess, options.quick)
    weights = release.weights_file.stat().st_size
    loaded = loading.in_processes(1, loading.load, release.folder, True)[0]
    print(f"\nloading: {loaded['load_cpu_s']:.2f} s CPU; highest memory {loaded['peak'] / 1e6:.0f} MB above the start")
    figures["load_cpu_s"] = round(loaded["load_cpu_s"], 3)
    figures["peak_rss_over_weights"] = round(loaded["peak"] / weights, 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="turns of each engine at batch 1; a third at the other")
    parser.add_argument("--pictures", type=int, default=16, help="different files")
    parser.add_argument("--batch", type=int, default=8, help="the other batch size")
    parser.add_argument("--anyway", action="store_true", help="measure fast mode also where it is of no use")
    parser.add_argument("--quick", action="store_true", help="a tiny model and small files, to try the program")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made (4 GB)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.reconfigure(line_buffering=True)  # what was measured is not lost when it is stopped
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        figures = measure(Path(temporary), options)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
