"""Camie Tagger v1 as its author published it, to a release folder.

    model_refined.safetensors, model_initial.safetensors      in the root
    metadata.json, thresholds.json, model_info_refined.json   in the root or in model/

metadata.json: total_tags, idx_to_tag {"0": name}, tag_to_category {name: category}. The published .pt files hold the
same weights as pickles and are refused. `python -m tagger export camie-v1` writes the same layout, with a little more
beside: tag_counts, and a part "release" in model_info_refined.json for sizes and preprocessing other than published.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger import release as releases
from tagger import thresholds as threshold_layout
from tagger.architecture import Architecture, ArchitectureError
from tagger.importing.vocabularies import as_it_should_be, as_vocabulary, indexed_rows
from tagger.release import ReleaseError, ReleaseFolder
from tagger.thresholds import MODES, STAGES
from tagger.vocabulary import CATEGORIES

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = {"full": "model_refined.safetensors", "initial": "model_initial.safetensors"}
PLACES = (".", "model", "app/exported-model")
PREPROCESS = {"size": 512, "geometry": "letterbox", "filter": "lanczos", "pad_color": [0, 0, 0], "alpha": "drop"}
LICENCE = "GPL-3.0"
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def import_camie_v1(
    source: Path, out: Path, *, stages: str = "full", name: str, title: str, origin: str = "", replace: bool = False
) -> ReleaseFolder:
    """Checks every key and shape before anything is written; the weights file is copied as it is."""
    releases.refuse_pickle(source)
    weights_file = find_weights(source, stages)
    metadata = read_json(source, "metadata.json", "model_initial_metadata.json")
    published = read_json(source, "thresholds.json")
    with as_it_should_be("The thresholds.json"):
        thresholds = known_thresholds(published, stages)
        threshold_layout.check(thresholds)
        metrics = published_metrics(thresholds)
    with as_it_should_be("The metadata.json"):
        vocabulary = as_vocabulary(metadata_rows(metadata))
    info = read_json(source, "model_info_refined.json") if find(source, "model_info_refined.json") else {}
    with as_it_should_be("The model_info_refined.json"):
        own = dict(info.get("release", {}))
        architecture = read_architecture(info, len(vocabulary), stages)
    weights, dtype = checked_weights(weights_file, architecture)
    config = {
        "name": name,
        "title": title,
        "licence": own.get("licence", LICENCE),
        "source": origin or "files given by hand",
        "architecture": architecture.to_config(),
        "preprocess": own.get("preprocess", PREPROCESS),
        "weights": {"file": "model.safetensors", "dtype": dtype},
    }
    return releases.write(
        out,
        config=config,
        weights=weights,
        vocabulary=vocabulary,
        thresholds=thresholds,
        metrics=metrics,
        card=card(source, title, config["source"], config["licence"]),
        replace=replace,
    )


def find_weights(source: Path, stages: str) -> Path:
    if not source.is_dir():
        raise ReleaseError(f"There is no folder {source}; name the one that holds the published files.")
    name = WEIGHTS[stages]
    if file := find(source, name):
        return file
    for place in PLACES:
        for pickle in sorted((source / place).glob("*.pt")) + sorted((source / place).glob("*.pth")):
            raise ReleaseError(
                f"{pickle.name} is a pickle, which can run code when opened, so it is never read; get {name}, which"
                " holds the same weights, from the same publisher."
            )
    other = "full" if stages == "initial" else "initial"
    hint = f"; it has the file for --stages {other}" if find(source, WEIGHTS[other]) else ""
    raise ReleaseError(f"{source} lacks {name}{hint}; copy it from where the model is published.")


def find(source: Path, *names: str) -> Path | None:
    files = [source / place / name for name in names for place in PLACES]
    return next((file for file in files if file.is_file()), None)


def read_json(source: Path, *names: str) -> dict[str, Any]:
    file = find(source, *names)
    if file is None:
        raise ReleaseError(f"{source} lacks {names[0]}, in itself or in model/; copy it from the same publisher.")
    try:
        value = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{file} cannot be read ({error}); copy it again.") from error
    if not isinstance(value, dict):
        raise ReleaseError(f"{file} is not a JSON object; copy it again.")
    return value


def metadata_rows(metadata: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """v2 nests the two maps in dataset_info.tag_mapping; either form is taken."""
    info = metadata.get("dataset_info", {})
    maps = info.get("tag_mapping", metadata)
    if not isinstance(maps.get("idx_to_tag"), Mapping):
        raise ReleaseError("The metadata.json lacks idx_to_tag; copy it again from the same publisher.")
    total = metadata.get("total_tags") or info.get("total_tags")
    rows = indexed_rows(maps["idx_to_tag"], maps.get("tag_to_category", {}), total)
    counts = metadata.get("tag_counts")
    if not isinstance(counts, list) or len(counts) != len(rows):
        return rows
    return [(name, category, int(count)) for (name, category, _), count in zip(rows, counts, strict=True)]


def known_thresholds(published: Mapping[str, Any], stages: str) -> dict[str, Any]:
    """The published layout is the release's own; what else a later file may hold is left out."""
    wanted = STAGES if stages == "full" else ("initial",)
    groups = ("overall", *CATEGORIES)
    return {
        stage: {
            group: {mode: values for mode, values in published[stage][group].items() if mode in MODES}
            for group in groups
            if group in published[stage]
        }
        for stage in wanted
        if stage in published
    }


def read_architecture(info: Mapping[str, Any], tag_count: int, stages: str) -> Architecture:
    """The published sizes, two of which are stated beside the weights; or an exported release's own."""
    own = info.get("release", {}).get("architecture", {})
    stated = {"tag_context_size": info.get("tag_context_size", 256), "heads": info.get("num_heads", 16)}
    try:
        return Architecture.from_config({**stated, **own, "tag_count": tag_count, "stages": stages})
    except ArchitectureError as error:
        raise ReleaseError(f"The model_info_refined.json cannot be used: {error}") from error


def checked_weights(file: Path, architecture: Architecture) -> "tuple[Path | dict[str, Tensor], str]":
    """The file, or its tensors where harmless counters must be added, and its floats' dtype. Raises ReleaseError."""
    import torch

    from tagger.camie import empty_model

    expected = {key: tuple(tensor.shape) for key, tensor in empty_model(architecture).state_dict().items()}
    header = releases.read_header(file)
    found = {key: shape for key, (_, shape) in header.items()}
    # How many batches a norm saw in training: without a meaning for use, and some tools do not store it.
    counters = [key for key in expected if key.endswith(".num_batches_tracked") and key not in found]
    releases.require_shapes(expected, found | dict.fromkeys(counters, ()), file, limit=None)
    dtypes = {DTYPES[dtype] for dtype, _ in header.values() if dtype in DTYPES}
    dtype = next(iter(dtypes)) if len(dtypes) == 1 else "float32"
    if not counters:
        return file, dtype
    added = {key: torch.zeros((), dtype=torch.int64) for key in counters}
    return releases.load_file(file) | added, dtype


def published_metrics(thresholds: Mapping[str, Any]) -> dict[str, Any]:
    """What the author measured at the balanced threshold, on 20,116 pictures held back."""
    return {
        stage: {key: value for key, value in groups["overall"]["balanced"].items() if key != "threshold"}
        for stage, groups in thresholds.items()
        if "balanced" in groups.get("overall", {})
    }


def card(source: Path, title: str, origin: str, licence: str = LICENCE) -> str:
    """Where it came from, then the author's own card when it is among the files."""
    published = source / "README.md"
    text = f"# {title}\n\nImported from {origin}. Licence: {licence}.\n"
    return f"{text}\n{published.read_text('utf-8', errors='replace')}" if published.is_file() else text
