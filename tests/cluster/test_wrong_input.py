"""Wrong input, as a user types it: one clear line, an exit code, no traceback, and nothing has changed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpu import local

AWE = Path(sys.executable).parent / "awe"
NIGHT = ("--instrument", "WFI", "--chips", "2", "--scale", "0.1", "--biases", "3", "--seed", "9")


class Shell:
    """A user's shell: runs `awe` with a DPU of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "dpu"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DPU_HOME": str(self.home),
            "DPU_USER": "ann",
        }

    def awe(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [AWE, *words],
            cwd=self.folder,
            env=self.environment | changes,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def holdings(self) -> str:
        """What the DPU holds: jobs and frames."""
        code = (
            "from dpu_api.v1.archive_pb2 import ListFramesRequest as R\n"
            "names = ('RawBiasFrame', 'ReadNoise', 'BiasFrame')\n"
            "frames = [len(dpu.link.ask(lambda s: s.archive.ListFrames, R(frame_class=n)).frames) for n in names]\n"
            "print(dpu.get_jobids(all=True), frames)"
        )
        return self.awe("-c", code).stdout


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("user"))
    night = shell.folder / "night"
    subprocess.run([sys.executable, "-m", "dpu_recipes.simulate", night, *NIGHT], check=True, capture_output=True)
    assert shell.awe("ingest", "night/raw").returncode == 0
    yield shell
    local.stop(shell.home)


def refused(ended: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    for words in said:
        assert words in ended.stderr


def run(shell: Shell, sequence: str = "ReadNoise", **options: Any) -> subprocess.CompletedProcess[str]:
    asked = {"i": "WFI", "d": "2000-04-28"} | options
    given = ", ".join(f"{name}={value!r}" for name, value in asked.items() if value is not None)
    before = shell.holdings()
    ended = shell.awe("-c", f"dpu.run({sequence!r}, {given})")
    assert shell.holdings() == before
    assert "identifier" not in ended.stdout
    return ended


def test_an_unknown_sequence_gets_the_nearest(shell: Shell) -> None:
    refused(run(shell, "Biass"), 2, "'Biass'", "'Bias'")


def test_an_unknown_option_gets_the_nearest(shell: Shell) -> None:
    refused(run(shell, chipp="ccd50"), 2, "'chipp'", "'chip'")


def test_an_unknown_process_parameter_gets_the_nearest(shell: Shell) -> None:
    refused(run(shell, "Bias", p={"BiasFrame.process_params.SIGMA_CLIPP": 4.0}), 2, "SIGMA_CLIPP", "SIGMA_CLIP'")


def test_an_unknown_instrument_gets_the_known_ones(shell: Shell) -> None:
    refused(run(shell, i="WFY"), 2, "'WFY'", "NICKEL", "OMEGACAM", "WFI")


def test_an_unknown_chip_gets_the_known_ones(shell: Shell) -> None:
    refused(run(shell, c="ccd58"), 2, "'ccd58'", "ccd50", "ccd57")


@pytest.mark.parametrize("date", ["2000-04-31", "28 April", "2000-4", 20000428])
def test_a_date_that_is_none_is_refused(shell: Shell, date: object) -> None:
    refused(run(shell, d=date), 2, str(date), "CCYY-MM-DD")


def test_a_selection_without_frames_lists_what_there_is(shell: Shell) -> None:
    refused(run(shell, d="2000-05-03"), 1, "2000-05-03", "2000-04-28", "ccd50")


def test_a_product_that_is_not_there_names_the_call_that_makes_it(shell: Shell) -> None:
    refused(run(shell, "HotPixels"), 1, "BiasFrame", "dpu.run('Bias', i='WFI', d='2000-04-28', C=1)")


def test_neither_date_nor_files_is_refused(shell: Shell) -> None:
    refused(run(shell, d=None), 2, "date")


def test_a_bad_file_is_named_with_its_reason_and_the_rest_go_in(shell: Shell) -> None:
    bad = shell.folder / "bad"
    bad.mkdir()
    whole = next((shell.folder / "night" / "raw").iterdir()).read_bytes()
    (bad / "cut.fits").write_bytes(whole[: len(whole) // 2])
    (bad / "text.fits").write_text("no FITS at all")
    (bad / "empty.fits").touch()
    (bad / "good.fits").write_bytes(whole)
    before = shell.holdings()
    ended = shell.awe("ingest", "bad")
    assert ended.returncode == 1
    assert "4 files, 0 new frames, 1 already there, 3 refused" in ended.stdout
    for name in ("cut.fits", "text.fits", "empty.fits"):
        (line,) = [line for line in ended.stdout.splitlines() if "Refused" in line and name in line]
        assert "Traceback" not in line
    assert not ended.stderr
    assert shell.holdings() == before


def test_a_path_that_is_not_there_is_refused(shell: Shell) -> None:
    refused(shell.awe("ingest", "nowhere"), 2, "'nowhere' does not exist")


def test_an_unwritable_home_is_one_line(shell: Shell) -> None:
    refused(shell.awe("-c", "dpu.get_status()", DPU_HOME="/proc/dpu"), 1, "/proc/dpu", "DPU_HOME")


def test_an_unwritable_working_folder_costs_the_log_file_only(shell: Shell) -> None:
    code = "import os; os.chdir('/proc'); dpu.get_status()"
    assert shell.awe("-c", code).returncode == 0


def test_a_dpu_that_is_not_there_is_one_line_and_exit_code_4(shell: Shell) -> None:
    config = shell.folder / "config.toml"
    config.write_text('default = "far"\n[dpus.far]\naddress = "127.0.0.1:1"\ntoken_file = "token"\n')
    (shell.folder / "token").write_text("x")
    refused(shell.awe("-c", "dpu.get_status()", DPU_CONFIG=str(config)), 4, "far", "cannot be reached")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_refuses_in_one_line_and_recovers(tmp_path: Path, shell: Shell) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()}")
    home = disk / "dpu"
    try:
        first = shell.awe("-c", "dpu.get_status()", DPU_HOME=str(home))
        assert first.returncode == 0, first.stderr
        hog = disk / "hog"
        free = os.statvfs(disk)
        hog.write_bytes(b"\0" * (free.f_bavail * free.f_frsize - 65536))
        refused(shell.awe("ingest", str(shell.folder / "night" / "raw"), DPU_HOME=str(home)), 1, "full")
        hog.unlink()
        again = shell.awe("ingest", str(next((shell.folder / "night" / "raw").iterdir())), DPU_HOME=str(home))
        assert again.returncode == 0, again.stdout + again.stderr
        assert "1 file, 2 new frames" in again.stdout
    finally:
        local.stop(home)
        subprocess.run(["umount", "-l", disk], check=False)
