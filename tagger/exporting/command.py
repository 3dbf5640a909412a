"""python -m tagger export KIND RELEASE --out FOLDER: a release of ours in a layout that other programs read."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tagger import release as releases
from tagger.release import ReleaseError

CANNOT_EXPORT = 2


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tagger export", description="Write a release in a layout that other programs read."
    )
    parser.add_argument(
        "kind",
        choices=("onnx", "camie-v1"),
        help="onnx: a release that runs without torch; camie-v1: the published model's files",
    )
    parser.add_argument("release", type=Path, metavar="RELEASE", help="the release folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    parser.add_argument("--name", help="short name of the release, for onnx (default: the folder's)")
    parser.add_argument("--replace", action="store_true", help="write over a folder that is there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    try:
        source = releases.read(options.release)
        if options.kind == "onnx":
            from tagger.exporting.onnx_model import export_onnx

            made = export_onnx(source, options.out, name=options.name or options.out.name, replace=options.replace)
            print(f"{made.folder}: {made.weights_file.stat().st_size / 1e6:.1f} MB")
        else:
            from tagger.exporting.camie_v1 import export_camie_v1

            print(export_camie_v1(source, options.out, replace=options.replace))
    except (ReleaseError, OSError) as error:
        print(error, file=sys.stderr)
        return CANNOT_EXPORT
    return 0
