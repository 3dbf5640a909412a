"""Tags pictures and folders: python -m tagger PICTURE|FOLDER ... [--write txt] [--release FOLDER] [--profile KEY].

`python -m tagger import KIND ...` makes a release of a published tagger; tagger/importing/command.py has it.
`python -m tagger export KIND RELEASE ...` writes a release for other programs; tagger/exporting/command.py has it.
`python -m tagger check-fast RELEASE` says whether a release bears fast mode; tagger/fast.py has it.
Exit codes: 0 all pictures were tagged (or were before), 1 some could not be, 2 nothing could start.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from tagger import fast
from tagger import release as releases
from tagger.folders import FORMATS, find_pictures, unfinished, write_tags
from tagger.release import ReleaseError, ReleaseFolder
from tagger.thresholds import DEFAULT_PROFILE, SiteProfile, site_profiles
from tagger.vocabulary import CATEGORIES

if TYPE_CHECKING:
    from tagger.inference import Prediction, Predictor

Tags = dict[str, dict[str, float]]

STARTER = Path(__file__).parent / "releases" / "starter"
SOME_FAILED, CANNOT_START, STOPPED = 1, 2, 130  # the last as shells have it for Ctrl-C


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tagger",
        description="Print the tags of pictures, or write them beside the pictures.",
        epilog="Exit codes: 0 all tagged, 1 some pictures could not be, 2 nothing could start."
        " `python -m tagger import --help` tells how to bring in another tagger.",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="pictures, or folders of them")
    parser.add_argument("--release", type=Path, help="a release folder; the starter unless given")
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help=f"thresholds to use (default: {DEFAULT_PROFILE})")
    parser.add_argument("--stage", choices=("initial", "refined"), default="refined")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--engine", default="auto", help="auto, torch, onnxruntime or openvino")
    parser.add_argument("--mode", choices=("exact", "fast"), default="exact", help="fast: lower precision, if checked")
    parser.add_argument(
        "--anyway", action="store_true", help="with --mode fast: also where it gains nothing or its check did not pass"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: the engine's choice)")
    parser.add_argument("--top", type=int, metavar="N", help="at most N tags of each category")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--write", choices=FORMATS, help="a tag file beside each picture, instead of printing")
    parser.add_argument("--again", action="store_true", help="with --write: also pictures that have a tag file")
    parser.add_argument("--spaces", action="store_true", help="with --write txt: spaces instead of underscores")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] == "import":
        from tagger.importing.command import main as import_tagger

        return import_tagger(argv[1:])
    if argv and argv[0] == "export":
        from tagger.exporting.command import main as export_tagger

        return export_tagger(argv[1:])
    if argv and argv[0] == "check-fast":
        from tagger.fast import main as check_fast

        return check_fast(argv[1:])
    options = arguments().parse_args(argv)
    found = find_pictures(options.pictures)
    files = unfinished(found, options.write) if options.write and not options.again else found
    try:
        if options.top is not None and options.top < 1:
            raise ReleaseError(f"--top is {options.top}; it must be at least 1.")
        if not found:
            raise ReleaseError("There are no pictures in these folders.")
        if files:
            predictor = open_predictor(options)
            profile = find_profile(predictor.release, options.profile, predictor.stage)
        failed = 0
        with tqdm(total=len(files), unit="picture", disable=None if options.write else True) as bar:
            for file, outcome in outcomes(predictor, files) if files else ():
                failed += not report(options, predictor, profile, file, outcome)
                bar.update()
    except ReleaseError as error:  # some show only with the first picture
        print(error, file=sys.stderr)
        return CANNOT_START
    if options.write:
        before = len(found) - len(files)
        print(f"{len(files) - failed} tagged, {before} had a tag file, {failed} failed", file=sys.stderr)
    return SOME_FAILED if failed else 0


def report(
    options: argparse.Namespace,
    predictor: "Predictor",
    profile: SiteProfile,
    file: Path,
    outcome: "Prediction | str",
) -> bool:
    """Prints or writes one picture's tags, or says why it has none; whether it went well."""
    if not isinstance(outcome, str):
        tags = by_category(predictor.release, profile, outcome.indices, outcome.confidences)
        if options.top is not None:
            tags = {category: dict(list(found.items())[: options.top]) for category, found in tags.items()}
        try:
            show(options, file, tags, described(file, predictor, profile, tags))
            return True
        except OSError as error:
            if not options.write:
                raise
            outcome = f"Its tag file cannot be written ({error.strerror})."
    tqdm.write(f"{file}: {outcome}", file=sys.stderr)
    if options.json and not options.write:
        print(json.dumps({"file": str(file), "error": outcome}, ensure_ascii=False))
    return False


def show(options: argparse.Namespace, file: Path, tags: Tags, about: dict[str, Any]) -> None:
    if options.write:
        write_tags(file, options.write, tags, about, options.spaces)
    elif options.json:
        print(json.dumps(about, ensure_ascii=False))
    else:
        print(as_text(file, tags))


def open_predictor(options: argparse.Namespace) -> "Predictor":
    folder = options.release or STARTER
    if options.release is None and not folder.is_dir():
        raise ReleaseError("The starter release is not here; name a release folder with --release FOLDER.")
    from tagger.inference import Predictor  # torch takes seconds to load: only when there is work for it

    def opened(mode: str) -> Predictor:
        return Predictor(folder, options.device, options.stage, options.threads, options.engine, mode)

    if options.mode == "exact" or options.anyway:
        return opened(options.mode)
    reason = fast.why_not(releases.read(folder), options.device)
    if reason is None:
        predictor = opened("fast")
        reason = fast.refusal(predictor.release, predictor.engine.title, predictor.stage)
        if reason is None:
            return predictor
        del predictor  # the two models need not be in memory together
    print(f"Exact mode is used. {reason}", file=sys.stderr)
    return opened("exact")


def find_profile(release: ReleaseFolder, key: str, stage: str) -> SiteProfile:
    profiles = {profile.key: profile for profile in site_profiles(release.thresholds, stage)}
    if key not in profiles:
        raise ReleaseError(f"There is no profile {key!r}; choose one of {', '.join(profiles)}.")
    return profiles[key]


def outcomes(predictor: "Predictor", files: Sequence[Path]) -> Iterator[tuple[Path, "Prediction | str"]]:
    """Each file in order with its prediction, or with the sentence why it has none."""
    for start in range(0, len(files), predictor.batch_size):
        batch = files[start : start + predictor.batch_size]
        prepared = [prepare(predictor, file) for file in batch]
        found = iter(predicted(predictor, [array for array in prepared if not isinstance(array, str)]))
        for file, array in zip(batch, prepared, strict=True):
            yield file, array if isinstance(array, str) else next(found)


def predicted(predictor: "Predictor", arrays: Sequence[np.ndarray]) -> list["Prediction | str"]:
    """What the model says of each, or the sentence why it says nothing: one that breaks it fails alone."""
    try:
        return list(predictor.predict_prepared(arrays))
    except ReleaseError:
        raise
    except Exception as error:  # of the model's library, which has many kinds
        if len(arrays) == 1:
            return [f"The tagger fails on this picture ({error})."]
    return [found for array in arrays for found in predicted(predictor, [array])]


def prepare(predictor: "Predictor", file: Path) -> np.ndarray | str:
    """The picture made upright and ready for the model, or why it cannot be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                predictor.draft(image)
                return predictor.prepare(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        return "There is no such file."
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return "The picture has too many pixels to be opened safely."
    except Exception as error:  # Pillow raises many kinds for broken files
        return f"This file cannot be opened as a picture ({error})."


def by_category(release: ReleaseFolder, profile: SiteProfile, tags: np.ndarray, confidences: np.ndarray) -> Tags:
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


def described(file: Path, predictor: "Predictor", profile: SiteProfile, tags: Tags) -> dict[str, Any]:
    rounded = {category: {tag: round(value, 4) for tag, value in found.items()} for category, found in tags.items()}
    line = {"file": str(file), "release": predictor.release.name, "stage": predictor.stage}
    return line | {"profile": profile.key, "tags": rounded}


def as_text(file: Path, tags: Tags) -> str:
    lines = [str(file)]
    for category, found in tags.items():
        lines.append(f"  {category}")
        lines += [f"    {confidence:4.0%}  {tag}" for tag, confidence in found.items()]
    return "\n".join(lines if tags else [*lines, "  no tag reaches this profile's thresholds"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stdout = None
        sys.exit(SOME_FAILED)
