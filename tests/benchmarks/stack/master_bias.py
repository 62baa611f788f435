"""A master bias of ten whole frames: against ccdproc, and against reading the same bytes; and the memory it takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from dpu_recipes.ccd.layer import Layer
from dpu_recipes.ccd.stack import Stack, clipped_mean
from tests.benchmarks.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
PEER = ROOT / "build" / "peers" / "ccdproc"
SCRIPT = Path(__file__).parents[1] / "peers" / "ccdproc_combine.py"
SHAPE = (4096, 2048)
FRAMES, MANY = 10, 100
#: ADU.
LEVEL, NOISE = 300.0, 4.0
ROUNDS = 9
#: Of the slow peer.
PEER_ROUNDS = 3


def figures() -> Iterator[Figure]:
    """Measure time and memory; without a peer where it cannot be installed."""
    with tempfile.TemporaryDirectory() as folder:
        files = _frames(Path(folder))
        # What is measured is warm: code compiled and loaded, files in the page cache.
        master_bias(files)
        pairs = [(_seconds(lambda: read(files)), _seconds(lambda: master_bias(files))) for _ in range(ROUNDS)]
        reading, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        theirs = _peer(files)
        yield Figure(bench="stack", figure="read_s", value=reading, unit="s")
        yield Figure(
            bench="stack",
            figure="master_bias_s",
            value=ours,
            unit="s",
            peer="ccdproc" if theirs else "",
            peer_value=theirs,
            bar=f"at most 1/40 of ccdproc, and 1.3 x (read_s + 0.12 s) = {1.3 * (reading + 0.12):.3f} s",
        )
        growths = {count: growth_mb(files * (count // FRAMES)) for count in (FRAMES, MANY)}
        print(", ".join(f"{count} frames: {growth:.1f} MB" for count, growth in growths.items()), file=sys.stderr)
        yield Figure(bench="stack", figure="growth_mb", value=max(growths.values()), unit="MB", bar="at most 100 MB")


def master_bias(files: list[Path]) -> Stack:
    """Read frames and average them with rejection, as the recipe Bias does."""
    layers = []
    for file in files:
        with fits.open(file, memmap=True, do_not_scale_image_data=True) as units:
            header, pixels = units[0].header, units[0].data
        level = np.full((SHAPE[0], 1), LEVEL, np.float32)
        layers.append(Layer(pixels=pixels, level=level, zero=float(header["BZERO"])))
    return clipped_mean(layers, noise=NOISE, threshold=3.0)


def read(files: list[Path]) -> int:
    """Copy the bytes of frames from the page cache."""
    return sum(len(file.read_bytes()) for file in files)


def growth_mb(files: list[Path]) -> float:
    """Return by how much the warm process grows while it stacks frames, MB: mapped file pages left out."""
    before = _anonymous_mb()
    with _watched() as peak:
        master_bias(files)
    return peak() - before


@contextmanager
def _watched() -> Iterator[Callable[[], float]]:
    """Watch the memory of this process every millisecond; yield what gives its peak so far."""
    seen, done = [_anonymous_mb()], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(_anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: max(seen)
    finally:
        done.set()
        watcher.join()


def _anonymous_mb() -> float:
    """Return the resident memory of this process that is no file's, MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024 / 1e6


def _frames(folder: Path) -> list[Path]:
    """Write frames of noise about a level, uint16, with outliers, and return their files."""
    files = []
    for number in range(FRAMES):
        random = np.random.default_rng(number)
        image = random.standard_normal(SHAPE, dtype=np.float32) * np.float32(NOISE) + np.float32(LEVEL)
        image.flat[random.integers(0, image.size, 2000)] += 5000
        files.append(folder / f"bias{number}.fits")
        fits.PrimaryHDU(np.rint(image).astype(np.uint16)).writeto(files[-1])
    return files


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _peer(files: list[Path]) -> float | None:
    """Return the median seconds of ccdproc on the same frames, None where it cannot be installed."""
    python = PEER / "bin" / "python"
    try:
        if not (PEER / "installed").exists():
            venv.create(PEER, with_pip=True, clear=True)
            install = (python, "-m", "pip", "install", "-q", "ccdproc", "bottleneck")
            subprocess.run(install, check=True, stdout=sys.stderr)
            (PEER / "installed").touch()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no peer: ccdproc cannot be installed in {PEER.relative_to(ROOT)}: {error}", file=sys.stderr)
        return None
    with subprocess.Popen(
        (python, SCRIPT, *files), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        said, _ = process.communicate("again\n" * (1 + PEER_ROUNDS))
    if process.returncode:
        print(f"no peer: ccdproc ended with {process.returncode}", file=sys.stderr)
        return None
    # The first time it loads what it needs.
    return statistics.median(float(line) for line in said.split()[1:])
