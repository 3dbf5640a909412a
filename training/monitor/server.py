"""The monitor's HTTP server: a page, its files, and what runs say, all of it read-only.

/                      the page                    /static/NAME           its files, by a fixed list
/api/live              the runs, and what is new in the metrics of those asked for
                       (?run=NAME&at=CURSOR ..., in pairs; a cursor is GENERATION,KIND=POINTS,...)
/api/zoom              ?run=NAME&kind=train&from=STEP&to=STEP: rows between two steps, less thinned
/api/samples           ?run=NAME: what was saved     /api/sample ?run=NAME&name=FILE: one of it
/picture               ?run=NAME&name=FILE: a picture beside the samples
/health                200 while it runs
"""

import json
import socket
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from training.monitor import samples
from training.monitor.access import Access, comes_from_elsewhere
from training.monitor.runs import Run, Runs, Unreadable

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
MOST_COMPARED = 12
SECONDS_TO_READ = 0.6  # of metrics in one answer; a long file comes in several


class Refused(Exception):
    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def not_found(sentence: str) -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, sentence)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], folders: Sequence[Path], access: Access) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)
        self.access = access
        self.runs = Runs(folders)
        self.files = {file.relative_to(STATIC).as_posix(): file for file in STATIC.rglob("*") if file.suffix in TYPES}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in the middle of an answer is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "monitor", ""
    timeout = 60

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        words = parse_qs(parts.query, keep_blank_values=True)
        try:
            self.guard()
            if parts.path == "/" and "token" in words:
                self.sign_in(words["token"][0])
            elif parts.path != "/health" and not self.server.access.has_token(self.headers.get("Cookie")):
                raise Refused(HTTPStatus.UNAUTHORIZED, "Open the monitor by the whole address printed at its start.")
            else:
                self.answer(parts.path, words)
        except Refused as refused:
            self.send_refusal(refused)
        except Unreadable as error:
            self.send_refusal(Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)))
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    do_HEAD = do_GET

    def refuse_to_write(self) -> None:
        self.send_refusal(Refused(HTTPStatus.METHOD_NOT_ALLOWED, "The monitor only reads."))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = refuse_to_write

    def guard(self) -> None:
        headers = self.headers
        if not self.server.access.knows(headers.get("Host")):
            raise Refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This address is not known here; use the one printed at the start, or start with --allow-host NAME.",
            )
        if comes_from_elsewhere(headers.get("Sec-Fetch-Site"), headers.get("Sec-Fetch-Dest")):
            raise Refused(HTTPStatus.FORBIDDEN, "Other sites may not read the monitor; open its address yourself.")

    def sign_in(self, token: str) -> None:
        access = self.server.access
        if access.token and not access.is_token(token):
            raise Refused(HTTPStatus.UNAUTHORIZED, "That token is not right; copy the whole address printed at start.")
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        if access.token:
            self.send_header("Set-Cookie", f"{access.cookie}={access.token}; HttpOnly; SameSite=Strict; Path=/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, path: str, words: dict[str, list[str]]) -> None:
        name = "index.html" if path == "/" else path.removeprefix("/static/")
        if path == "/" or path.startswith("/static/"):
            if name not in self.server.files:
                raise not_found("There is no such file.")
            file = self.server.files[name]
            self.send(file.read_bytes(), TYPES[file.suffix])
        elif path == "/picture":
            body, kind = samples.picture(self.run_of(words), one(words, "name"))
            self.send(body, kind, cached=True)
        elif path == "/health":
            self.send(b"ok\n", TYPES[".txt"])
        else:
            answers = {
                "/api/live": self.live,
                "/api/zoom": self.zoom,
                "/api/samples": self.samples,
                "/api/sample": self.sample,
            }
            if path not in answers:
                raise not_found("There is no such page; the monitor's page is /.")
            body = json.dumps(answers[path](words), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            self.send(body.encode("utf-8", "replace"), "application/json")

    def run_of(self, words: dict[str, list[str]]) -> Run:
        run = self.server.runs.get(one(words, "run"))
        if not run:
            raise not_found("There is no such run; it may have been deleted.")
        return run

    # what the page asks for

    def live(self, words: dict[str, list[str]]) -> dict[str, Any]:
        now, runs = time.time(), self.server.runs.all()
        asked = list(zip(words.get("run", []), words.get("at", []), strict=False))[:MOST_COMPARED]
        news = {}
        for name, cursor in asked:
            if name in runs:
                metrics = runs[name].metrics
                with metrics.lock:
                    metrics.read(SECONDS_TO_READ / len(asked))
                    news[name] = metrics.since(*parse_cursor(cursor))
        return {
            "now": now,
            "folders": [str(folder) for folder in self.server.runs.folders],
            "runs": [run.about(now) for run in runs.values()],
            "metrics": news,
        }

    def zoom(self, words: dict[str, list[str]]) -> dict[str, Any]:
        run, (low, high) = self.run_of(words), (number(words, "from"), number(words, "to"))
        with run.metrics.lock:
            return {"columns": run.metrics.zoom(one(words, "kind"), low, high)}

    def samples(self, words: dict[str, list[str]]) -> dict[str, Any]:
        return {"saved": samples.saved(self.run_of(words))}

    def sample(self, words: dict[str, list[str]]) -> dict[str, Any]:
        return samples.read(self.run_of(words), one(words, "name"))

    # answers

    def send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, cached: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "private, max-age=60" if cached else "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_refusal(self, refused: Refused) -> None:
        self.close_connection = True
        self.send(f"{refused.sentence}\n".encode(), TYPES[".txt"], refused.status)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """The console belongs to whoever watches the training there."""


def one(words: dict[str, list[str]], name: str) -> str:
    if name not in words:
        raise Refused(HTTPStatus.BAD_REQUEST, f"Say which with ?{name}=.")
    return words[name][0]


def number(words: dict[str, list[str]], name: str) -> float:
    try:
        return float(one(words, name))
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name} is a number.") from error


def parse_cursor(text: str) -> tuple[int, dict[str, int]]:
    """`GENERATION,KIND=POINTS,...`; whatever cannot be read means: from the start."""
    generation, *known = text.split(",")
    points = dict(pair.rsplit("=", 1) for pair in known if "=" in pair)
    whole = {kind: int(count) for kind, count in points.items() if count.isascii() and count.isdigit()}
    return (int(generation) if generation.isascii() and generation.isdigit() else -1), whole
