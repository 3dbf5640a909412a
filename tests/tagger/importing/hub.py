"""A hub on this machine that answers as the real one does, for one repository of small files."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tagger.importing.published import COMMITS

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Has one `commit`, the pinned one of a repository that has one; `main` stands for it, or for `tip`.

    `pretends` is a commit that it names whatever it was asked for.

    `cut` maps a file to how many bytes its next answers carry before the connection breaks, once each.

    `hold` maps one to how many bytes it sends before it waits for `release`.
    """

    repository: str
    files: dict[str, bytes]
    large: set[str]
    cut: dict[str, int] = field(default_factory=dict)
    hold: dict[str, int] = field(default_factory=dict)
    free: threading.Event = field(default_factory=threading.Event)
    damaged: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    address: str = ""
    commit: str = ""
    tip: str = ""
    pretends: str = ""

    def __post_init__(self) -> None:
        self.commit = self.commit or COMMITS.get(self.repository, COMMIT)

    def release(self) -> None:
        """Let held files go on, and hold none any more."""
        self.hold.clear()
        self.free.set()

    def listing(self) -> dict[str, object]:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob_id(content)}
            if name in self.large:
                entry["lfs"] = {"sha256": checksum(content), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {
            "_id": "1",
            "id": self.repository,
            "modelId": self.repository,
            "sha": self.pretends or self.commit,
            "siblings": siblings,
        }


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blob_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        asked = path.removeprefix(f"/api/models/{self.hub.repository}/revision/")
        if (self.hub.tip or self.hub.commit if asked == "main" else asked) == self.hub.commit:
            return self.send(200, json.dumps(self.hub.listing()).encode(), {"Content-Type": "application/json"}, True)
        prefix = f"/{self.hub.repository}/resolve/{self.hub.commit}/"
        if path.startswith(prefix) and path.removeprefix(prefix) in self.hub.files:
            return self.send_file(path.removeprefix(prefix), with_body)
        error = "RevisionNotFound" if self.hub.repository in path else "RepoNotFound"
        return self.send(404, b"{}", {"X-Error-Code": error}, with_body)

    def send_file(self, name: str, with_body: bool) -> None:
        content = self.hub.files[name]
        etag = checksum(content) if name in self.hub.large else blob_id(content)
        headers = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if name in self.hub.large:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if name in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        status, wanted = 200, self.headers.get("Range")
        if wanted:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status, content = 206, content[start:]
        if with_body and name in self.hub.hold:
            self.send_slowly(status, content, headers, self.hub.hold[name])
        else:
            self.send(status, content, headers, with_body, self.hub.cut.pop(name, None) if with_body else None)

    def send_slowly(self, status: int, body: bytes, headers: dict[str, str], first: int) -> None:
        self.send(status, body, headers, with_body=False)
        try:
            self.wfile.write(body[:first])
            self.wfile.flush()
            self.hub.free.wait(60)
            self.wfile.write(body[first:])
        except OSError:  # whoever asked has gone
            self.close_connection = True

    def send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfHub", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
