"""The built wheel, in an environment that knows nothing of a checkout, and has no git."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

LOCK = Path(__file__).parents[2] / "deploy" / "locks" / "run.txt"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """An environment with the wheel and the locked versions of what its extras need."""
    folder = tmp_path_factory.mktemp("wheel") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", LOCK], check=True)
    subprocess.run([*pip, "--no-deps", wheel], check=True)
    return folder


def run(prefix: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(prefix / "bin"), "HOME": str(folder), "LANG": "C.UTF-8"}
    return subprocess.run(
        [prefix / "bin" / command[0], *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_wheel_holds_the_four_roots_and_their_generated_code_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dpu_api", "dpu", "dpud", "dpu_recipes"}
    assert "dpu_api/v1/job_pb2.py" in names
    assert "dpu_api/v1/scheduler_pb2_grpc.pyi" in names
    assert "dpu_recipes/instruments/WFI.toml" in names


def test_a_night_is_reduced_outside_any_checkout_without_git(prefix: Path, tmp_path: Path) -> None:
    ended = run(prefix, tmp_path, "awe", "demo", "--folder", str(tmp_path / "demo"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "HotPixels" in ended.stdout
    assert not ended.stderr


def test_dependencies_agree(prefix: Path, tmp_path: Path) -> None:
    ended = run(prefix, tmp_path, "pip", "check")
    assert ended.returncode == 0, ended.stdout


def test_the_installed_package_is_not_the_checkout(prefix: Path, tmp_path: Path) -> None:
    ended = run(prefix, tmp_path, "python", "-c", "import dpu, os; print(os.path.dirname(dpu.__file__))")
    assert Path(ended.stdout.strip()).is_relative_to(prefix), ended.stdout + ended.stderr
