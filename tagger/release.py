"""Release folders: one published tagger, everything it means beside its weights. Knows no torch until weights move.

    config.json        {"format": "manabooru-release", "version": 1, "name": "starter", "title": "starter (clipart)",
                        "licence": "CC-BY-SA-4.0", "created_at": "2026-11-23T01:00:00Z", "kind": "camie",
                        "architecture": {...},   as tagger/architecture.py has it
                        "preprocess": {...},     as tagger/preprocess.py has it
                        "weights": {"file": "model.safetensors", "dtype": "float16"},
                        "score_floor": 0.10, "max_predictions": 256, "exclusive_categories": ["rating"]}
    model.safetensors  published key names
                       A release of kind "onnx" has, instead of architecture and preprocess, "descriptor": {...}, as
                       tagger/descriptor.py has it, and a .onnx file for weights; one of kind "vit" has a descriptor,
                       and an architecture as tagger/vit.py has it
    vocabulary.json    as tagger/vocabulary.py has it
    thresholds.json    as tagger/thresholds.py has it
    metrics.json       what was measured, for people and pages
    card.md            what it is, what it was trained on, what it cannot do
    plot-*.png         what the card shows, where the trainer drew any
    CREDITS.md         where licences ask for one

A folder is written beside its place under a temporary name and renamed, so that a reader sees all of it or nothing.
Weights are safetensors and never a pickle, which could run code when opened.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger import thresholds as threshold_layout
from tagger.architecture import Architecture
from tagger.descriptor import Descriptor
from tagger.preprocess import Preprocess
from tagger.vocabulary import CATEGORIES, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "manabooru-release"
VERSION = 1
# The parts that config.json must have, by the kind of tagger, and how its weights file ends.
KINDS = {
    "camie": ("architecture", "preprocess", "weights"),
    "onnx": ("descriptor", "weights"),
    "vit": ("architecture", "descriptor", "weights"),
}
ENDINGS = {"camie": ".safetensors", "onnx": ".onnx", "vit": ".safetensors"}
DTYPES = ("float16", "bfloat16", "float32")
DEFAULTS = {
    "licence": "",
    "weights": {"file": "model.safetensors", "dtype": "float16"},
    "score_floor": 0.10,
    "max_predictions": 256,
    "exclusive_categories": ["rating"],
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ReleaseError(ValueError):
    """A sentence saying what is wrong with a release folder and what to do."""


@dataclass(frozen=True)
class ReleaseFolder:
    folder: Path
    config: dict[str, Any]
    name: str
    title: str
    camie: Architecture | None
    descriptor: Descriptor | None
    preprocess: Preprocess
    vocabulary: Vocabulary
    thresholds: dict[str, Any]
    metrics: dict[str, Any]
    card: str

    @property
    def architecture(self) -> Architecture:
        """Of our own model. Raises ReleaseError for another project's, which can be used but not trained."""
        if self.camie is None:
            raise ReleaseError(
                f"The release {self.name} is another project's {'ONNX ' if self.kind == 'onnx' else ''}model;"
                " start from a release of this program's own."
            )
        return self.camie

    @property
    def kind(self) -> str:
        return self.config["kind"]

    @property
    def stage(self) -> str:
        """The best stage that it has: refined, unless it is a Camie tagger of its initial stage alone."""
        return "initial" if self.camie is not None and self.camie.stages == "initial" else "refined"

    @property
    def weights_file(self) -> Path:
        return self.folder / self.config["weights"]["file"]

    @property
    def score_floor(self) -> float:
        return self.config["score_floor"]

    @property
    def max_predictions(self) -> int:
        return self.config["max_predictions"]

    @property
    def exclusive_categories(self) -> list[str]:
        """Categories of which a post has exactly one tag, the most confident, never cut by a threshold."""
        return self.config["exclusive_categories"]


def read(folder: Path | str) -> ReleaseFolder:
    """Reads and checks all but the weights' numbers. Raises ReleaseError."""
    folder = Path(folder)
    refuse_pickle(folder)
    if not folder.is_dir():
        raise ReleaseError(f"There is no release folder at {folder}; check the path.")
    config = DEFAULTS | _json(folder / "config.json")
    _check_config(config, folder)
    try:
        architecture, descriptor, preprocess = _model(config)
        vocabulary = Vocabulary.from_config(_json(folder / "vocabulary.json"))
        thresholds = _json(folder / "thresholds.json")
        threshold_layout.check(thresholds)
    except ReleaseError:
        raise
    except (ValueError, TypeError) as error:
        raise ReleaseError(f"The release in {folder} cannot be used: {error}") from error
    if architecture is not None and len(vocabulary) != architecture.tag_count:
        raise ReleaseError(
            f"The release in {folder} names {len(vocabulary)} tags but its model scores {architecture.tag_count}."
        )
    metrics = _json(folder / "metrics.json") if (folder / "metrics.json").exists() else {}
    card = (folder / "card.md").read_text("utf-8", errors="replace") if (folder / "card.md").exists() else ""
    name, title = config["name"], config.get("title") or config["name"]
    return ReleaseFolder(
        folder, config, name, title, architecture, descriptor, preprocess, vocabulary, thresholds, metrics, card
    )


def _model(config: Mapping[str, Any]) -> tuple[Architecture | None, Descriptor | None, Preprocess]:
    if config["kind"] != "camie":
        descriptor = Descriptor.from_config(config["descriptor"])
        return None, descriptor, descriptor.preprocess
    return Architecture.from_config(config["architecture"]), None, Preprocess.from_config(config["preprocess"])


def write(
    folder: Path | str,
    *,
    config: Mapping[str, Any],
    weights: "Mapping[str, Tensor] | Path",
    vocabulary: Vocabulary,
    thresholds: Mapping[str, Any],
    metrics: Mapping[str, Any],
    card: str,
    extra_files: Mapping[str, str | bytes | Path] | None = None,
    replace: bool = False,
) -> ReleaseFolder:
    """Writes a release folder whole or not at all. `weights` is a state dict, a safetensors file or an ONNX file.

    Floats are stored in config's weights dtype; a file that has it already is copied as it is. Raises ReleaseError,
    also when the folder exists and `replace` is off.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not replace:
        raise ReleaseError(f"{folder} exists already; choose another name or remove it first.")
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    full = {"format": FORMAT, "version": VERSION, "kind": "camie", "created_at": created, **DEFAULTS, **config}
    _check_config(full, folder, weights_there=False)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_json(temporary / "config.json", full)
        _write_weights(temporary / full["weights"]["file"], weights, full["weights"]["dtype"])
        vocabulary.write(temporary / "vocabulary.json")
        _write_json(temporary / "thresholds.json", thresholds)
        _write_json(temporary / "metrics.json", metrics)
        (temporary / "card.md").write_text(card, "utf-8")
        _write_extra(temporary, extra_files or {})
        read(temporary)
        _rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read(folder)


def load_weights(release: ReleaseFolder, prefix: str = "", *, others: bool = False) -> "dict[str, Tensor]":
    """The tensors as stored, mapped from the file: those whose keys begin so, or the others.

    Raises ReleaseError for a damaged file.
    """
    return load_file(release.weights_file, prefix, others)


def read_header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Each tensor's dtype, as safetensors names it, and shape; reads no numbers. Raises ReleaseError."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > 100_000_000:
                raise ValueError("its header is too long")
            header = json.loads(stream.read(size))
        header.pop("__metadata__", None)
        return {key: (value["dtype"], tuple(value["shape"])) for key, value in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{file} is not a safetensors file ({error}); copy it again.") from error


def require_shapes(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    source: Path,
    limit: int | None = 5,
) -> None:
    """Raises ReleaseError listing missing, unexpected and wrong-shaped keys, at most `limit` of each kind."""
    wrong = [
        f"{key} is {tuple(found[key])}, not {tuple(shape)}"
        for key, shape in expected.items()
        if key in found and tuple(found[key]) != tuple(shape)
    ]
    differences = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "wrong-shaped": wrong,
    }
    parts = [f"{len(keys)} {kind} ({_some(keys, limit)})" for kind, keys in differences.items() if keys]
    if parts:
        raise ReleaseError(f"The weights in {source} do not fit the model of config.json: {'; '.join(parts)}.")


def refuse_pickle(file: Path) -> None:
    if file.suffix.lower() in {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}:
        raise ReleaseError(
            f"{file.name} is a pickle, which can run code when opened; convert it to safetensors where you trust it."
        )


def _some(keys: list[str], limit: int | None) -> str:
    limit = len(keys) if limit is None else limit
    return ", ".join(keys[:limit]) + (f" and {len(keys) - limit} more" if len(keys) > limit else "")


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ReleaseError(f"{file.parent} is not a release folder: it has no {file.name}.") from error
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{file} cannot be read ({error}); copy the release again.") from error
    if not isinstance(value, dict):
        raise ReleaseError(f"{file} is not a JSON object; copy the release again.")
    return value


def _check_config(config: Mapping[str, Any], folder: Path, weights_there: bool = True) -> None:
    """The parts of config.json that no other module owns."""
    if config.get("format") != FORMAT:
        raise ReleaseError(f"{folder} is not a release folder: its config.json does not say {FORMAT}.")
    if config.get("version") != VERSION:
        raise ReleaseError(f"{folder} has release version {config.get('version')!r}; this program reads {VERSION}.")
    if not isinstance(config.get("kind"), str) or config["kind"] not in KINDS:
        raise ReleaseError(f"{folder} holds a tagger of the unknown kind {config.get('kind')!r}; update this program.")
    if not isinstance(config.get("name"), str) or not NAME.fullmatch(config["name"]):
        raise ReleaseError(
            f"The release name {config.get('name')!r} must be letters, digits, dots, dashes, underscores."
        )
    for part in KINDS[config["kind"]]:
        if not isinstance(config.get(part), Mapping):
            raise ReleaseError(f"The config.json of {folder} lacks its part {part}.")
    _check_limits(config, folder)
    weights = config["weights"]
    file = Path(str(weights.get("file")))
    refuse_pickle(file)
    ending = ENDINGS[config["kind"]]
    if file.suffix != ending or len(file.parts) != 1 or weights.get("dtype") not in DTYPES:
        raise ReleaseError(f"The weights of {folder} must be a {ending} file in it, in {' or '.join(DTYPES)}.")
    if weights_there and not (folder / file).is_file():
        raise ReleaseError(f"The release in {folder} lacks its weights {file}; copy the release again.")


def _check_limits(config: Mapping[str, Any], folder: Path) -> None:
    floor, most, exclusive = config["score_floor"], config["max_predictions"], config["exclusive_categories"]
    if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 < floor < 1:
        raise ReleaseError(f"The score_floor of {folder} is {floor!r}; it must be between 0 and 1.")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ReleaseError(f"The max_predictions of {folder} is {most!r}; it must be a whole number of at least 1.")
    if not isinstance(exclusive, list) or not all(category in CATEGORIES for category in exclusive):
        raise ReleaseError(f"The exclusive_categories of {folder} must be a list of {', '.join(CATEGORIES)}.")


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _write_weights(file: Path, weights: "Mapping[str, Tensor] | Path", dtype: str) -> None:
    if file.suffix == ".onnx":
        shutil.copyfile(Path(weights), file)
        return
    import torch
    from safetensors.torch import save_file

    if isinstance(weights, str | Path):
        source = Path(weights)
        refuse_pickle(source)
        weights = load_file(source)
        if all(not tensor.is_floating_point() or tensor.dtype == getattr(torch, dtype) for tensor in weights.values()):
            require_finite(weights)
            shutil.copyfile(source, file)
            return
    require_finite(weights)
    save_file({key: _stored(tensor, getattr(torch, dtype)) for key, tensor in weights.items()}, file, {"format": "pt"})


def load_file(file: Path, prefix: str = "", others: bool = False) -> "dict[str, Tensor]":
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            keys = [key for key in opened.keys() if key.startswith(prefix) != others]  # noqa: SIM118 it is no dict
            return {key: opened.get_tensor(key) for key in keys}
    except (SafetensorError, OSError) as error:
        raise ReleaseError(f"The weights in {file} are damaged ({error}); copy them again.") from error


def require_finite(weights: "Mapping[str, Tensor]") -> None:
    for key, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ReleaseError(f"The weights hold numbers that are not finite ({key}); go back to an earlier file.")


def _stored(tensor: "Tensor", dtype: Any) -> "Tensor":
    """A copy in the stored dtype; counters stay whole numbers, and what half precision cannot hold stays as it is."""
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor.clone()
    smaller = tensor.to(dtype)
    return smaller if smaller.isfinite().all() else tensor.clone()


def _write_extra(folder: Path, files: Mapping[str, str | bytes | Path]) -> None:
    for name, content in files.items():
        if Path(name).name != name or (folder / name).exists():
            raise ReleaseError(f"The extra file {name} must have a plain name that the release does not use itself.")
        if isinstance(content, Path):
            shutil.copyfile(content, folder / name)
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).write_text(content, "utf-8")


def _rename(temporary: Path, folder: Path) -> None:
    """Puts the finished folder in its place; an older one there is moved aside first and removed after."""
    for file in temporary.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    temporary.chmod(0o755)  # mkdtemp makes it private; a worker may run as another user
    if not folder.exists():
        temporary.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old)
