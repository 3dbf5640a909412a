"""What a person waits for: `python -m tests.benchmarks.loop` (`make bench`).

Starts the real site from a fresh clone with an empty home folder and a warm package cache, then measures in a
real browser and over HTTP: clone to first page, upload answer, upload to tags on screen when idle, and how
many pictures and tags a second the worker writes. `--warm` skips the clone and uses this checkout.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests import chromium, stack
from tests.benchmarks.stage import percentiles, table

ROOT = Path(__file__).resolve().parent.parent.parent
SEED = ROOT / "gallery/seed"
TRIES, BULK = 10, 200


def variants(count: int, folder: Path) -> list[Path]:
    """`count` different files from the seed pictures: each has one pixel of its own."""
    pictures = json.loads((SEED / "seed.json").read_text(encoding="utf-8"))["pictures"]
    made = []
    for number in range(count):
        with Image.open(SEED / pictures[number % len(pictures)]["file"]) as picture:
            image = picture.convert("RGB")
        image.putpixel((number % image.width, 0), (number % 256, number // 256, 7))
        made.append(folder / f"{number:04}.webp")
        image.save(made[-1], lossless=True, method=0)
    return made


def clone_to_first_page(folder: Path) -> tuple[float, float]:
    """Seconds from `git clone` to the first page: the first time, with packages cached, and the second."""
    checkout, home = folder / "clone", folder / "home"
    home.mkdir()
    cache = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache/uv")
    settings = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "UV_CACHE_DIR": cache}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MANABOORU", "VIRTUAL"))}
    seconds = []
    for attempt in range(2):
        began = time.perf_counter()
        if not attempt:
            subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
        port = stack.free_port()
        # The system's python, not this virtual environment's: a newcomer has only that.
        command = [getattr(sys, "_base_executable", sys.executable), "manage.py", "up", "--port", str(port)]
        process = subprocess.Popen(command, cwd=checkout, env={**environment, **settings}, stdout=subprocess.DEVNULL)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit("`manage.py up` ended before the first page: run it by hand to see why.") from None
                time.sleep(0.05)
        seconds.append(time.perf_counter() - began)
        process.terminate()
        process.wait(60)
    shutil.rmtree(home, ignore_errors=True)
    return seconds[0], seconds[1]


def sign_in(page: Page, site: stack.Site) -> None:
    page.goto(site.admin_link)
    page.get_by_label("Name", exact=True).fill("bench")
    for field in page.locator("input[type=password]").all():
        field.fill("a-long-password-1")
    page.get_by_role("button", name="Make the account").click()
    page.wait_for_url(f"{site.address}/")


def tags_on_screen(page: Page, site: stack.Site, pictures: list[Path]) -> list[float]:
    """Seconds from choosing a file in the browser to its tags being visible, one at a time on an idle site."""
    seconds = []
    for picture in pictures:
        page.goto(f"{site.address}/upload/")
        began = time.perf_counter()
        page.locator("#files").set_input_files(picture)
        page.locator("#upload-rows .upload-tag-list li, #upload-rows .upload-tags p:text('Tagged')").first.wait_for(
            timeout=60_000
        )
        seconds.append(time.perf_counter() - began)
    return seconds


class Client:
    """A signed-in browser's cookies without the browser: for timing the upload's answer alone."""

    def __init__(self, page: Page, site: stack.Site) -> None:
        jar = http.cookiejar.CookieJar()
        self.open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar)).open
        self.cookies = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in page.context.cookies())
        page.goto(f"{site.address}/upload/")
        self.token = page.locator("input[name=csrfmiddlewaretoken]").first.input_value()
        self.url = f"{site.address}/upload/"

    def send(self, picture: Path) -> float:
        """Milliseconds to the answer."""
        mark, body = "manabooru-bench", io.BytesIO()
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{picture.name}"\r\n'
        body.write(f"{head}Content-Type: image/webp\r\n\r\n".encode() + picture.read_bytes())
        body.write(f"\r\n--{mark}--\r\n".encode())
        headers = {
            "Content-Type": f"multipart/form-data; boundary={mark}",
            "Cookie": self.cookies,
            "X-CSRFToken": self.token,
            "HX-Request": "true",
        }
        began = time.perf_counter()
        self.open(urllib.request.Request(self.url, body.getvalue(), headers)).read()
        return (time.perf_counter() - began) * 1000


def worker_rate(client: Client, site: stack.Site, pictures: list[Path]) -> tuple[list[float], float, float]:
    """Upload all; answers in milliseconds, then pictures and tags a second of re-tagging all of them."""
    answers = [client.send(picture) for picture in pictures]
    wait_until_tagged(site)
    script = (
        "from gallery.models import Post, Prediction, TaggingRun;"
        "from gallery import profiles; from gallery.releases import retagging;"
        "import time; began = time.monotonic();"
        "run = retagging.start('all', '', None, profiles.resolve(None));"
        "from gallery.releases import handing; handing.go_on(run.pk); run.refresh_from_db(); total = run.total\n"
        "while Post.objects.filter(tagging_state__in=('waiting', 'tagging')).exists(): time.sleep(0.05)\n"
        "seconds = time.monotonic() - began;"
        "tags = sum(len(ids) for ids in Prediction.objects.values_list('tag_ids', flat=True));"
        "print('RATE', total / seconds, tags / seconds)"
    )
    found = re.search(r"RATE (\S+) (\S+)", site.manage("shell", "-v", "0", "-c", script))
    assert found, "the site's shell printed no rate"
    return answers, float(found[1]), float(found[2])


def wait_until_tagged(site: stack.Site) -> None:
    script = (
        "from gallery.models import Post; import time\n"
        "while Post.objects.filter(tagging_state__in=('waiting', 'tagging')).exists(): time.sleep(0.1)\n"
    )
    site.manage("shell", "-v", "0", "-c", script)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm", action="store_true", help="skip the fresh clone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="manabooru-bench-") as name:
        folder = Path(name)
        rows: list[tuple[str, object, object, object]] = []
        if not options.warm:
            first, second = clone_to_first_page(folder)
            rows.append(("clone to first page, packages cached, s", first, "", ""))
            rows.append(("second start to first page, s", second, "", ""))
        (folder / "files").mkdir()
        pictures = variants(TRIES + BULK + 1, folder / "files")
        site = stack.start(folder / "data")
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium.find())
                page = browser.new_page()
                sign_in(page, site)
                tags_on_screen(page, site, pictures[:1])  # the model is loaded on first use
                shown = tags_on_screen(page, site, pictures[1 : TRIES + 1])
                client = Client(page, site)
                browser.close()
            answers, pictures_per_s, tags_per_s = worker_rate(client, site, pictures[TRIES + 1 :])
        finally:
            site.stop()
        rows.append(("upload to tags on screen, idle, s", *percentiles(shown)))
        rows.append(("upload answer while the worker is busy, ms", *percentiles(answers)))
        rows.append(("worker, pictures a second", pictures_per_s, "", ""))
        rows.append(("worker, tags a second", tags_per_s, "", ""))
        table("The loop", ("what", "p50", "p95", "max"), rows)
        print(json.dumps({str(row[0]): row[1] for row in rows}))


if __name__ == "__main__":
    main()
