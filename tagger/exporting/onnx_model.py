"""A release of our own model as a release of kind onnx: both stages in one graph that needs no torch to run.

The graph takes `input`, normalised pictures [B, 3, S, S] for any B, and gives the logits `initial` and `refined`
[B, tags]. Both equal torch's to within 1e-4, which is checked with onnxruntime before anything is written.
"""

import importlib.util
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tagger import release as releases
from tagger.release import ReleaseError, ReleaseFolder

if TYPE_CHECKING:
    from torch import Tensor

    from tagger.model import CamieTagger

OPSET = 17
TOLERANCE = 1e-4
BATCHES = (1, 3)  # checked: the number of pictures must not be baked in
OUTPUTS = ("initial", "refined")


def export_onnx(source: ReleaseFolder, out: Path, *, name: str, replace: bool = False) -> ReleaseFolder:
    """Raises ReleaseError for a release that is no torch model, or a graph that does not compute the same."""
    if source.camie is None:
        what = "an ONNX model already" if source.kind == "onnx" else "another project's model"
        raise ReleaseError(f"The release {source.name} is {what}; only this program's own can be exported.")
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "model.onnx"
        outputs = write_graph(source, file)
        return releases.write(
            out,
            config={
                "kind": "onnx",
                "name": name,
                "title": f"{source.title} (ONNX)",
                "licence": source.config["licence"],
                "source": f"the release {source.name}",
                "descriptor": {
                    "input": {"name": "input", "layout": "NCHW", **source.preprocess.to_config()},
                    "output": {"name": outputs[-1], "activation": "sigmoid"},
                },
                "weights": {"file": "model.onnx", "dtype": "float32"},
                **{key: source.config[key] for key in ("score_floor", "max_predictions", "exclusive_categories")},
            },
            weights=file,
            vocabulary=source.vocabulary,
            thresholds=source.thresholds,
            metrics=source.metrics,
            card=source.card,
            extra_files=companions(source),
            replace=replace,
        )


def companions(source: ReleaseFolder) -> dict[str, Path]:
    """The credits and the card's pictures."""
    files = [source.folder / "CREDITS.md", *sorted(source.folder.glob("plot-*.png"))]
    return {file.name: file for file in files if file.is_file()}


def write_graph(source: ReleaseFolder, file: Path) -> tuple[str, ...]:
    """Writes the graph and checks it against torch; returns its outputs. Raises ReleaseError."""
    import torch

    from tagger.camie import load_model

    if importlib.util.find_spec("onnx") is None:
        raise ReleaseError("The package onnx writes graphs and is not installed; run pip install onnx.")
    model = load_model(source, torch.device("cpu"), torch.float32)
    outputs = OUTPUTS if source.architecture.stages == "full" else OUTPUTS[:1]
    side = source.preprocess.size
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.randn(2, 3, side, side, generator=generator),),
            str(file),
            input_names=["input"],
            output_names=list(outputs),
            dynamic_axes={key: {0: "batch"} for key in ("input", *outputs)},
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs two more packages
        )
    check(model, file, [torch.randn(count, 3, side, side, generator=generator) for count in BATCHES])
    return outputs


def check(model: "CamieTagger", file: Path, batches: "list[Tensor]") -> None:
    """Raises ReleaseError when onnxruntime's answer is another than torch's."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for pixels in batches:
        with torch.inference_mode():
            ours = model(pixels)
        theirs = session.run(None, {"input": pixels.numpy()})
        worst = max(float(np.abs(a.numpy() - b).max()) for a, b in zip(ours, theirs))  # noqa: B905 - one or two stages
        if not worst <= TOLERANCE:
            raise ReleaseError(f"The exported graph is off torch's answer by {worst:.2g}; report it with the release.")
