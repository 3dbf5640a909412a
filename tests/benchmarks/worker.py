"""The worker end to end: `python -m tests.benchmarks.worker` (`make bench-worker`).

Files on disk become searchable rows: pictures a second, the share of that time in which the model is at work,
and what the database pays for each post (CPU of its backend, bytes of write-ahead log), durability on. Pictures
are the seed's, each with a pixel of its own; `--side N` makes JPEGs of that longest side of them. With several
`--processes` each has a model and threads of its own, and what it takes of memory is measured, too: proportional,
so that pages they share count by share. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from tests.benchmarks import stage

ROOT = Path(__file__).resolve().parent.parent.parent
SEED = ROOT / "gallery/seed"
STARTER = ROOT / "tagger/releases/starter"
WARM_UP = 16


def picture(number: int, files: list[str], side: int) -> io.BytesIO:
    """A file that differs from all others: WebP as the seed has it, or a JPEG of the longest side asked for."""
    with Image.open(SEED / files[number % len(files)]) as opened:
        image = opened.convert("RGB")
    if side:
        factor = side / max(image.size)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    image.paste((number % 256, number // 256 % 256, 7), (0, 0, 16, 16))
    file = io.BytesIO()
    image.save(file, "JPEG" if side else "WEBP", quality=90, method=0)
    file.seek(0)
    return file


def fill(count: int, side: int) -> None:
    """Posts that wait for the tagger, their files in the storage."""
    from gallery import uploading

    files = [row["file"] for row in json.loads((SEED / "seed.json").read_text(encoding="utf-8"))["pictures"]]
    for number in range(count):
        uploading.store(picture(number, files, side), name=f"{number}.jpg")


def let_wait(count: int | None = None) -> None:
    from gallery.models import Post, Prediction, TaggingState, TagIndex

    Prediction.objects.all().delete()
    TagIndex.objects.all().delete()
    ids = Post.objects.order_by("pk").values_list("pk", flat=True)[:count]
    Post.objects.update(tagging_state=TaggingState.TAGGED)
    Post.objects.filter(pk__in=list(ids)).update(tagging_state=TaggingState.WAITING, tagging_attempts=0)


def backend(sql: str) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])


def busy_seconds() -> float:
    from gallery import tagging

    return tagging.busy_seconds()


def measure() -> dict[str, float]:
    """What this process does of one pass over all posts, the model loaded and warm."""
    from gallery import tagging
    from gallery.worker import workers

    meter = stage.Meter(backend("select pg_backend_pid()"))
    wal = "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
    server, before, busy, began = meter.server_cpu(), backend(wal), busy_seconds(), time.perf_counter()
    tagged = tagging.tag_waiting(seconds=3600)
    seconds = time.perf_counter() - began
    return {
        "tagged": tagged,
        "busy_seconds": busy_seconds() - busy,
        "seconds": seconds,
        "write_cpu_ms": meter.server_cpu() - server,
        "wal_bytes": backend(wal) - before,
        "memory_mb": round(workers.memory() / 1e6),
    }


def serve() -> None:
    """One of several processes: a line in, a pass done, a line of JSON out."""
    import django

    django.setup()
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


class Workers:
    """This process alone, or several others, each with a model of its own."""

    def __init__(self, number: int, threads: int) -> None:
        environment = {**os.environ, "TAGGER_THREADS": str(threads)}
        command = [sys.executable, "-m", "tests.benchmarks.worker", "--serve"]
        self.others = [
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(number if number > 1 else 0)
        ]

    def run(self) -> list[dict[str, float]]:
        """One pass, by all at once."""
        if not self.others:
            return [measure()]
        for process in self.others:
            process.stdin.write("\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in self.others]

    def end(self) -> None:
        for process in self.others:
            process.stdin.close()
            process.wait()


def one_pass(workers: Workers, count: int) -> dict[str, float]:
    """A pass over all posts, put together from what each process did."""
    from gallery import search
    from gallery.profiles import resolve

    began = time.perf_counter()
    found = workers.run()
    seconds = time.perf_counter() - began
    tagged = sum(one["tagged"] for one in found)
    if tagged != count or search.count("", resolve(None)).number != count:
        raise SystemExit(f"{tagged} of {count} posts were tagged: see the warnings above.")
    return {
        "pictures_per_s": round(count / seconds, 2),
        "model_busy_share": round(sum(one["busy_seconds"] for one in found) / sum(one["seconds"] for one in found), 4),
        "write_cpu_ms_per_post": round(sum(one["write_cpu_ms"] for one in found) / count, 3),
        "wal_bytes_per_post": round(max(one["wal_bytes"] for one in found) / count),
        "memory_mb": sum(one["memory_mb"] for one in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--passes", type=int, default=3, help="the line shows the median of them")
    parser.add_argument("--side", type=int, default=0, help="JPEGs of this longest side instead of the seed's files")
    parser.add_argument("--threads", type=int, default=1, help="of the model; 0: as torch likes")
    parser.add_argument("--processes", type=int, default=1, help="that tag at the same time")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--release", type=Path, default=STARTER, help="a release folder")
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    stage.start_django()
    from django.conf import settings
    from django.db import connection

    from gallery.releases import releasing

    settings.TAGGER_THREADS = options.threads
    fill(options.pictures, options.side)
    release = releasing.install(options.release, activate=True)
    workers = Workers(options.processes, options.threads)
    let_wait(WARM_UP * options.processes)
    workers.run()
    passes = []
    for _ in range(options.passes):
        let_wait()
        with connection.cursor() as cursor:
            cursor.execute("vacuum analyze")
            cursor.execute("checkpoint")
        passes.append(one_pass(workers, options.pictures))
    workers.end()
    head = ("pass", *passes[0])
    stage.table(
        f"{options.pictures} pictures by {release.name}, {options.processes} process(es) of"
        f" {options.threads or 'all'} thread(s)",
        head,
        [[str(number), *found.values()] for number, found in enumerate(passes, 1)],
    )
    middle = {key: sorted(found[key] for found in passes)[len(passes) // 2] for key in passes[0]}
    print(json.dumps(middle))


if __name__ == "__main__":
    main()
