"""python -m tagger import KIND (--from FOLDER | --download) --out RELEASE: a release of a published tagger."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tagger import fast
from tagger.importing.published import PUBLISHED, Published
from tagger.release import ReleaseError, ReleaseFolder

CANNOT_IMPORT = 2


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tagger import", description="Make a release folder of a tagger that somebody published."
    )
    parser.add_argument("kind", choices=(*PUBLISHED, "onnx"), help="onnx: any other, with --descriptor")
    parser.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="the published files")
    parser.add_argument("--out", type=Path, required=True, metavar="RELEASE", help="the release folder to write")
    parser.add_argument("--download", action="store_true", help="get the files first, into --from or beside --out")
    parser.add_argument("--repository", help="another one of the same kind, such as SmilingWolf/wd-swinv2-tagger-v3")
    parser.add_argument("--revision", help="commit, tag or branch to download (default: a pinned commit)")
    parser.add_argument("--endpoint", help="address of another hub that speaks the same language")
    parser.add_argument("--stages", choices=("full", "initial"), default="full", help="of camie-v1 (default: full)")
    parser.add_argument("--descriptor", type=Path, help="JSON file, for onnx; tagger/descriptor.py explains it")
    parser.add_argument("--name", help="short name of the release (default: the folder's)")
    parser.add_argument("--title", help="what people read (default: the tagger's name)")
    parser.add_argument("--progress", action="store_true", help="say how far it is in lines of JSON, for programs")
    parser.add_argument("--replace", action="store_true", help="write over a release that is there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    try:
        release = run(options)
    except (ReleaseError, OSError) as error:
        print(error, file=sys.stderr)
        return CANNOT_IMPORT
    print(f"{release.title}: {len(release.vocabulary)} tags, in {release.folder}")
    print(fast.check_and_keep(release.folder))
    print(f"Install it with: python manage.py install_release {release.folder} --use")
    return 0


def run(options: argparse.Namespace) -> ReleaseFolder:
    published = wanted(options)
    if options.out.exists() and not options.replace:
        raise ReleaseError(f"{options.out} exists already; choose another name or give --replace.")
    source, origin = options.source, ""
    if options.download:
        source, origin = fetch(options, published)
        report(options, files=None)
    if source is None:
        raise ReleaseError("Name the folder of the published files with --from FOLDER, or give --download.")
    title = options.title or published.title
    names = {"name": options.name or options.out.name, "title": title, "origin": origin, "replace": options.replace}
    if options.kind == "camie-v1":
        from tagger.importing.camie_v1 import import_camie_v1

        return import_camie_v1(source, options.out, stages=options.stages, **names)
    names |= {"descriptor": published.descriptor, "licence": published.licence}
    if options.kind == "joytag" and is_vit(source):
        from tagger.importing.joytag import import_vit

        return import_vit(source, options.out, **names)
    from tagger.importing.onnx_model import import_onnx

    return import_onnx(source, options.out, model_file=published.model_file, **names)


def is_vit(source: Path) -> bool:
    """Whether JoyTag's safetensors are there, and its ONNX file, which needs no torch, is not."""
    return (source / "model.safetensors").is_file() and not any(source.glob("*.onnx"))


def report(options: argparse.Namespace, *, files: dict[str, int] | None) -> None:
    """The files to come with their bytes; null when they are here and the release is being made."""
    if options.progress:
        print(json.dumps({"files": files}), flush=True)


def wanted(options: argparse.Namespace) -> Published:
    """What is published under this kind, with what was asked for on the command line."""
    if options.kind == "onnx":
        if options.descriptor is None:
            raise ReleaseError("Say how the model wants its pictures with --descriptor FILE.")
        title = options.title or options.name or options.out.name
        return Published(title, options.repository or "", (), model_file=None, descriptor=read_descriptor(options))
    published = PUBLISHED[options.kind]
    if options.kind == "camie-v1" and options.stages == "initial":
        published = replace(published, files=(("model_initial.safetensors",), *published.files[1:]))
    return replace(published, repository=options.repository or published.repository)


def read_descriptor(options: argparse.Namespace) -> dict[str, Any]:
    try:
        return json.loads(options.descriptor.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ReleaseError(f"The descriptor {options.descriptor} cannot be read ({error}).") from error


def fetch(options: argparse.Namespace, published: Published) -> tuple[Path, str]:
    """The folder with the files, which stay there, and where they came from."""
    from tagger.importing.download import download

    if not published.files:
        raise ReleaseError("Only the taggers known by name can be downloaded; name your files' folder with --from.")
    folder = options.source or options.out.absolute().parent / f"{options.out.name}-files"
    commit = download(
        published,
        folder,
        revision=options.revision,
        endpoint=options.endpoint,
        plan=lambda sizes: report(options, files=sizes),
    )
    return folder, f"{published.repository} at commit {commit}"
