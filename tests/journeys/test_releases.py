"""Releases in the hands of the staff: a real browser, the real stack with two taggers, and a hub on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.people import seed_pictures, sign_in
from tests.journeys.test_reading import bring
from tests.stack import Site, eventually, start
from tests.tagger import releases
from tests.tagger.importing import hub as hubs
from tests.tagger.importing.test_onnx_model import joytag

WORK_MS = 60_000

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hubs.Hub]:
    made = tmp_path_factory.mktemp("joytag")
    joytag(made)
    files = {file.name: file.read_bytes() for file in made.iterdir()} | {"README.md": b"# JoyTag\n" * 2_600_000}
    with hubs.running(hubs.Hub("fancyfeast/joytag", files, {"model.onnx"}, hold={"README.md": 15_000_000})) as running:
        yield running


@pytest.fixture(scope="module")
def site(hub: hubs.Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("releases") / "data"
    running = start(data, "--demo", TAGGER_PROCESSES="2", TAGGER_DEVICE="cpu", HF_ENDPOINT=hub.address)
    yield running
    running.stop()


def test_two_workers_share_the_posts_and_tag_none_twice(site: Site, page: Page) -> None:
    sign_in(page, site)
    page.goto(f"{site.address}/staff/")
    queue = page.locator("#queue")
    expect(queue).to_contain_text("2 workers are there", timeout=WORK_MS)
    expect(queue.locator(".state-waiting dd")).to_have_text("0", timeout=WORK_MS)
    expect(queue.locator(".state-tagging dd")).to_have_text("0", timeout=WORK_MS)
    expect(queue).to_contain_text("posts a second")
    posts, predictions = (
        int(number)
        for number in site.manage(
            "shell", "-c", "from gallery.models import *; print(Post.objects.count(), Prediction.objects.count())"
        ).split()[-2:]
    )
    tagged = {name: done_by(site, name) for name in ("tagging", "tagging-2")}
    assert posts == predictions == sum(tagged.values())
    assert all(tagged.values()), f"one worker did all: {tagged}"
    expect(queue).to_contain_text(re.compile(r"tagging-2@\S+ holds .* in torch fp32; it takes [\d.]+\sMB"))


def done_by(site: Site, name: str) -> int:
    log = (site.data / "logs" / f"{name}.log").read_text(encoding="utf-8")
    return sum(int(number) for number in re.findall(r"tag_waiting\[.*\] succeeded in \S+: (\d+)", log))


def test_a_published_tagger_is_downloaded_cancelled_and_taken_up_again(site: Site, page: Page, hub: hubs.Hub) -> None:
    sign_in(page, site)
    page.goto(f"{site.address}/staff/releases/")
    page.get_by_label("Tagger").select_option(label="JoyTag (Apache-2.0)")
    page.get_by_role("button", name="Download and install").click()
    download = page.get_by_label("Download of JoyTag")
    expect(download).to_contain_text(re.compile(r"1\d\.\d\sMB of 22\.\d\sMB"), timeout=WORK_MS)
    download.get_by_role("button", name="Cancel").click()
    expect(download.locator(".badge")).to_have_text("cancelled")
    log = site.data / "logs" / "long.log"
    assert eventually(lambda: re.search(r"get_release\[.*\] succeeded", log.read_text(encoding="utf-8")) is not None)
    hub.release()
    hub.requests.clear()
    download.get_by_role("button", name="Go on where it stopped").click()
    expect(download.locator(".badge")).to_have_text("installed", timeout=WORK_MS)
    ranges = [wanted for method, path, wanted in hub.requests if method == "GET" and path.endswith("README.md")]
    assert len(ranges) == 1 and ranges[0] is not None, "it did not go on where it stopped"
    download.get_by_role("link", name="JoyTag").click()
    expect(page.get_by_role("heading", name="JoyTag", level=1)).to_be_visible()


def test_a_folder_is_sent_by_the_browser_and_another_found_on_the_server(
    site: Site, page: Page, tmp_path: Path, expected_errors: list[str]
) -> None:
    expected_errors.append("422")
    sent, there = releases.write(tmp_path / "sent").folder, releases.write(tmp_path / "there", seed=1).folder
    sign_in(page, site)
    page.goto(f"{site.address}/staff/releases/")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_bytes((sent / "config.json").read_bytes())
    page.get_by_label("Release folder on this device").set_input_files(tmp_path / "half")
    page.get_by_role("button", name="Send and install").click()
    expect(page.get_by_role("alert")).to_contain_text("lacks its weights")
    page.get_by_label("Release folder on this device").set_input_files(sent)
    page.get_by_role("button", name="Send and install").click()
    expect(page.get_by_role("heading", name="sent (random)")).to_be_visible()
    page.goto(f"{site.address}/staff/releases/")
    page.get_by_label("Release folder on this server").fill("/nowhere")
    page.get_by_role("button", name="Install", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("no release folder at /nowhere")
    page.get_by_label("Release folder on this server").fill(str(there))
    page.get_by_role("button", name="Install", exact=True).click()
    expect(page.get_by_role("heading", name="there (random)")).to_be_visible()


def test_fast_mode_is_checked_by_a_worker_and_stages_change_at_once(site: Site, page: Page) -> None:
    sign_in(page, site)
    page.goto(f"{site.address}/staff/releases/")
    page.get_by_role("link", name="starter 2 (clipart").first.click()
    ways = page.locator("#ways")
    expect(ways).to_contain_text("measured in tagging")
    ways.get_by_label("fast:").check()
    ways.get_by_role("button", name="Run it so").click()
    outcome = ways.get_by_role("status").locator(".message")
    expect(outcome).to_contain_text(re.compile(r"agreed with exact mode on \d+|It stays exact\. \w+"), timeout=WORK_MS)
    fast = "agreed" in outcome.inner_text()
    expect(ways.get_by_label("fast:" if fast else "exact:")).to_be_checked()
    ways.get_by_label("initial only").check()
    ways.get_by_role("button", name="Run it so").click()
    expect(ways).to_contain_text("before their next batch")
    page.goto(f"{site.address}/upload/")
    page.get_by_label("When a picture looks like one that is here").select_option(label="keep both")
    page.locator("#files").set_input_files(new_picture(site))
    expect(page.locator("#upload-rows .upload-tag-list li").first).to_be_visible(timeout=WORK_MS)
    page.goto(f"{site.address}/staff/")
    engine = "torch bf16, fast" if fast else "torch fp32"
    expect(page.locator("#queue")).to_contain_text(re.compile(f"initial stage, in {engine}"), timeout=WORK_MS)


def new_picture(site: Site) -> Path:
    """One that the site doesn't have."""
    from PIL import Image

    path = site.data.parent / "new.png"
    with Image.open(seed_pictures(("OpenMoji",))[0]) as image:
        image.convert("RGB").resize((200, 200)).save(path)
    return path


def test_a_release_is_compared_activated_and_removed(site: Site, page: Page) -> None:
    sign_in(page, site)
    page.goto(f"{site.address}/staff/releases/")
    page.get_by_role("link", name="there (random)").first.click()
    expect(page.locator(".is-current")).to_contain_text(re.compile(r"It knows \d\d tags that starter"))
    page.get_by_role("link", name="Compare with starter").click()
    page.get_by_role("button", name="Tag the sample with it").click()
    expect(page.get_by_role("heading", name="On 100 posts")).to_be_visible(timeout=WORK_MS)
    page.goto(f"{site.address}/staff/releases/")
    page.get_by_role("link", name="there (random)").first.click()
    page.get_by_role("button", name="Activate there").click()
    expect(page.get_by_role("heading", name="Tag again", exact=True)).to_be_visible()
    page.goto(f"{site.address}/staff/releases/")
    page.get_by_role("link", name="sent (random)").first.click()
    page.get_by_text("Remove", exact=True).click()
    page.get_by_role("button", name="Remove it for good").click()
    expect(page.locator("#messages")).to_contain_text("sent (random) is removed")
    assert eventually(lambda: not (site.data / "releases" / "sent").exists(), 10)


def test_a_picture_is_tried_with_every_option_and_leaves_nothing(site: Site, page: Page) -> None:
    sign_in(page, site)
    page.goto(f"{site.address}/try/")
    page.get_by_label("Release").select_option(label="starter 2 (clipart, emoji, avatars)")
    page.get_by_role("button", name="Example 1", exact=True).click()
    tags = page.locator("#try-tags")
    expect(tags).to_be_visible(timeout=WORK_MS)
    refined = page.locator("#try-count").inner_text()
    page.get_by_text("Initial", exact=True).click()
    assert eventually(lambda: page.locator("#try-count").inner_text() != refined, 5)
    page.get_by_label("Profile").select_option("High recall")
    many = tags.locator(".try-tag:visible").count()
    page.get_by_label("Overall").fill("95")
    assert tags.locator(".try-tag:visible").count() < many
    page.get_by_label("Show all").check()
    assert tags.locator(".try-tag.is-off:visible").count() > 0
    page.get_by_label("Minimum confidence").fill("60")
    shown = [int(text.rstrip("%")) for text in tags.locator(".try-tag .number").all_inner_texts()]
    assert all(percent >= 60 for percent in shown)
    page.get_by_label("Minimum confidence").fill("1")
    page.get_by_label("Sort by").select_option("up")
    general = [int(text.rstrip("%")) for text in tags.locator(".c-general .try-tag .number").all_inner_texts()]
    assert general == sorted(general)
    page.get_by_label("Compact view").check()
    expect(tags).to_have_class(re.compile("is-compact"))
    page.get_by_label("Profile").select_option("High recall")
    everything = page.get_by_label("The tags as text").input_value()
    page.locator("[data-pick=general]").uncheck()
    assert page.get_by_label("The tags as text").input_value() != everything
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as .txt").click()
    assert download.value.suggested_filename == "tags.txt"
    page.get_by_role("button", name="Example 1", exact=True).click()
    expect(tags).not_to_have_class(re.compile("is-old"), timeout=WORK_MS)
    bring(page, "drop", *seed_pictures(("DiceBear",)))  # the example pressed before has the focus still
    expect(page.get_by_label("The tags as text")).to_have_value(re.compile("dicebear"), timeout=WORK_MS)
    assert not list((site.data / "trying").iterdir())
