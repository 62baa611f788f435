"""The types of the public client, as a user's type checker sees them."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: mypy reads the whole of gRPC and rich once.
pytestmark = pytest.mark.timeout(300)


def test_a_users_program_passes_mypy_strict(tmp_path):
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path]
    done = subprocess.run([*command, HERE / "client.py"], cwd=HERE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")


def test_a_users_program_passes_pyright():
    pytest.importorskip("pyright", reason="pyright is not installed")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "client.py"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert "0 errors, 0 warnings" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
