"""Watch trainings in a browser.

    python -m training.monitor runs/ [more folders] [--port 5000] [--host 127.0.0.1]

A folder is a run's own, or holds runs; it need not be there yet. By default only this machine's browsers can open the
page (from elsewhere: ssh -L 5000:localhost:5000 MACHINE). With another --host an address with a token is printed.
"""

import argparse
import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from training.monitor.access import Access, is_loopback
from training.monitor.server import Server

TOKEN = "MONITOR_TOKEN"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.monitor", description="Watch trainings in a browser, from their run folders alone."
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("runs")], help="run folders, or folders of them")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; by default this machine's own")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on, 0 for a free one")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="another name of this host")
    parser.add_argument(
        "--token", action="store_true", help=f"ask for a token on this machine, too; {TOKEN} in the environment sets it"
    )
    parser.add_argument(
        "--no-token", action="store_true", help="let everybody who reaches --host see pictures and numbers"
    )
    return parser.parse_args(arguments)


def choose_token(chosen: argparse.Namespace) -> str:
    """Asked for wherever more than this machine can connect, unless told otherwise."""
    if chosen.no_token or (is_loopback(chosen.host) and not chosen.token and TOKEN not in os.environ):
        return ""
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    if not re.fullmatch(r"[\w-]{12,}", token, re.ASCII):
        raise SystemExit(f"monitor: {TOKEN} has to be 12 or more letters, digits, - or _")
    return token


def address(server: Server, host: str, token: str) -> str:
    shown = "localhost" if is_loopback(host) else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{server.server_address[1]}/" + (f"?token={token}" if token else "")


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parse(arguments)
    token = choose_token(chosen)
    access = Access.of(chosen.host, token, chosen.allow_host, chosen.port)
    try:
        server = Server((chosen.host, chosen.port), chosen.folders, access)
    except (OSError, OverflowError) as error:
        print(f"monitor: cannot listen on {chosen.host}:{chosen.port} ({error}); try another --port", file=sys.stderr)
        return 1
    if not is_loopback(chosen.host):
        who = "everybody who reaches it" if not token else "whoever has this address"
        print(f"monitor: WARNING: other machines can connect, unencrypted; {who} sees the pictures and numbers.")
    print(f"monitor: {', '.join(map(str, chosen.folders))} at {address(server, chosen.host, token)}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
