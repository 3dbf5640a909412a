"""Prints a picture's tags: python -m tagger picture.jpg [...] [--release FOLDER] [--profile KEY] [--json]."""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from tagger.release import ReleaseError, ReleaseFolder
from tagger.thresholds import DEFAULT_PROFILE, SiteProfile, site_profiles
from tagger.vocabulary import CATEGORIES

if TYPE_CHECKING:
    from tagger.inference import Predictor

STARTER = Path(__file__).parent / "releases" / "starter"
SOME_FAILED, CANNOT_START = 1, 2


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tagger", description="Print the tags of pictures.")
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    parser.add_argument("--release", type=Path, help="a release folder; the starter unless given")
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help=f"thresholds to use (default: {DEFAULT_PROFILE})")
    parser.add_argument("--stage", choices=("initial", "refined"), default="refined")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    try:
        predictor = open_predictor(options)
        profile = find_profile(predictor.release, options.profile, predictor.stage)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return CANNOT_START
    failed = False
    for file, outcome in outcomes(predictor, options.pictures):
        if isinstance(outcome, str):
            failed = True
            print(f"{file}: {outcome}", file=sys.stderr)
            if options.json:
                print(json.dumps({"file": str(file), "error": outcome}, ensure_ascii=False))
            continue
        tags = by_category(predictor.release, profile, *outcome)
        print(as_json(file, predictor, profile, tags) if options.json else as_text(file, tags))
    return SOME_FAILED if failed else 0


def open_predictor(options: argparse.Namespace) -> "Predictor":
    folder = options.release or STARTER
    if options.release is None and not folder.is_dir():
        raise ReleaseError("The starter release is not here; name a release folder with --release FOLDER.")
    from tagger.inference import Predictor  # torch takes seconds to load: only when there is work for it

    return Predictor(folder, options.device, options.stage)


def find_profile(release: ReleaseFolder, key: str, stage: str) -> SiteProfile:
    profiles = {profile.key: profile for profile in site_profiles(release.thresholds, stage)}
    if key not in profiles:
        raise ReleaseError(f"There is no profile {key!r}; choose one of {', '.join(profiles)}.")
    return profiles[key]


def outcomes(
    predictor: "Predictor", files: Sequence[Path]
) -> Iterator[tuple[Path, tuple[np.ndarray, np.ndarray] | str]]:
    """Each file in order with its prediction, or with the sentence why it has none."""
    for start in range(0, len(files), predictor.batch_size):
        batch = files[start : start + predictor.batch_size]
        prepared = [prepare(predictor, file) for file in batch]
        predictions = iter(predictor.predict_prepared([array for array in prepared if not isinstance(array, str)]))
        for file, array in zip(batch, prepared, strict=True):
            yield file, array if isinstance(array, str) else next(predictions)


def prepare(predictor: "Predictor", file: Path) -> np.ndarray | str:
    """The picture made upright and ready for the model, or why it cannot be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                return predictor.prepare(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        return "There is no such file."
    except IsADirectoryError:
        return "This is a folder; name the pictures in it."
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return "The picture has too many pixels to be opened safely."
    except (OSError, ValueError, SyntaxError) as error:
        return f"This file cannot be opened as a picture ({error})."


def by_category(
    release: ReleaseFolder, profile: SiteProfile, tags: np.ndarray, confidences: np.ndarray
) -> dict[str, dict[str, float]]:
    """The tags on under a profile, most confident first; an exclusive category keeps its one best at any confidence."""
    codes = release.vocabulary.category_codes[tags]
    limits = np.array([profile.threshold(category) for category in CATEGORIES], dtype=np.float32)
    on = confidences >= limits[codes]
    for category in release.exclusive_categories:
        having = np.flatnonzero(codes == CATEGORIES.index(category))
        on[having] = False
        on[having[:1]] = True
    names = release.vocabulary.names
    return {
        category: {names[tags[place]]: float(confidences[place]) for place in np.flatnonzero(on & (codes == code))}
        for code, category in enumerate(CATEGORIES)
        if (on & (codes == code)).any()
    }


def as_json(file: Path, predictor: "Predictor", profile: SiteProfile, tags: dict[str, dict[str, float]]) -> str:
    rounded = {category: {tag: round(value, 4) for tag, value in found.items()} for category, found in tags.items()}
    line: dict[str, Any] = {"file": str(file), "release": predictor.release.name, "stage": predictor.stage}
    return json.dumps(line | {"profile": profile.key, "tags": rounded}, ensure_ascii=False)


def as_text(file: Path, tags: dict[str, dict[str, float]]) -> str:
    lines = [str(file)]
    for category, found in tags.items():
        lines.append(f"  {category}")
        lines += [f"    {confidence:4.0%}  {tag}" for tag, confidence in found.items()]
    return "\n".join(lines if tags else [*lines, "  no tag reaches this profile's thresholds"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stdout = None
        sys.exit(SOME_FAILED)
