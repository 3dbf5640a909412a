"""The monitor's server over real HTTP: what it tells, and what it refuses."""

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.monitor import __main__ as command
from training.monitor.access import Access
from training.monitor.server import Server
from training.run import RunFolder


class Client:
    def __init__(self, server: Server) -> None:
        self.port = server.server_address[1]

    def __call__(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Host": f"localhost:{self.port}", **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def json(self, path: str) -> Any:
        status, _, body = self(path)
        assert status == 200, body
        return json.loads(body)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs/first")
    folder.make()
    folder.update(status="training", step=3, steps=10)
    for step in (1, 2, 3):
        folder.record("train", step=step, loss=1 / step)
    pictures = folder.folder / "samples/pictures"
    pictures.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(pictures / "black.jpg")
    columns = {"tags": ["cat", "dog"], "categories": ["general", "meta"], "truth": [1, None], "refined": [0.9, 0.2]}
    sample = {"md5": "0" * 32, "picture": "pictures/black.jpg", "true": ["cat", "rare"], "predicted": columns}
    folder.write_json(
        "samples/step-0000003-validation.json",
        {
            "kind": "validation",
            "step": 3,
            "epoch": 1,
            "thresholds": {"refined": {"overall": 0.4}},
            "samples": [{**sample, "selected": columns | {"initial": [0.8, 0.1]}}, {"md5": None}],
        },
    )
    return folder


def serve(folder: Path, **access: Any) -> Iterator[Client]:
    server = Server(("127.0.0.1", 0), [folder], Access.of("127.0.0.1", **access))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield Client(server)
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(run: RunFolder, tmp_path: Path) -> Iterator[Client]:
    yield from serve(tmp_path / "runs")


@pytest.fixture
def locked(run: RunFolder, tmp_path: Path) -> Iterator[Client]:
    yield from serve(tmp_path / "runs", token="a-long-secret-token")


def test_the_page_and_all_it_loads_come_from_here(client: Client) -> None:
    status, headers, body = client("/")
    assert status == 200 and "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and "server-timing" not in headers
    text = body.decode()
    assert "http://" not in text and "https://" not in text and "<script>" not in text and "style=" not in text
    for name in (part.split('"')[0] for part in text.replace('href="', 'src="').split('src="')[1:]):
        if name.startswith("static/"):
            assert client(f"/{name}")[0] == 200, name
    assert client("/static/vendor/uplot-LICENSE.txt")[0] == 200


def test_live_tells_the_runs_and_only_what_is_new(client: Client, run: RunFolder) -> None:
    told = client.json("/api/live?run=first&at=0")
    assert told["runs"][0]["name"] == "first" and told["runs"][0]["state"]["step"] == 3
    metrics = told["metrics"]["first"]
    assert metrics["kinds"]["train"]["columns"]["step"] == [1, 2, 3]
    run.record("train", step=4, loss=0.1)
    again = client.json(f"/api/live?run=first&at={metrics['generation']},train=3")
    assert again["metrics"]["first"]["kinds"]["train"]["columns"] == {"step": [4], "loss": [0.1]}
    assert client.json("/api/live?run=nobody&at=,,x=y=3&run=first&at=-%00")["metrics"].keys() == {"first"}


def test_samples_are_told_as_rows(client: Client) -> None:
    (saved,) = client.json("/api/samples?run=first")["saved"]
    assert (saved["step"], saved["kind"]) == (3, "validation")
    told = client.json(f"/api/sample?run=first&name={saved['name']}")
    picture, bare = told["pictures"]
    tags = {tag["name"]: tag for tag in picture["tags"]}
    assert tags["cat"] == {
        "name": "cat",
        "category": "general",
        "truth": True,
        "refined": 0.9,
        "initial": 0.8,
        "place": 0,
    }
    assert tags["dog"]["truth"] is None and tags["rare"]["truth"] is True
    assert picture["selects"] and told["thresholds"] == {"refined": {"overall": 0.4}}
    assert bare["tags"] == [] and bare["picture"] is None
    status, headers, body = client("/picture?run=first&name=black.jpg")
    assert status == 200 and headers["content-type"] == "image/jpeg" and body[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/../../etc/passwd", "/nothing",
        "/api/sample?run=first&name=../state.json", "/api/sample?run=first&name=%2e%2e%2fstate.json",
        "/api/sample?run=../first&name=x", "/api/sample?run=first", "/api/sample?run=first&name=link.json",
        "/picture?run=first&name=../../state.json", "/picture?run=first&name=/etc/passwd",
        "/picture?run=first&name=page.jpg", "/picture?run=first&name=.hidden.jpg", "/picture?run=first&name=%00",
        "/api/zoom?run=first&kind=train&from=x&to=2", "/api/samples", "/api/samples?run=nobody",
        "/api/sample?run=first&name=step-9-train.json",
    ],
)  # fmt: skip
def test_nothing_else_can_be_had(client: Client, run: RunFolder, path: str) -> None:
    samples = run.folder / "samples"
    (samples / "link.json").symlink_to(run.folder / "state.json")
    (samples / "pictures/page.jpg").write_text("<script>alert(1)</script>")
    (samples / "pictures/.hidden.jpg").write_bytes(b"\xff\xd8\xff")
    (samples / "step-9-train.json").write_text("{ half")
    status, headers, body = client(path)
    assert status in (400, 404, 422) and headers["content-type"].startswith("text/plain")
    assert b"status" not in body and b"root" not in body and b"import" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(client: Client, method: str) -> None:
    assert client("/api/live", method)[0] == 405


def test_other_names_and_other_sites_are_refused(client: Client) -> None:
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:5000", ""):
        assert client("/api/live", Host=host)[0] == 421, host
    for host in ("localhost", "127.0.0.1:5000", "[::1]:5000", "LOCALHOST:80"):
        assert client("/api/live", Host=host)[0] == 200, host
    assert client("/api/live", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="empty")[0] == 403
    assert client("/picture?run=first&name=black.jpg", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="image")[0] == 403
    assert client("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document")[0] == 200
    assert client("/api/live", Sec_Fetch_Site="same-origin", Sec_Fetch_Dest="empty")[0] == 200


def test_with_a_token_nothing_is_told_without_it(locked: Client) -> None:
    for path in ("/", "/api/live", "/api/live?token=a-long-secret-token", "/static/main.js", "/picture?token=x"):
        assert locked(path)[0] == 401, path
    assert locked("/?token=wrong")[0] == 401
    assert locked("/health")[0] == 200
    status, headers, _ = locked("/?token=a-long-secret-token")
    assert status == 303 and headers["location"] == "/"
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]
    cookie = headers["set-cookie"].split(";")[0]
    assert locked("/api/live", Cookie=cookie)[0] == 200
    assert locked("/api/live", Cookie=cookie + "x")[0] == 401


def test_other_machines_need_a_token_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def token(*words: str) -> str:
        return command.choose_token(command.parse(words))

    assert token() == token("--host", "localhost") == token("--host", "::1") == ""
    assert len(token("--host", "0.0.0.0")) > 20 and token("--host", "0.0.0.0") != token("--host", "0.0.0.0")
    assert token("--host", "0.0.0.0", "--no-token") == ""
    assert token("--token")
    monkeypatch.setenv("MONITOR_TOKEN", "chosen-by-a-person")
    assert token("--host", "0.0.0.0") == token() == "chosen-by-a-person"
    monkeypatch.setenv("MONITOR_TOKEN", "short; bad")
    with pytest.raises(SystemExit, match="12 or more letters"):
        token("--host", "0.0.0.0")


def test_damaged_state_is_said_not_thrown(client: Client, run: RunFolder) -> None:
    (run.folder / "state.json").write_text("{ half")
    told = client.json("/api/live")
    assert "cannot be read" in told["runs"][0]["sentence"]
    run.write_json("state.json", ["a", "list"])
    assert client.json("/api/live")["runs"][0]["state"] == {}


def test_the_monitor_needs_neither_torch_nor_django_nor_anything_installed(run: RunFolder) -> None:
    script = (
        "import sys; sys.path.insert(0, '.'); import training.monitor.__main__; "
        "print(sorted(name for name in ('torch', 'django', 'numpy', 'PIL', 'gallery') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_port_in_use_is_said(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--port", str(client.port)]) == 1
    assert "try another --port" in capsys.readouterr().err
