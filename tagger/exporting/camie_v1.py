"""A release in the layout that the Camie Tagger v1 was published in, which `import camie-v1` reads back equal.

    model_refined.safetensors          the whole model, where the release has both stages
    model_initial.safetensors          its first stage alone
    model/metadata.json                total_tags, idx_to_tag, tag_to_category
    model/thresholds.json
    model/model_info_refined.json      tag_context_size, num_heads, precision
    README.md                          the card

Programs made for the published model expect its sizes and its preprocessing. For a release that differs, and for what
the published files do not say, model_info_refined.json holds a part "release", and metadata.json "tag_counts".
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger import release as releases
from tagger.importing.camie_v1 import WEIGHTS
from tagger.release import ReleaseError, ReleaseFolder

if TYPE_CHECKING:
    from torch import Tensor

FIRST_STAGE = ("backbone.", "initial_classifier.", "temperature")


def export_camie_v1(source: ReleaseFolder, out: Path, *, replace: bool = False) -> Path:
    """Writes the folder whole or not at all. Raises ReleaseError."""
    if source.camie is None:
        what = "an ONNX model" if source.kind == "onnx" else "another project's model"
        raise ReleaseError(f"The release {source.name} is {what}; its weights fit no layout.")
    out = out.absolute()
    if out.exists() and not replace:
        raise ReleaseError(f"{out} exists already; choose another name or give --replace.")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        write_files(source, temporary)
        if out.exists():
            shutil.rmtree(out)
        os.chmod(temporary, 0o755)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def write_files(source: ReleaseFolder, folder: Path) -> None:
    from safetensors.torch import save_file

    weights = releases.load_weights(source)
    if source.architecture.stages == "full":
        save_file(weights, folder / WEIGHTS["full"])
    save_file(first_stage(weights), folder / WEIGHTS["initial"])
    write_json(folder / "model" / "metadata.json", metadata(source))
    write_json(folder / "model" / "thresholds.json", source.thresholds)
    write_json(folder / "model" / "model_info_refined.json", model_info(source))
    (folder / "README.md").write_text(source.card, "utf-8")
    if (source.folder / "CREDITS.md").is_file():
        shutil.copyfile(source.folder / "CREDITS.md", folder / "CREDITS.md")


def first_stage(weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
    return {key: tensor for key, tensor in weights.items() if key.startswith(FIRST_STAGE)}


def metadata(source: ReleaseFolder) -> dict[str, Any]:
    vocabulary = source.vocabulary
    return {
        "total_tags": len(vocabulary),
        "idx_to_tag": {str(index): name for index, name in enumerate(vocabulary.names)},
        "tag_to_category": dict(zip(vocabulary.names, vocabulary.categories, strict=True)),
        "tag_counts": list(vocabulary.counts),
    }


def model_info(source: ReleaseFolder) -> dict[str, Any]:
    architecture = source.architecture
    return {
        "tag_context_size": architecture.tag_context_size,
        "num_heads": architecture.heads,
        "precision": source.config["weights"]["dtype"],
        "release": {
            "licence": source.config["licence"],
            "architecture": architecture.to_config(),
            "preprocess": source.preprocess.to_config(),
        },
    }


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")
