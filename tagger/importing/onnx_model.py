"""Any ONNX tagger to a release folder, by its descriptor (tagger/descriptor.py); proven on one picture first."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from tagger import release as releases
from tagger.descriptor import Descriptor, DescriptorError
from tagger.importing.vocabularies import read_vocabulary
from tagger.inference import Predictor
from tagger.release import ReleaseError, ReleaseFolder


def import_onnx(
    source: Path,
    out: Path,
    *,
    descriptor: Mapping[str, Any],
    name: str,
    title: str,
    model_file: str | None = None,
    licence: str = "",
    origin: str = "",
    replace: bool = False,
) -> ReleaseFolder:
    """`source` is the folder of the published files. Raises ReleaseError before anything is at `out`."""
    releases.refuse_pickle(source)
    if out.exists() and not replace:
        raise ReleaseError(f"{out} exists already; choose another name or remove it first.")
    try:
        Descriptor.from_config(descriptor)
    except (DescriptorError, TypeError) as error:
        raise ReleaseError(f"The descriptor cannot be used: {error}") from error
    model = find_model(source, model_file)
    vocabulary = read_vocabulary(source, descriptor.get("vocabulary", {}), descriptor.get("categories", {}))
    origin = origin or "files given by hand"
    config = {
        "name": name,
        "title": title,
        "licence": licence,
        "source": origin,
        "kind": "onnx",
        "descriptor": dict(descriptor),
        "weights": {"file": model.name, "dtype": "float32"},
        "exclusive_categories": descriptor.get("exclusive_categories", ["rating"]),
    }
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        releases.write(
            Path(temporary) / "release",
            config=config,
            weights=model,
            vocabulary=vocabulary,
            thresholds=read_thresholds(descriptor.get("thresholds", {})),
            metrics={},
            card=f"# {title}\n\nImported from {origin}. Licence: {licence or 'see there'}.\n",
            extra_files=external_data(model),
        )
        prove(Path(temporary) / "release")
        if out.exists():
            out.rename(Path(temporary) / "old")
        (Path(temporary) / "release").rename(out)
    return releases.read(out)


def find_model(source: Path, name: str | None) -> Path:
    if source.is_file() and source.suffix == ".onnx":
        raise ReleaseError(f"Name the folder that {source.name} is in; its tag list must be there, too.")
    if not source.is_dir():
        raise ReleaseError(f"There is no folder {source}; name the one that holds the published files.")
    if name and (source / name).is_file():
        return source / name
    models = sorted(source.glob("*.onnx"))
    if len(models) == 1:
        return models[0]
    others = [file.name for file in sorted(source.iterdir()) if file.suffix in {".safetensors", ".pt", ".pth"}]
    hint = f"; {', '.join(others)} cannot be used for it" if others else ""
    asked = name or "a single .onnx file"
    raise ReleaseError(f"{source} lacks {asked}{hint}; get the ONNX file from where the model is published.")


def external_data(model: Path) -> dict[str, Path]:
    """Weights above 2 GB lie beside the model in files that begin with its name."""
    return {
        file.name: file
        for file in sorted(model.parent.iterdir())
        if file != model and file.name.startswith((f"{model.name}.", f"{model.name}_", f"{model.stem}.data"))
    }


def read_thresholds(given: Mapping[str, Any]) -> dict[str, Any]:
    """A number is the balanced threshold; {mode: number} gives several. To the published Camie layout."""
    if not isinstance(given, Mapping) or "overall" not in given:
        raise ReleaseError("The descriptor's thresholds lack the number overall, such as 0.35.")
    groups = {}
    for group, value in given.items():
        modes = value if isinstance(value, Mapping) else {"balanced": value}
        groups[group] = {mode: {"threshold": number} for mode, number in modes.items()}
    return {"refined": groups}


def prove(folder: Path) -> None:
    """One picture through the whole path: shapes fit, and scores are from 0 to 1 after the activation."""
    predictor = Predictor(folder, "cpu")
    pixels = predictor.prepare(Image.new("RGB", (96, 64), (120, 130, 140)))
    try:
        confidences = predictor.confidences(pixels[None])
    except ReleaseError:
        raise
    except Exception as error:  # those of onnxruntime have no common class
        raise ReleaseError(f"The model fails on a first picture ({error}); copy its files again.") from error
    if confidences.min() < 0 or confidences.max() > 1:
        raise ReleaseError(
            "The model's output is not from 0 to 1; set the descriptor's output to the activation sigmoid"
            " or to another output."
        )
