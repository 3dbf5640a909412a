"""The installation, with tiny packages of our own in a folder in place of the index."""

from __future__ import annotations

import ast
import base64
import hashlib
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from gallery.launch import bootstrap, dotenv, installing
from gallery.launch.installing import SetupError, Torch
from tests.stack import environment

MANAGE = dotenv.ROOT / "manage.py"


def _wheel(folder: Path, name: str, version: str) -> str:
    """A package with one module that knows its version; its sha256."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for path, text in files.items()
    }
    record = "".join(f"{path},sha256={digests[path]},{len(text)}\n" for path, text in files.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(file, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """Requirements of one package beside torch, whose wheels lie in a folder; returns that folder."""
    wheels, requirements = tmp_path / "wheels", tmp_path / "requirements"
    wheels.mkdir()
    requirements.mkdir()
    mini, wrong = _wheel(wheels, "mini", "1.0"), "0" * 64
    _wheel(wheels, "torch", "2.14.1+cpu")
    _wheel(wheels, "torchvision", "0.29.1+cpu")
    lines = [f"mini==1.0 \\\n    --hash=sha256:{mini}"]
    for package in ("nvidia-cudnn==9.1", "torch==2.14.1", "torchvision==0.29.1", "triton==3.8 ; sys_platform == 'x'"):
        lines.append(f"{package} \\\n    --hash=sha256:{wrong}")
    (requirements / "base.txt").write_text("\n".join(lines) + "\n")
    (requirements / "uv.txt").write_text(f"uv==0.0.0 \\\n    --hash=sha256:{wrong}\n")
    monkeypatch.setattr(bootstrap, "REQUIREMENTS", requirements)
    monkeypatch.setattr(installing, "REQUIREMENTS", requirements)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_NO_CACHE", "1")
    return wheels


def _says(folder: Path, script: str) -> str:
    command = [folder / "bin/python", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_cpu_torch_comes_from_its_own_index_without_cuda(offline):
    torch = Torch("cpu", str(offline))
    folder = bootstrap.environment_folder(torch)
    bootstrap.ensure(folder, torch, dev=False)
    assert _says(folder, "import mini, torch, torchvision as v; print(mini.__version__, torch.__version__)") == (
        "1.0 2.14.1+cpu"
    )
    began = time.monotonic()
    bootstrap.ensure(folder, torch, dev=False)
    assert time.monotonic() - began < 0.5


def test_an_interrupted_installation_is_done_again_and_old_ones_go(offline):
    torch = Torch("cpu", str(offline))
    folder = bootstrap.environment_folder(torch)
    old, recent = folder.with_name("venv-old"), folder.with_name("venv-recent")
    for other, age in ((old, 90), (recent, 1)):
        other.mkdir(parents=True)
        (other / "manabooru-base").touch()
        os.utime(other / "manabooru-base", times=(time.time() - age * 86400,) * 2)
    (folder / "bin").mkdir(parents=True)
    (folder / "half").touch()
    bootstrap.ensure(folder, torch, dev=False)
    assert not (folder / "half").exists()
    assert _says(folder, "import mini; print(mini.__version__)") == "1.0"
    assert not old.exists()
    assert recent.exists()


def test_a_package_with_another_hash_is_refused_with_a_sentence(offline):
    _wheel(offline, "mini", "1.0")
    wheel = offline / "mini-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes() + b"changed")
    torch = Torch("cpu", str(offline))
    with pytest.raises(SetupError, match="could not be installed .*install.log"):
        bootstrap.ensure(bootstrap.environment_folder(torch), torch, dev=False)


def test_no_network_is_one_sentence(offline, monkeypatch):
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "UV_NO_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    torch = Torch("cpu", str(offline))
    with pytest.raises(SetupError, match="package index can't be reached: connect this machine"):
        bootstrap.ensure(bootstrap.environment_folder(torch), torch, dev=False)


def test_a_cache_that_cannot_be_written_is_one_sentence(offline, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SetupError, match="can't be written .* XDG_CACHE_HOME"):
        bootstrap.ensure(bootstrap.environment_folder(Torch()), Torch(), dev=False)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(installing, "_NEEDED_GIB", {"cuda": 10**6, "cpu": 10**6})
    with pytest.raises(SetupError, match="make room, or set XDG_CACHE_HOME .* or choose the CPU build"):
        installing.check_space(tmp_path, Torch())


def test_an_environment_can_be_made_without_the_venv_module(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "venv", None)
    monkeypatch.setattr(installing.importlib.util, "find_spec", lambda name: None)
    installing.make_environment(tmp_path / "own")
    assert _says(tmp_path / "own", "import sys; print(sys.prefix)") == str(tmp_path / "own")


def test_another_torch_is_another_environment(offline):
    folders = {bootstrap.environment_folder(torch) for torch in (Torch(), Torch("cpu", "a"), Torch("cpu", "b"))}
    assert len(folders) == 3
    (bootstrap.REQUIREMENTS / "base.txt").write_text("mini==2.0\n")
    assert bootstrap.environment_folder(Torch()) not in folders


def test_torch_settings_are_checked(monkeypatch):
    monkeypatch.setenv("MANABOORU_TORCH", "cpu")
    with pytest.raises(SetupError, match="MANABOORU_TORCH_INDEX too"):
        Torch.chosen()
    monkeypatch.setenv("MANABOORU_TORCH", "rocm")
    with pytest.raises(SetupError, match="give cuda or cpu"):
        Torch.chosen()


def test_real_requirements_without_cuda(tmp_path):
    copy, pinned = installing._without_cuda(installing.REQUIREMENTS / "base.txt", tmp_path / "cpu.txt")
    names = {line.split("==")[0] for line in copy.read_text().splitlines() if line and line[0] not in " #"}
    assert names >= {"django", "deepspeed", "celery"}
    assert not {name for name in names if name.startswith(("nvidia", "cuda", "torch", "triton"))}
    assert [pin.split("==")[0] for pin in pinned] == ["torch", "torchvision"]


def test_requirements_agree_and_name_no_index():
    base, dev = bootstrap.pins("base"), bootstrap.pins("dev")
    assert {name: dev.get(name) for name in base} == base
    for path in bootstrap.REQUIREMENTS.glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert text.count("==") <= text.count("--hash=")


def test_any_python_can_read_manage_py_and_is_told_which_one_it_needs(tmp_path):
    ast.parse(MANAGE.read_text(encoding="utf-8"), feature_version=(3, 4))
    script = (
        "import runpy, sys; sys.version_info = (3, 9, 2, 'final', 0); "
        f"sys.argv = ['manage.py', 'up']; runpy.run_path({str(MANAGE)!r}, run_name='__main__')"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": str(tmp_path)})
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "needs Python 3.11 or newer and this is Python 3.9: install" in result.stderr


def test_dotenv_fills_what_is_not_set(tmp_path, monkeypatch):
    (tmp_path / "env").write_text("# words\nSITE_NAME = 'Art'\nPAGE_SIZE=7\n\nnonsense\n")
    monkeypatch.setenv("MANABOORU_ENV_FILE", str(tmp_path / "env"))
    monkeypatch.setenv("PAGE_SIZE", "9")
    monkeypatch.delenv("SITE_NAME", raising=False)
    dotenv.read()
    assert (os.environ["SITE_NAME"], os.environ["PAGE_SIZE"]) == ("Art", "9")
    monkeypatch.delenv("SITE_NAME")


def test_commands_tell_their_words(tmp_path):
    command = [sys.executable, str(MANAGE), "help"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path / "data"), check=True)
    assert "up [--demo]" in result.stdout
    assert "migrate" in result.stdout


def test_bytecode_goes_into_the_environment_where_none_may_lie_beside_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX")
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "slow.py").write_text("x = 1\n")
    bootstrap.keep_bytecode(tmp_path / "environment")
    subprocess.run([sys.executable, "-c", "import slow"], cwd=sources, check=True)
    assert list((tmp_path / "environment/bytecode").rglob("slow.*.pyc"))
    assert [path.name for path in sources.iterdir()] == ["slow.py"]


def test_an_environment_in_use_is_kept_and_an_old_one_goes(tmp_path, monkeypatch):
    for name in ("venv-now", "venv-running", "venv-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manabooru-base").touch()
        os.utime(tmp_path / name / "manabooru-base", (1e9, 1e9))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv-running"))
    bootstrap.mark_used()
    bootstrap._remove_unused(tmp_path / "venv-now")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["venv-now", "venv-running"]
