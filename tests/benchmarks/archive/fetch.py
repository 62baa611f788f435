"""How fast a frame comes to a task: from the archive the first time, from the node's cache after that."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from dpu_recipes.archive import Selection
from dpud.worker.channel import Channel
from dpud.worker.channel_archive import ChannelArchive
from tests.benchmarks.archive.process import named, running
from tests.benchmarks.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dpu_recipes.frames import Frame
    from dpud.hosting.settings import Peer

#: Pixels (y, x) of 4 bytes: 32 MiB.
SHAPE = (4096, 2048)
COLD, WARM = 8, 100


def figures(folder: Path) -> Iterator[Figure]:
    """Measure what a task waits for a frame of 32 MB, over its channel, its agent and the agent's cache."""
    with running(folder / "state") as (stub, peer):
        for number in range(COLD):
            stub.Ingest(iter([named(_exposure(folder / f"r{number}.fits", number))]), timeout=600)
        with _agent(folder, peer) as archive:
            frames = archive.select("RawBiasFrame", Selection(instrument="WFI"))
            cold = [_seconds(archive, frame) for frame in frames]
            hit, plain = _hits(archive, frames[0])
    yield Figure(bench="archive", figure="fetch_cold_ms", value=statistics.median(cold) * 1e3, unit="ms")
    yield Figure(bench="archive", figure="fetch_ratio", value=hit / plain, unit="of a plain read", bar="at most 1.05")


def _hits(archive: ChannelArchive, frame: Frame) -> tuple[float, float]:
    """Return the median seconds of a hit, asking and reading, and of reading alone, in turns.

    Both read the same file, and reading varies by far more than asking takes: all reads make one median.
    """
    path = archive.open(frame)
    asked, read = [], []
    for _ in range(WARM):
        begun = time.perf_counter()
        found = archive.open(frame)
        asked.append(time.perf_counter() - begun)
        for file in (found, path):
            begun = time.perf_counter()
            _read(file)
            read.append(time.perf_counter() - begun)
    plain = statistics.median(read)
    return statistics.median(asked) + plain, plain


def _seconds(archive: ChannelArchive, frame: Frame) -> float:
    begun = time.perf_counter()
    _read(archive.open(frame))
    return time.perf_counter() - begun


def _read(path: Path) -> None:
    if len(path.read_bytes()) < SHAPE[0] * SHAPE[1] * 4:
        raise RuntimeError(f"{path} is cut off")


def _exposure(path: Path, number: int) -> Path:
    """Write an exposure of one chip of WFI."""
    header = fits.Header()
    header["INSTRUME"] = "WFI"
    header["DATE-OBS"] = f"2000-04-28T22:{number:02d}:03.250"
    header["EXPTIME"] = 0.0
    header["EXTNAME"] = "WIN1.CHIP1.OUT1"
    header["HIERARCH ESO DPR TYPE"] = "BIAS"
    noise = np.random.default_rng(number).integers(180, 220, SHAPE, dtype=np.int32)
    fits.PrimaryHDU(noise, header).writeto(path)
    return path


@contextmanager
def _agent(folder: Path, peer: Peer) -> Iterator[ChannelArchive]:
    """Give the archive as a task sees it: an agent answers on the other end, in a process of its own."""
    ours, theirs = socket.socketpair()
    told = [str(folder), peer.address.text, peer.token, str(ours.fileno())]
    with ours:
        agent = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.archive.agent", *told], pass_fds=[ours.fileno()]
        )
    channel = Channel(theirs)
    try:
        yield ChannelArchive(channel)
    finally:
        channel.close()
        agent.wait()
