"""python -m training.starter build --out DATASET · python -m training.starter seed --out FOLDER"""

import argparse
import logging
import sys
from pathlib import Path

from training.dataset import DatasetError
from training.starter import build, judging, packages, seed
from training.starter.credits import credits_page
from training.starter.rendering import RenderError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.starter", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    made = verbs.add_parser("build", help="build the starter's training data")
    made.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    made.add_argument("--style-out", default=build.STYLE_OUT, help="art source left out of training; 'none' for all in")
    made.add_argument("--size", type=int, default=build.SIZE, help="longer side of the pictures in pixels")
    made.add_argument("--processes", type=int, default=2)
    gallery = verbs.add_parser("seed", help="make the pictures of the seed gallery")
    gallery.add_argument("--out", type=Path, default=Path("gallery/seed"), help="folder to write")
    card = verbs.add_parser("card", help="add the starter's own figures and credits to a published release")
    card.add_argument("--release", type=Path, required=True)
    card.add_argument("--dataset", type=Path, required=True)
    for verb in (made, gallery, card):
        verb.add_argument("--work", type=Path, default=Path("datasets/packages"), help="where packages are unpacked")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if chosen.verb == "seed":
            print(f"{seed.make(chosen.out, chosen.work)} pictures in {chosen.out}")
            return 0
        if chosen.verb == "card":
            drawings = build.all_drawings(packages.fetch(chosen.work))
            judging.write_card(chosen.release, chosen.dataset, credits_page(drawings))
            return 0
        style = None if chosen.style_out == "none" else chosen.style_out
        build.build(chosen.out, chosen.work, style=style, size=chosen.size, processes=chosen.processes)
    except (packages.PackageError, RenderError, DatasetError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
