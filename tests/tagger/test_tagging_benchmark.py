"""The benchmark of tagging takes minutes at size: here it runs with a tiny model and must measure all the same."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = [
    "exact_path_vs_onnxruntime",
    "exact_path_vs_original",
    "exact_max_logit_difference",
    "fast_path_vs_onnxruntime_b1",
    "fast_path_vs_onnxruntime_b8",
    "fast_jaccard",
    "postprocess_vs_loop",
    "load_cpu_s",
    "peak_rss_over_weights",
]


def test_the_last_line_has_every_figure() -> None:
    words = ["--quick", "--rounds", "2", "--pictures", "3", "--batch", "2", "--anyway"]
    command = [sys.executable, "-m", "tests.benchmarks.tagging", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == KEYS
    assert 0 < found["exact_max_logit_difference"] < 1e-3
    assert 0 <= found["fast_jaccard"] <= 1
    assert found["postprocess_vs_loop"] > 1
    assert all(value > 0 for key, value in found.items() if key != "fast_jaccard")
