"""The monitor in a real browser, on a real short run: while it goes, when it is killed, and after its end."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.training import made

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PAGES = ("overview", "predictions", "selection")
MINUTE = 60_000  # starting a training takes most of it on a busy machine
NewPage = Callable[..., Page]


def monitor(folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "training.monitor", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, re.search(r"http://\S+", process.stdout.readline())[0]


def train(shapes: Path, folder: Path, epochs: int) -> subprocess.Popen[bytes]:
    settings = [*made.FAST, f"train.epochs={epochs}"]
    words = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "training.train", "tiny", "--dataset", shapes, "--run", folder, *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "done"
    assert train(shapes, folder, epochs=4).wait(300) == 0
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def address(runs: Path) -> Iterator[str]:
    process, address = monitor(runs)
    yield address
    process.terminate()
    process.wait(10)


def tile(page: Page, name: str) -> Locator:
    return page.locator(".tile").filter(has=page.get_by_text(name, exact=True)).locator("dd").first


def chart(page: Page, title: str) -> Locator:
    return page.locator("figure.chart").filter(has=page.get_by_role("heading", name=title, exact=True))


def canvas_of(page: Page, title: str) -> Locator:
    return chart(page, title).locator("canvas")


def pixels(canvas: Locator) -> str:
    return canvas.evaluate("(canvas) => canvas.toDataURL()")


def test_a_run_is_followed_without_reloading(shapes: Path, runs: Path, address: str, page: Page) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    expect(page.get_by_text("training.train")).to_contain_text(str(runs))
    page.evaluate("window.here = true")
    training = train(shapes, runs / "live", epochs=60)
    try:
        expect(page.get_by_role("heading", name="live", exact=True)).to_be_visible(timeout=2 * MINUTE)
        expect(tile(page, "Epoch")).to_have_text(re.compile(r"^[2-9]\d* / 60$"), timeout=2 * MINUTE)
        expect(page.locator("#link-state")).to_have_text("live")
        expect(tile(page, "Samples a second")).to_have_text(re.compile(r"^\d"))
        expect(tile(page, "GPU")).to_have_text("none")
        before, drawn = tile(page, "Epoch").inner_text(), pixels(canvas_of(page, "Loss"))
        expect(tile(page, "Epoch")).not_to_have_text(before, timeout=MINUTE)
        page.wait_for_function(
            "([title, drawn]) => [...document.querySelectorAll('figure.chart')].find((f) => f.querySelector('h2')"
            ".textContent === title).querySelector('canvas').toDataURL() !== drawn",
            arg=["Loss", drawn],
        )
        page.get_by_role("link", name="Predictions").click()
        where = page.locator(".saved-where")
        expect(where).to_contain_text("Step")
        first = where.inner_text()
        expect(where).not_to_have_text(first, timeout=MINUTE)
        training.send_signal(signal.SIGKILL)
        training.wait()
        page.get_by_role("link", name="Overview").click()
        expect(page.locator(".run-head .badge")).to_have_text("crashed")
        expect(page.locator(".run-head .message")).to_contain_text("goes on from the last checkpoint")
    finally:
        training.kill()
        training.wait()
    shutil.rmtree(runs / "live")
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    assert page.evaluate("window.here") is True


def test_two_runs_are_compared_and_zoomed(finished: Path, runs: Path, address: str, page: Page) -> None:
    shutil.copytree(finished, runs / "one")
    page.goto(address)
    loss = chart(page, "Loss")
    legend = loss.locator(".legend button")
    expect(legend).to_have_count(2)
    expect(page.locator(".run-head .badge")).to_have_text("finished")
    shutil.copytree(finished, runs / "two")
    page.get_by_label(re.compile("Compare (one|two)")).and_(page.locator(":enabled")).check()
    expect(legend).to_have_count(4)
    for name in ("one", "two"):
        values = loss.locator(".legend tbody tr").filter(has=page.get_by_role("button", name=name)).locator("output")
        expect(values).to_have_text([re.compile(r"^[\d.]+$")] * 2)
    expect(page.get_by_role("table", name="Newest numbers").locator("tbody tr")).to_have_count(2)

    drawn, whole = pixels(loss.locator("canvas")), page.get_by_role("button", name="whole")
    legend.first.click()
    expect(legend.first).to_have_attribute("aria-pressed", "false")
    assert pixels(loss.locator("canvas")) != drawn
    box = loss.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 60, steps=5)
    page.mouse.up()
    expect(whole).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("0")
    expect(whole).to_have_attribute("aria-pressed", "true")
    loss.locator(".plot").press("+")
    expect(whole).to_have_attribute("aria-pressed", "false")
    loss.locator(".plot").dblclick()
    expect(whole).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("r")
    expect(page.locator(".run.is-focus .run-name")).to_have_text(re.compile("one|two"))


def test_predictions_say_what_is_right_wrong_and_missing(finished: Path, runs: Path, address: str, page: Page) -> None:
    shutil.copytree(finished, runs / "done")
    page.goto(f"{address}#predictions")
    picture = page.locator(".picture-image")
    expect(picture).to_be_visible()
    page.wait_for_function("document.querySelector('.picture-image').naturalWidth > 0")
    where, lines = page.locator(".saved-where"), page.locator(".tag-line")
    newest = where.inner_text()
    assert re.search(r"(\d+) of \1$", newest)
    page.keyboard.press("ArrowLeft")
    expect(where).not_to_have_text(newest)
    page.keyboard.press("Home")
    expect(where).to_contain_text(re.compile(r" 1 of \d+$"))
    page.keyboard.press("ArrowRight")
    expect(where).to_contain_text(re.compile(r" 2 of \d+$"))
    page.keyboard.press("End")
    expect(where).to_have_text(newest)
    shown = page.get_by_text(re.compile(r"^Picture 1 of \d+$"))
    expect(shown).to_be_visible()
    page.keyboard.press("j")
    expect(page.get_by_text(re.compile(r"^Picture 2 of \d+$"))).to_be_visible()
    page.keyboard.press("k")

    expect(lines.first).to_be_visible()
    values = page.locator(".tag-value").all_inner_texts()
    page.get_by_role("button", name="Initial", exact=True).click()
    expect(page.get_by_text("Bar: initial stage")).to_be_visible()
    assert page.locator(".tag-value").all_inner_texts() != values
    signs = set(page.locator(".tag-line .sign").all_inner_texts())
    assert signs and signs <= {"✓", "✗", "○"}
    page.get_by_role("button", name=re.compile("rightly not said")).click()
    everything = lines.count()
    page.get_by_role("button", name="Only what is wrong").click()
    expect(page.locator(".tag-line:is(.is-correct, .is-absent)")).to_have_count(0)
    page.get_by_role("button", name="Only what is wrong").click()
    page.get_by_label("Filter tags by text").fill("no such tag")
    expect(page.get_by_text("No tag passes these filters.")).to_be_visible()
    page.get_by_label("Filter tags by text").fill("")
    page.get_by_role("button", name=re.compile("rightly not said")).click()
    page.get_by_role("button", name=re.compile("rightly not said")).click()
    page.get_by_label("Use one threshold of my own").check()
    page.get_by_label("Threshold", exact=True).fill("0.99")
    page.get_by_label("Confidence from").fill("1")
    expect(lines).to_have_count(0)
    assert everything > 0


def test_the_selection_is_told_with_its_tags(finished: Path, runs: Path, address: str, page: Page) -> None:
    shutil.copytree(finished, runs / "done")
    page.goto(f"{address}#selection")
    expect(tile(page, "True tags among the selected")).to_have_text(re.compile(r"^[\d.]+ %$"))
    expect(tile(page, "Unique tags")).to_have_text(re.compile(r"^\d+$"))
    for title in ("True tags among the selected", "Probability of selected tags", "Unique tags selected"):
        expect(canvas_of(page, title)).to_be_visible()
    rows = page.locator(".selected tbody tr")
    expect(rows.first).to_contain_text("%")
    everything = rows.count()
    page.get_by_role("button", name="True", exact=True).click()
    expect(page.locator(".selected tbody tr:not(.is-correct)")).to_have_count(0)
    true = rows.count()
    page.get_by_role("button", name="Other", exact=True).click()
    expect(page.locator(".selected tbody tr.is-correct")).to_have_count(0)
    assert 0 < true < everything and rows.count() + true == everything


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_follow_the_systems_colours(
    finished: Path, runs: Path, address: str, new_page: NewPage, width: int, height: int, scheme: str
) -> None:
    shutil.copytree(finished, runs / "a-run-with-a-name-that-is-longer-than-a-phone-is-wide-and-then-some")
    page = new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address)
    for name in PAGES:
        page.get_by_role("navigation").get_by_role("link", name=name.capitalize()).click()
        expect(page.locator("[aria-current=page]")).to_have_text(name.capitalize())
        expect(page.locator("main canvas, main .picture-image").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    bright = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] > 128"
    assert page.evaluate(bright) is (scheme == "light")
    page.get_by_role("button", name="Colours: system").click()
    page.get_by_role("button", name="Colours: light").click()
    assert page.evaluate(bright) is False
    page.reload()
    assert page.evaluate(bright) is False


def test_when_the_monitor_ends_the_page_says_so(
    finished: Path, runs: Path, page: Page, expected_errors: list[str]
) -> None:
    expected_errors += ["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET", "failed request"]
    shutil.copytree(finished, runs / "done")
    process, address = monitor(runs)
    page.goto(address)
    expect(page.locator("#link-state")).to_have_text("live")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    expect(page.locator("#link-state")).to_have_text("monitor not reachable")
    expect(page.get_by_role("heading", name="done")).to_be_visible()
