"""Downloads from a hub on this machine, through the hub's own library."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from tagger import release
from tagger.importing import command
from tagger.importing.download import COMMIT, bytes_here, choose_files, download
from tagger.importing.published import CAMIE_V1, COMMITS, JOYTAG, PUBLISHED, offers
from tagger.release import ReleaseError
from tests.stack import eventually
from tests.tagger.importing import hub as hubs
from tests.tagger.importing.test_onnx_model import joytag


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # the trainer's modules set both
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[hubs.Hub]:
    (tmp_path / "made").mkdir()
    joytag(tmp_path / "made")
    files = {file.name: file.read_bytes() for file in (tmp_path / "made").iterdir()}
    files |= {"README.md": b"# JoyTag\n", "model.safetensors": b"not asked for"}
    with hubs.running(hubs.Hub(JOYTAG.repository, files, {"model.onnx"})) as running:
        yield running


def fetch(hub: hubs.Hub, folder: Path, revision: str | None = None) -> str:
    return download(JOYTAG, folder, revision=revision, endpoint=hub.address, tell=lambda line: None)


def bodies(hub: hubs.Hub) -> list[str]:
    """The files that were sent, in order."""
    return [path.rsplit("/", 1)[1] for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path]


def test_a_download_becomes_a_release_that_names_its_commit(
    hub: hubs.Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["joytag", "--download", "--endpoint", hub.address, "--out", str(tmp_path / "release")]
    assert command.main(words) == 0
    assert f"fancyfeast/joytag at commit {hub.commit}" in capsys.readouterr().out
    assert release.read(tmp_path / "release").config["source"] == f"fancyfeast/joytag at commit {hub.commit}"
    assert bodies(hub) == ["model.onnx", "top_tags.txt", "README.md"]
    assert (tmp_path / "release-files" / "top_tags.txt").read_bytes() == hub.files["top_tags.txt"]


def test_what_is_there_and_whole_is_not_fetched_again(hub: hubs.Hub, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path / "files") == hub.commit
    hub.requests.clear()
    assert fetch(hub, tmp_path / "files") == hub.commit
    assert bodies(hub) == []


def test_a_broken_connection_goes_on_where_it_stopped(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.files["model.onnx"] += bytes(25_000_000)  # the hub's library writes in steps of 10 MiB
    hub.cut["model.onnx"] = 15_000_000
    fetch(hub, tmp_path / "files")
    assert (tmp_path / "files" / "model.onnx").read_bytes() == hub.files["model.onnx"]
    ranges = [wanted for method, path, wanted in hub.requests if method == "GET" and path.endswith("model.onnx")]
    assert ranges == [None, f"bytes={10 * 2**20}-"]


def test_a_killed_download_goes_on_where_it_stopped(hub: hubs.Hub, tmp_path: Path) -> None:
    whole = hub.files["model.onnx"] = hub.files["model.onnx"] + bytes(25_000_000)
    hub.hold["model.onnx"] = 15_000_000
    words = ["import", "joytag", "--download", "--endpoint", hub.address, "--from", str(tmp_path / "files")]
    command_line = [sys.executable, "-m", "tagger", *words, "--out", str(tmp_path / "release")]
    process = subprocess.Popen(command_line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert eventually(lambda: bytes_here(tmp_path / "files", ["model.onnx"]) >= 10 * 2**20, 60)
    process.kill()
    process.wait()
    hub.release()
    came = bytes_here(tmp_path / "files", ["model.onnx"])
    hub.requests.clear()
    fetch(hub, tmp_path / "files")
    assert (tmp_path / "files" / "model.onnx").read_bytes() == whole
    ranges = [wanted for method, path, wanted in hub.requests if method == "GET" and path.endswith("model.onnx")]
    assert ranges == [f"bytes={came}-"]


def test_a_part_that_is_too_long_begins_anew(hub: hubs.Hub, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model.onnx.part").write_bytes(b"of another model" * 1_000_000)
    fetch(hub, tmp_path / "files")
    assert (tmp_path / "files" / "model.onnx").read_bytes() == hub.files["model.onnx"]


@pytest.mark.parametrize("name", ["model.onnx", "top_tags.txt"])
def test_a_wrong_checksum_keeps_nothing(hub: hubs.Hub, tmp_path: Path, name: str) -> None:
    hub.damaged.add(name)
    with pytest.raises(ReleaseError, match=f"{name} came damaged.*start the download again"):
        fetch(hub, tmp_path / "files")
    assert not (tmp_path / "files" / name).exists()
    hub.damaged.clear()
    fetch(hub, tmp_path / "files")
    assert (tmp_path / "files" / name).read_bytes() == hub.files[name]


def test_what_the_hub_lacks_is_a_sentence(hub: hubs.Hub, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no revision v9; choose one with --revision, such as --revision main"):
        fetch(hub, tmp_path, "v9")
    del hub.files["top_tags.txt"]
    with pytest.raises(ReleaseError, match="has no top_tags.txt at this revision"):
        fetch(hub, tmp_path)
    hub.repository = "somebody/else"
    with pytest.raises(ReleaseError, match="no public repository fancyfeast/joytag"):
        fetch(hub, tmp_path)


def test_without_a_hub_the_download_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="hub can't be reached .* on the network, then start again"):
        download(JOYTAG, tmp_path, endpoint="http://127.0.0.1:9", tell=lambda line: None)


def test_progress_is_said_in_lines_of_json(hub: hubs.Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["joytag", "--download", "--progress", "--endpoint", hub.address, "--out", str(tmp_path / "release")]
    assert command.main(words) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    sizes = {name: len(hub.files[name]) for name in ("model.onnx", "top_tags.txt", "README.md")}
    assert said == [{"files": sizes}, {"files": None}]
    assert bytes_here(tmp_path / "release-files", sizes) == sum(sizes.values())


def test_every_offer_is_a_tagger_known_by_name() -> None:
    keys = [offer.key for offer in offers()]
    assert len(set(keys)) == len(keys) == 10
    assert {offer.kind for offer in offers()} == set(PUBLISHED)
    assert all(release.NAME.fullmatch(key) for key in keys)


def test_every_offer_is_of_one_commit_unless_another_revision_is_asked_for(hub: hubs.Hub, tmp_path: Path) -> None:
    assert {offer.repository for offer in offers()} == set(COMMITS)
    assert all(COMMIT.fullmatch(commit) for commit in COMMITS.values())
    hub.commit = "f" * 40
    with pytest.raises(ReleaseError, match=f"has no revision {JOYTAG.revision}; .* such as --revision main"):
        fetch(hub, tmp_path / "files")
    assert fetch(hub, tmp_path / "files", "main") == hub.commit
    assert fetch(hub, tmp_path / "files", "f" * 40) == hub.commit


def test_a_download_begun_goes_on_with_its_commit(hub: hubs.Hub, tmp_path: Path) -> None:
    """The branch moved on between the two; half of each would be neither."""
    first, hub.damaged = hub.commit, {"top_tags.txt"}
    with pytest.raises(ReleaseError, match="top_tags.txt came damaged"):
        fetch(hub, tmp_path, "main")
    hub.damaged, hub.tip = set(), "e" * 40
    assert fetch(hub, tmp_path, "main") == first
    hub.commit = hub.tip
    assert fetch(hub, tmp_path, "main") == hub.tip  # done: the next one begins anew


def test_a_hub_that_answers_with_another_commit_is_refused(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.pretends = "d" * 40
    with pytest.raises(ReleaseError, match=f"answers with commit {'d' * 40} .* asked for {JOYTAG.revision}"):
        fetch(hub, tmp_path / "files")
    assert not (tmp_path / "files").exists()


def test_either_published_place_will_do() -> None:
    weights = CAMIE_V1.files[0][0]
    assert choose_files(CAMIE_V1, dict.fromkeys([weights, "metadata.json", "thresholds.json"])) == [
        weights,
        "metadata.json",
        "thresholds.json",
    ]
    folder = dict.fromkeys([weights, "model/metadata.json", "model/thresholds.json", "README.md"])
    assert choose_files(CAMIE_V1, folder) == [weights, "model/metadata.json", "model/thresholds.json", "README.md"]


def test_only_known_taggers_can_be_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.json").write_text("{}")
    words = ["onnx", "--download", "--descriptor", str(tmp_path / "d.json"), "--out", str(tmp_path / "release")]
    assert command.main(words) == 2
    assert "Only the taggers known by name" in capsys.readouterr().err
