"""The grown-up site can't run in the tests, so its parts are compared with what exists."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from celery import Celery
from celery.bin.celery import celery as celery_words
from django.conf import settings
from django.core.management import get_commands
from granian.cli import cli as granian_options

from gallery.launch import launcher, tagging
from gallery.launch.dotenv import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == "manabooru")
_KEYS = {"image", "build", "env_file", "environment", "volumes", "restart", "depends_on", "command", "profiles"}
_KEYS |= {"healthcheck", "stop_grace_period", "deploy", "ports", "shm_size"}


def _command(name: str) -> list[str]:
    return shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", SERVICES[name]["command"]))


def test_compose_file_fits_the_schema() -> None:
    schema = json.loads((Path(__file__).parent / "compose_schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(COMPOSE, schema)
    for name in SERVICES:
        broken = {**COMPOSE, "services": {**SERVICES, name: {**SERVICES[name], "comand": "x"}}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def _words_of_launcher() -> dict[str, list[str]]:
    return {
        "web": launcher.web_server("0.0.0.0", 8000),
        "worker-default": tagging.worker("default", 2),
        "worker-long": tagging.worker("long", 4),
    }


def test_has_every_part_of_the_site():
    roles = {"web", "worker", "worker-gpu", "beat", "postgres", "redis", "proxy", "prepare"}
    roles |= {"worker-default", "worker-long"}
    assert set(SERVICES) == roles
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_well_formed(name):
    service = SERVICES[name]
    assert set(service) <= _KEYS
    assert service.get("restart") in ("unless-stopped", "no")
    if name != "prepare":  # it ends by itself
        assert set(service["healthcheck"]) <= {"test", "interval", "timeout", "retries", "start_period"}
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    for other, condition in service.get("depends_on", {}).items():
        awaited = condition["condition"]
        assert other in SERVICES
        assert awaited != "service_healthy" or "healthcheck" in SERVICES[other]
        assert awaited in ("service_healthy", "service_completed_successfully")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_command_exists(name):
    words = _command(name)
    if words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]) is not None
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
        assert words[2] in get_commands()
    elif words[0] == "granian":
        options = {option for parameter in granian_options.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options | {"--no-ws", "--respawn-failed-workers"}
        assert words[-1] == "gallery.wsgi:application"
    else:
        assert words[:3] == ["celery", "-A", "gallery"]
        options = {option for parameter in celery_words.commands[words[3]].params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words[4:] if word.startswith("-")} <= options


@pytest.mark.parametrize("name", ["web", "worker-default", "worker-long"])
def test_command_is_the_launchers(name):
    launched = _words_of_launcher()[name]
    own = {"--workers", "--host", "--port", "--workers-kill-timeout", "--quiet"}
    flags = {word for word in launched if word.startswith("--")} - own
    assert flags <= set(_command(name))
    assert launched[-1] in _command(name)


def test_celery_finds_the_site():
    from celery.app.utils import find_app

    app = find_app("gallery")
    assert isinstance(app, Celery)
    assert app.conf.broker_url == settings.CELERY_BROKER_URL


def test_every_variable_is_in_the_example():
    example = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.M))
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT))
    assert used <= example


def test_every_setting_is_in_the_example():
    source = (ROOT / "gallery/settings.py").read_text(encoding="utf-8")
    named = set(re.findall(r"_(?:text|integer|choice|flag|list)\(\s*\"([A-Z_]+)\"", source))
    named |= {"MANABOORU_DATA", "MANABOORU_TORCH", "MANABOORU_TORCH_INDEX"}
    example = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.M))
    assert named - example == set()


def test_proxy_serves_the_folder_that_the_site_writes():
    conf = (ROOT / "deploy/nginx.conf").read_text(encoding="utf-8")
    assert "internal;" in conf
    assert f"alias /data/{settings.MEDIA_ROOT.relative_to(settings.DATA_DIR)}/;" in conf
    assert SERVICES["web"]["environment"]["MANABOORU_DATA"] == "/data"
    assert "server web:8000;" in conf


def test_image_copies_only_what_is_there():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    assert "USER manabooru" in dockerfile


def test_image_holds_all_that_the_installation_imports():
    copied = re.findall(r"^COPY (gallery/.*) gallery/(?:launch/)?$", (ROOT / "Dockerfile").read_text("utf-8"), re.M)
    there = {path.removesuffix(".py").replace("/", ".") for files in copied for path in files.split()}
    script = (
        "import sys; from gallery.launch.bootstrap import install; print(*[m for m in sys.modules if 'gallery.' in m])"
    )
    result = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    needed = {name if name != "gallery.launch" else "gallery.launch.__init__" for name in result.stdout.split()}
    assert needed and needed <= there
