"""What each word of manage.py runs, once the environment is there."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from gallery.launch import dotenv, embedded, launcher

_OURS = """Manabooru's own words:
    up [--demo] [--host H] [--port P]    start the whole site; Ctrl-C stops it
    test [words for pytest]              set up and run every test
    lint [--fix]                         check the code's style, or put it right
    python [words for python]            run the environment's Python, as in: python -m tagger picture.jpg
    backup FOLDER, restore FOLDER        save the whole site; fill an empty one from that

All the others run against the site that is up, or start its database for as long as they take.
"""
# These need no database.
_ALONE = {"help", "-h", "--help", "version", "--version", "check", "collectstatic", "findstatic", "diffsettings"}
_ATTACH_SECONDS = 30


def run(word: str, argv: list[str]) -> None:
    """Run one command; exits with its code."""
    if word == "up":
        launcher.up(argv[2:])
    elif word == "test":
        from tests import running

        sys.exit(running.run(argv[2:]))
    elif word == "lint":
        sys.exit(lint(fix="--fix" in argv))
    elif word == "python":
        os.execv(sys.executable, [sys.executable, *argv[2:]])
    else:
        _django(word, argv)


def lint(fix: bool) -> int:
    """ruff's rules, then its format, both put right on request; the exit code."""
    ruff = [sys.executable, "-m", "ruff"]
    rules = subprocess.call([*ruff, "check", *(["--fix"] if fix else []), "."], cwd=dotenv.ROOT)
    shape = subprocess.call([*ruff, "format", *([] if fix else ["--check"]), "."], cwd=dotenv.ROOT)
    return rules or shape


def _django(word: str, argv: list[str]) -> None:
    """One of Django's or the gallery's management commands, with servers behind it."""
    servers = None
    try:
        if word not in _ALONE and not {"--help", "-h"} & set(argv[2:]):
            servers = _servers()
        if word in ("help", "-h", "--help") and len(argv) < 3:
            print(_OURS)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gallery.settings")
        from django.core.management import execute_from_command_line

        execute_from_command_line(argv)
    except embedded.EmbeddedError as error:
        sys.exit(str(error))
    except Exception as error:
        if _lacks_tables(error):
            sys.exit(
                "The site's tables are not there yet, or older than the program: run `python3 manage.py up` once, "
                "or `python3 manage.py prepare` where its servers run elsewhere, then this again."
            )
        raise
    finally:
        if servers:
            servers.stop()


def _lacks_tables(error: Exception) -> bool:
    """Whether a command broke off because the database was never brought up to this program."""
    from django.db import ProgrammingError, connection
    from django.db.migrations.executor import MigrationExecutor

    if not isinstance(error, ProgrammingError):
        return False
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _servers() -> embedded.Servers | None:
    """Point the settings at the servers of the site that is up, or start the missing ones until this command ends."""
    if os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"):
        return None
    data = dotenv.data_folder()
    deadline = time.monotonic() + _ATTACH_SECONDS
    while launcher.is_running(data) and time.monotonic() < deadline:
        state = embedded.announced(data)
        if state.get("address"):
            for name in ("DATABASE_URL", "REDIS_URL"):
                os.environ.setdefault(name, state.get(name, ""))
            return None
        time.sleep(0.2)  # it is still starting, or another command has the servers for a moment
    servers = launcher.start_missing_servers(data)
    os.environ.update(servers.environment())
    return servers
