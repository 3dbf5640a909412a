"""Fast mode: lower precision, where it is faster, and only when it finds the same tags.

Exact mode computes in 32 bits. Fast mode computes in bfloat16 on processors with AMX and in half precision on a GPU.
Whether a release bears that is measured: on calibration pictures, tags that are on under its balanced profile must
agree between the modes to `ENOUGH` (mean Jaccard index). Loads no torch until a check runs.

    python -m tagger check-fast RELEASE [--stage initial] [--engine torch] [--pictures FOLDER] [--anyway]

    calibration/0000.webp ...   in the release folder: pictures of its own kind, at about its input size
    calibration/CREDITS.md      where their licences ask for it
    gate.json                   by engine: {"torch bf16": {"engine", "agreement", "pictures", "passed", "reason", ...}};
                                of the initial stage, where it was asked for: "torch bf16, initial"
"""

import argparse
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tagger import release as releases
from tagger.release import ReleaseError, ReleaseFolder
from tagger.thresholds import DEFAULT_PROFILE, site_profiles
from tagger.vocabulary import CATEGORIES

if TYPE_CHECKING:
    from tagger.inference import Predictor

ENOUGH = 0.97
MOST_PICTURES = 48  # in a calibration folder
FOLDER, RESULT = "calibration", "gate.json"


@dataclass(frozen=True)
class Gate:
    """What a check of one stage found.

    `agreement` is null when nothing could be compared; `reason` is a sentence unless passed.
    """

    engine: str
    agreement: float | None
    pictures: int
    passed: bool
    reason: str = ""
    stage: str = "refined"

    @property
    def key(self) -> str:
        return gate_key(self.engine, self.stage)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Gate":
        return cls(**value)


def gate_key(engine: str, stage: str) -> str:
    """Under which `gates` has a result."""
    return engine if stage == "refined" else f"{engine}, {stage}"


def why_not(release: ReleaseFolder, device: str = "auto") -> str | None:
    """The sentence why fast mode can't be had on this machine; None when it can. Loads nothing."""
    if device.startswith("cuda") or (device == "auto" and has_cuda()):
        if release.kind == "onnx":
            return "Fast mode on a GPU needs a release that torch runs; ONNX models run as published."
        return None
    if not has_amx():
        return (
            "Fast mode needs a GPU or a processor with AMX, which computes in bfloat16;"
            " without it lower precision is not faster."
        )
    if release.kind == "onnx" and importlib.util.find_spec("openvino") is None:
        return "Fast mode of an ONNX model needs OpenVINO; run pip install openvino."
    return None


def has_amx() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware. Only Linux says so."""
    try:
        return " amx_bf16" in Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return False


def has_cuda() -> bool:
    """Whether there is an NVIDIA device; asks torch only where it is loaded already."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.cuda.is_available()
    return any(Path(file).exists() for file in ("/dev/nvidiactl", "/dev/dxg"))


def check(
    folder: Path | str,
    pictures: Sequence[Image.Image | bytes],
    device: str = "auto",
    threads: int = 0,
    *,
    anyway: bool = False,
    stage: str = "refined",
    engine: str = "auto",
) -> Gate:
    """Compares fast with exact mode on upright pictures and on files, each read as its mode reads a post's.

    Raises ReleaseError for a release that can't be loaded. A release of its initial stage alone is checked in that.
    `engine` runs fast mode; exact mode runs as it comes.
    `anyway` measures the agreement also on a machine where fast mode is of no use, for others where it is.
    """
    release = releases.read(folder)
    stage = "initial" if release.stage == "initial" else stage
    if reason := None if anyway else why_not(release, device):
        return Gate("", None, 0, False, reason, stage)
    if not pictures:
        return Gate("", None, 0, False, "There are no pictures to compare the modes on.", stage)
    from tagger.inference import Predictor  # torch takes seconds to load

    found: list[list[set[int]]] = []
    title = ""
    for mode, chosen in (("fast", engine), ("exact", "auto")):
        predictor = Predictor(folder, device, stage, threads, chosen, mode)
        if getattr(predictor.engine, "jpegs", None):
            pictures = [as_post(picture) for picture in pictures]
        found.append(tags_on(predictor, pictures))
        title = title or predictor.engine.title
        del predictor  # the two models need not be in memory together
    agreement = round(float(np.mean([jaccard(one, other) for one, other in zip(*found, strict=True)])), 4)
    below = f"{agreement:.1%} of the tags agree with exact mode on {len(pictures)} pictures; {ENOUGH:.0%} are needed."
    passed = agreement >= ENOUGH
    return Gate(title, agreement, len(pictures), passed, "" if passed else below, stage)


def refusal(release: ReleaseFolder, engine: str, stage: str) -> str | None:
    """The sentence why its kept results don't allow fast mode by this engine; None where they do."""
    gate = gates(release.folder).get(gate_key(engine, stage))
    if gate is None:
        return (
            f"How far {engine} keeps the tags of its {stage} stage is not known: run"
            f" python -m tagger check-fast {release.folder} --stage {stage} --engine {engine.split()[0]}."
        )
    return None if gate.passed else gate.reason


def as_post(picture: Image.Image | bytes) -> Image.Image | bytes:
    """An opaque picture as the JPEG file that most posts are, for a device that decodes those by itself."""
    if isinstance(picture, bytes) or picture.has_transparency_data:
        return picture
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=92)
    return file.getvalue()


def prepared(predictor: "Predictor", picture: Image.Image | bytes) -> np.ndarray:
    return predictor.prepare_file(picture) if isinstance(picture, bytes) else predictor.prepare(picture)


def tags_on(predictor: "Predictor", pictures: Sequence[Image.Image | bytes]) -> list[set[int]]:
    """For each picture the vocabulary indices that are on under the balanced profile."""
    release = predictor.release
    profiles = site_profiles(release.thresholds, predictor.stage)
    profile = next((each for each in profiles if each.key == DEFAULT_PROFILE), profiles[0])
    limits = np.array([profile.threshold(category) for category in CATEGORIES], dtype=np.float32)
    exclusive = [CATEGORIES.index(category) for category in release.exclusive_categories]
    on = []
    for prediction in predictor.predict_prepared([prepared(predictor, picture) for picture in pictures]):
        tags, confidences = prediction.indices, prediction.confidences
        codes = release.vocabulary.category_codes[tags]
        kept = confidences >= limits[codes]
        for code in exclusive:  # always its one best, at any confidence
            having = np.flatnonzero(codes == code)
            kept[having] = False
            kept[having[:1]] = True
        on.append(set(tags[kept].tolist()))
    return on


def jaccard(one: set[int], other: set[int]) -> float:
    """Shared tags of all tags; two empty sets agree."""
    return len(one & other) / len(one | other) if one | other else 1.0


def calibration_pictures(folder: Path | str) -> list[Image.Image]:
    """The release's own pictures for the check; empty where it has none."""
    pictures = []
    for file in sorted(Path(folder, FOLDER).glob("*.webp"))[:MOST_PICTURES]:
        with Image.open(file) as image:
            image.load()
            pictures.append(image)
    return pictures


def write_calibration(folder: Path | str, pictures: Iterable[Image.Image], credits: str = "") -> int:
    """Puts upright pictures into a release folder, in place of those that it has; returns how many.

    They are made no larger than the release's input, so they are small, and at most `MOST_PICTURES`.
    """
    folder = Path(folder)
    size = releases.read(folder).preprocess.size
    temporary = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=folder))
    count = 0
    try:
        for image in pictures:
            if count == MOST_PICTURES:
                break
            small = image.convert("RGBA" if image.has_transparency_data else "RGB")
            small.thumbnail((size, size), Image.Resampling.LANCZOS)
            small.save(temporary / f"{count:04}.webp", "WEBP", quality=85, method=6)
            count += 1
        if credits:
            (temporary / "CREDITS.md").write_text(credits, "utf-8")
        temporary.chmod(0o755)
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        if count:
            temporary.rename(folder / FOLDER)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def gates(folder: Path | str) -> dict[str, Gate]:
    """The results kept in a release folder, by `Gate.key`."""
    try:
        kept = json.loads(Path(folder, RESULT).read_text("utf-8"))
        return {engine: Gate.from_json(value) for engine, value in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def keep(folder: Path | str, gate: Gate) -> None:
    """Writes a result beside those of other engines and of the other stage. Raises OSError."""
    if not gate.engine:
        return
    kept = {key: each.to_json() for key, each in (gates(folder) | {gate.key: gate}).items()}
    temporary = Path(folder, f".{RESULT}.{os.getpid()}")
    temporary.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    temporary.replace(Path(folder, RESULT))


def check_and_keep(folder: Path | str) -> str:
    """After an import: the check on the release's own pictures, its result kept, and a sentence about it."""
    if reason := why_not(releases.read(folder)):
        return f"The release stays exact. {reason}"
    pictures = calibration_pictures(folder)
    if not pictures:
        return "No calibration pictures came with it: fast mode is checked on the site's own posts when it is chosen."
    try:
        gate = check(folder, pictures)
        keep(folder, gate)
    except (ReleaseError, FloatingPointError, OSError) as error:
        return f"The release stays exact: its fast mode could not be checked. {error}"
    return describe(gate)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tagger check-fast",
        description="Compare fast with exact mode on a release's calibration pictures; gate.json keeps the result.",
        epilog="Exit codes: 0 passed, 1 not passed, 2 nothing could be compared.",
    )
    parser.add_argument("release", type=Path, help="the release folder")
    parser.add_argument("--stage", choices=("initial", "refined"), default="refined", help="the one that will run")
    parser.add_argument("--engine", default="auto", help="auto, torch or openvino; of fast mode")
    parser.add_argument("--pictures", type=Path, help="a folder of other pictures to compare on; keeps nothing")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: the engine's choice)")
    parser.add_argument(
        "--anyway", action="store_true", help="also where fast mode is of no use, for machines where it is"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    try:
        own = options.pictures is None
        pictures = calibration_pictures(options.release) if own else pictures_in(options.pictures)
        how = {"anyway": options.anyway, "stage": options.stage, "engine": options.engine}
        gate = check(options.release, pictures, options.device, options.threads, **how)
        if own:
            keep(options.release, gate)
    except (ReleaseError, FloatingPointError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(describe(gate))
    return 0 if gate.passed else 1 if gate.pictures else 2


def pictures_in(folder: Path) -> list[bytes]:
    """The first picture files of a folder. Raises ReleaseError for one that can't be read."""
    from tagger.folders import find_pictures

    found = []
    for file in find_pictures([folder])[:MOST_PICTURES]:
        try:
            with Image.open(file) as image:
                image.load()
            found.append(file.read_bytes())
        except Exception as error:  # Pillow raises many kinds for broken files
            raise ReleaseError(f"{file} cannot be opened as a picture ({error}); choose other pictures.") from error
    return found


def describe(gate: Gate) -> str:
    """The result as a sentence or two for people."""
    if gate.agreement is None or not gate.passed:
        return f"{gate.engine and gate.key or 'Fast mode'} is refused, the release stays exact. {gate.reason}"
    return f"{gate.key}: {gate.agreement:.1%} of the tags agree with exact mode on {gate.pictures} pictures. Passed."
