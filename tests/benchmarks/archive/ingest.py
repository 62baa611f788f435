"""How fast exposures come into the archive."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from tests.benchmarks.archive.process import named, running
from tests.benchmarks.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dpu_api.v1.archive_pb2_grpc import ArchiveServiceStub

#: A WFI exposure: 8 chips of so many pixels (y, x), 141 MB.
CHIPS, SHAPE = 8, (4128, 2142)
EXPOSURES = 6
ROUNDS = 5
#: As `awe ingest` does it.
AT_A_TIME = 3


def figures(folder: Path) -> Iterator[Figure]:
    """Compare ingest with cp and fsync of the same files, in turns, as the machine's pace changes."""
    exposures = [_exposure(folder / f"r{number}.fits", number) for number in range(EXPOSURES)]
    small = [_exposure(folder / f"small{number}.fits", 30 + number, (60, 200)) for number in range(AT_A_TIME)]
    size = sum(path.stat().st_size for path in exposures)
    ratios, rates, peers = [], [], []
    for turn in range(ROUNDS):
        with running(folder / f"state{turn}") as (stub, _):
            _take(stub, small)
            # Both find as much memory that was given back a moment ago: on a virtual machine fresh memory is slow.
            _copy_and_remove(exposures, folder)
            copied = _copy_and_remove(exposures, folder)
            taken = _timed(lambda: _take(stub, exposures))
        ratios.append(copied / taken)
        rates.append(size / taken / 1e6)
        peers.append(size / copied / 1e6)
    yield Figure(
        bench="archive",
        figure="ingest_ratio",
        value=statistics.median(ratios),
        unit="of cp + fsync",
        bar="at least 0.4",
        less_is_better=False,
    )
    yield Figure(
        bench="archive",
        figure="ingest_mb_per_s",
        value=statistics.median(rates),
        unit="MB/s",
        peer="cp + fsync",
        peer_value=statistics.median(peers),
        less_is_better=False,
    )


def _exposure(path: Path, number: int, shape: tuple[int, int] = SHAPE) -> Path:
    """Write an uncompressed mosaic exposure of noise."""
    header = fits.Header()
    header["INSTRUME"] = "WFI"
    header["DATE-OBS"] = f"2000-04-28T22:{number:02d}:03.250"
    header["EXPTIME"] = 0.0
    header["OBJECT"] = "BIAS"
    header["HIERARCH ESO DPR TYPE"] = "BIAS"
    for axis in "XY":
        header[f"HIERARCH ESO DET WIN1 BIN{axis}"] = 1
    noise = np.random.default_rng(number).integers(180, 220, shape, dtype=np.uint16)
    chips = [fits.ImageHDU(noise + np.uint16(chip), name=f"WIN1.CHIP{chip + 1}.OUT1") for chip in range(CHIPS)]
    fits.HDUList([fits.PrimaryHDU(header=header), *chips]).writeto(path)
    return path


def _copy(files: list[Path], folder: Path) -> None:
    """Copy files, durably, as cp and sync do."""
    folder.mkdir()
    for file in files:
        subprocess.run(["cp", "--reflink=never", file, folder], check=True)
        with (folder / file.name).open("rb") as copy:
            os.fsync(copy.fileno())


def _copy_and_remove(files: list[Path], folder: Path) -> float:
    """Return how long copying took."""
    seconds = _timed(lambda: _copy(files, folder / "copies"))
    shutil.rmtree(folder / "copies")
    return seconds


def _take(stub: ArchiveServiceStub, files: list[Path]) -> None:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        answers = list(pool.map(lambda file: stub.Ingest(iter([named(file)]), timeout=600), files))
    if any(answer.already or len(answer.frames) != CHIPS for answer in answers):
        raise RuntimeError("an exposure did not come in whole")


def _timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
