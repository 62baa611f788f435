"""`awe demo`, as `make demo` runs it: exit code 0 only if every task ended normally."""

import re
import subprocess
import sys
from pathlib import Path

from astropy.io import fits

from fakes_instruments import real_data

AWE = Path(sys.executable).parent / "awe"


def demo(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [AWE, "demo", "--folder", folder, *more]
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=110, check=False)


def statuses(output: str) -> list[str]:
    return re.findall(r"Jobid \d+ has status (\w+ N/E/A/S/U [\d/]+)", output)[-3:]


def test_a_simulated_night_becomes_calibrations(tmp_path: Path) -> None:
    ended = demo(tmp_path / "demo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert statuses(ended.stdout) == ["FINISHED N/E/A/S/U 3/0/0/0/0"] * 3
    products = sorted((tmp_path / "demo" / "products").iterdir())
    assert [fits.getval(product, "CHIP") for product in products] == [
        "ccd50",
        "ccd50",
        "ccd51",
        "ccd51",
        "ccd52",
        "ccd52",
    ]


def test_the_real_night_becomes_calibrations(tmp_path: Path) -> None:
    ended = demo(tmp_path / "demo", "--data", str(real_data("nickel_20240513")))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "19 files, 19 new frames, 0 already there, 0 refused" in ended.stdout
    assert statuses(ended.stdout) == ["FINISHED N/E/A/S/U 1/0/0/0/0"] * 3
    measured = re.search(r"READNOISE = ([\d.]+)", ended.stdout)
    assert measured
    assert abs(float(measured.group(1)) - 5.31) <= 0.10


def test_a_folder_that_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.tex").write_text("precious")
    ended = demo(mine)
    assert ended.returncode == 2
    assert "is not empty, and not that of an earlier demo" in ended.stderr
    assert (mine / "chapter.tex").read_text() == "precious"


def test_frames_without_a_bias_are_refused(tmp_path: Path) -> None:
    night = tmp_path / "night"
    simulate = [sys.executable, "-m", "dpu_recipes.simulate", night, "--chips", "1", "--scale", "0.1"]
    subprocess.run([*simulate, "--biases", "2", "--domes", "2"], check=True, capture_output=True)
    for file in (night / "raw").iterdir():
        if fits.getval(file, "EXPTIME") == 0:
            file.unlink()
    ended = demo(tmp_path / "demo", "--data", str(night / "raw"))
    assert ended.returncode == 1
    assert "there is no bias among these frames" in ended.stderr
