"""JoyTag's published safetensors to a release of kind vit, every key checked; its ONNX file goes by onnx_model.py."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagger import release as releases
from tagger.importing.onnx_model import prove, read_thresholds
from tagger.importing.vocabularies import read_vocabulary
from tagger.release import ReleaseError, ReleaseFolder

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def import_vit(
    source: Path,
    out: Path,
    *,
    descriptor: Mapping[str, Any],
    name: str,
    title: str,
    licence: str = "",
    origin: str = "",
    replace: bool = False,
) -> ReleaseFolder:
    """`source` holds model.safetensors, config.json and top_tags.txt. Raises ReleaseError before anything is at `out`.

    The model states its own size of pictures; all else of the way to them is the descriptor's.
    """
    from tagger.vit import VitArchitecture, expected_shapes

    if out.exists() and not replace:
        raise ReleaseError(f"{out} exists already; choose another name or remove it first.")
    architecture = VitArchitecture.from_config(read_config(source))
    vocabulary = read_vocabulary(source, descriptor["vocabulary"], {})
    if len(vocabulary) != architecture.n_tags:
        raise ReleaseError(
            f"{source} names {len(vocabulary)} tags, but its {CONFIG} says {architecture.n_tags}; copy both again."
        )
    weights = without_legacy(source / WEIGHTS, architecture.n_tags)
    found = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    releases.require_shapes(expected_shapes(architecture), found, source / WEIGHTS, limit=None)
    origin = origin or "files given by hand"
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=_made(out.absolute().parent)) as temporary:
        made = Path(temporary) / "release"
        releases.write(
            made,
            config={
                "name": name,
                "title": title,
                "licence": licence,
                "source": origin,
                "kind": "vit",
                "architecture": architecture.to_config(),
                "descriptor": {**descriptor, "input": {**descriptor["input"], "size": architecture.image_size}},
                "weights": {"file": WEIGHTS, "dtype": "float32"},
                "exclusive_categories": descriptor.get("exclusive_categories", []),
            },
            weights=weights,
            vocabulary=vocabulary,
            thresholds=read_thresholds(descriptor["thresholds"]),
            metrics={},
            card=f"# {title}\n\nImported from {origin}. Licence: {licence or 'see there'}.\n",
        )
        prove(made)
        if out.exists():
            out.rename(Path(temporary) / "old")
        made.rename(out)
    return releases.read(out)


def read_config(source: Path) -> dict[str, Any]:
    """What the model's own config.json says of its shape."""
    file = source / CONFIG
    try:
        config = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ReleaseError(
            f"{source} lacks {CONFIG}, which says how {WEIGHTS} is built; copy it from where the model is published."
        ) from error
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{file} cannot be read ({error}); copy it again.") from error
    if not isinstance(config, dict):
        raise ReleaseError(f"{file} is not a JSON object; copy it again.")
    return config


def without_legacy(file: Path, tags: int) -> dict[str, Any]:
    """The published tensors; early checkpoints score ratings, too, after the tags, and these are left out."""
    from tagger.vit import LEGACY

    weights = releases.load_file(file)
    for key in ("head.weight", "head.bias"):
        if key in weights and len(weights[key]) == tags + LEGACY:
            weights[key] = weights[key][:tags].clone()
    return weights


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
