"""Make a dataset folder of Danbooru's metadata and a folder of pictures.

    python -m training.data danbooru2024 --metadata 'FOLDER/*.parquet' --images FOLDER --out DATASET

Tags and posts are filtered as in the published Camie run; each minimum can be changed. Killed, the same command goes
on. What was dropped and why is printed and written to DATASET/report.txt and report.json.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.data import filtering
from training.data.danbooru import Maker, Order
from training.data.filtering import POST_MINIMA, TAG_MINIMA, Rules


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.data", description="Make a dataset folder.")
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    one = kinds.add_parser("danbooru2024", help="from Danbooru's metadata as it is published, and pictures")
    one.add_argument("--metadata", required=True, help="parquet files, as 'FOLDER/*.parquet'")
    one.add_argument("--images", required=True, type=Path, help="folder of pictures, named by number or md5; or tars")
    one.add_argument("--out", required=True, type=Path, help="the dataset folder to write")
    one.add_argument("--count", type=int, help="keep so many posts; all without it")
    one.add_argument("--choose", choices=("newest", "random"), default="newest", help="which, with --count")
    one.add_argument("--validation", type=float, default=0.01, help="share that is held out")
    one.add_argument("--seed", type=int, default=42, help="of the held-out posts and of random ones")
    one.add_argument("--images-as", choices=("path", "bytes"), default="path", help="store paths, or copies")
    one.add_argument("--rows-a-shard", type=int, help="posts of a file; 50000 of paths, 2000 of bytes")
    one.add_argument(
        "--tag-minimum",
        nargs="+",
        action="extend",
        default=[],
        metavar="CATEGORY=N",
        help=f"posts a tag needs; {words(TAG_MINIMA)}",
    )
    one.add_argument(
        "--post-minimum",
        nargs="+",
        action="extend",
        default=[],
        metavar="CATEGORY=N",
        help=f"tags a post needs; {words(POST_MINIMA)}",
    )
    one.add_argument("--skip-deleted", action="store_true", help="leave out posts that are deleted or banned")
    one.add_argument("--name", default="", help="the dataset's name; that of its folder without it")
    one.add_argument("--licence", default="", help="of the pictures")
    return parser.parse_args(arguments)


def words(minima: dict[str, int]) -> str:
    return " ".join(f"{category}={least}" for category, least in minima.items())


def order_of(chosen: argparse.Namespace) -> Order:
    """Raises ValueError with a sentence for numbers that cannot be."""
    if not 0 <= chosen.validation <= 0.5:
        raise ValueError(f"--validation is {chosen.validation}; it must be from 0 to 0.5.")
    if chosen.count is not None and chosen.count < 1:
        raise ValueError("--count must be at least 1.")
    shard = 2000 if chosen.images_as == "bytes" else 50_000
    if (rows := shard if chosen.rows_a_shard is None else chosen.rows_a_shard) < 1:
        raise ValueError("--rows-a-shard must be at least 1.")
    return Order(
        metadata=chosen.metadata,
        images=chosen.images.absolute(),  # a stored path that is relative would be one from the dataset folder
        out=chosen.out,
        rules=Rules(
            filtering.named(chosen.tag_minimum, TAG_MINIMA),
            filtering.named(chosen.post_minimum, POST_MINIMA),
            chosen.skip_deleted,
        ),
        count=chosen.count,
        choose=chosen.choose,
        seed=chosen.seed,
        validation=chosen.validation,
        images_as=chosen.images_as,
        rows_a_shard=rows,
        name=chosen.name,
        licence=chosen.licence,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parse(arguments)
    try:
        report = Maker(order_of(chosen)).make()
    except (ValueError, OSError) as error:
        print(f"data: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("data: stopped; the same command goes on", file=sys.stderr)
        return 130
    print(report.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
