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
#: Frames, which are the inputs of each task, and tasks.
FRAMES, TASKS = 8, 100


def figures(folder: Path) -> Iterator[Figure]:
    """Measure what a task waits for a frame of 32 MB, over its channel, its agent and the agent's cache."""
    with running(folder / "state") as (stub, peer):
        for number in range(FRAMES):
            stub.Ingest(iter([named(_exposure(folder / f"r{number}.fits", number))]), timeout=600)
        with _agent(folder, peer) as channel:
            archive = ChannelArchive(channel)
            frames = archive.select("RawBiasFrame", Selection(instrument="WFI"))
            # Memory that was used before: to clear pages takes the kernel longer than to read into them.
            memory = bytearray(b"1") * (frames[0].size + 1)
            cold = [sum(_seconds(archive, frame, memory)) for frame in frames]
            found, hits = _hits(channel, [frame.id for frame in frames], memory)
    plain = statistics.median(reading for _, reading in hits)
    ratio = (statistics.median(asking for asking, _ in hits) + plain) / plain
    yield Figure(bench="archive", figure="fetch_cold_ms", value=statistics.median(cold) * 1e3, unit="ms")
    yield Figure(bench="archive", figure="find_inputs_ms", value=found * 1e3, unit=f"ms for {FRAMES} inputs")
    yield Figure(bench="archive", figure="fetch_ratio", value=ratio, unit="of a plain read", bar="at most 1.05")


def _hits(channel: Channel, inputs: list[str], memory: bytearray) -> tuple[float, list[tuple[float, float]]]:
    """Return the median seconds in which a task finds its inputs, and how long each takes to open one and to read it.

    Each task is a new one, of which the agent knows nothing yet. All read the same file, which is read fastest.
    """
    finding, hits = [], []
    for _ in range(TASKS):
        channel.send({"end": {}})
        archive = ChannelArchive(channel, inputs)
        begun = time.perf_counter()
        frames = [archive.find(name) for name in inputs]
        finding.append(time.perf_counter() - begun)
        hits.append(_seconds(archive, frames[0], memory))
    return statistics.median(finding), hits


def _seconds(archive: ChannelArchive, frame: Frame, memory: bytearray) -> tuple[float, float]:
    """Return how long it takes to open a frame, and to read it into memory."""
    begun = time.perf_counter()
    path = archive.open(frame)
    opened = time.perf_counter()
    with path.open("rb") as file:
        size = file.readinto(memory)
    read = time.perf_counter()
    if size != frame.size:
        raise RuntimeError(f"{path} has {size} bytes, not {frame.size}")
    return opened - begun, read - opened


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
def _agent(folder: Path, peer: Peer) -> Iterator[Channel]:
    """Give the channel of a task's process: an agent answers on the other end, in a process of its own."""
    ours, theirs = socket.socketpair()
    told = [str(folder), peer.address.text, peer.token, str(ours.fileno())]
    with ours:
        agent = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.archive.agent", *told], pass_fds=[ours.fileno()]
        )
    channel = Channel(theirs)
    try:
        yield channel
    finally:
        channel.close()
        agent.wait()
