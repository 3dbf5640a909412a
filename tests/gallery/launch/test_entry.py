"""Words of manage.py as a person types them, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gallery.launch.dotenv import ROOT
from tests.stack import environment

pytestmark = pytest.mark.slow


def test_a_command_before_the_first_start_says_what_to_do(tmp_path):
    command = [sys.executable, str(ROOT / "manage.py"), "use_release", "starter"]
    result = subprocess.run(command, env=environment(tmp_path / "data"), capture_output=True, text=True)
    assert result.returncode == 1
    assert "run `python3 manage.py up` once" in result.stderr and "Traceback" not in result.stderr
