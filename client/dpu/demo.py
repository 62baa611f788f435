"""`awe demo`: a night from raw frames to calibrations on a DPU of its own, as a user would do it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dpu import local
from dpu.config import Config
from dpu.errors import InternalError, NothingSelected, UsageError
from dpu.ingest import find_files, ingest
from dpu.ingest_command import progress
from dpu_api.v1.archive_pb2 import ListFramesRequest
from dpu_api.v1.job_pb2 import JobState
from dpu_api.v1.scheduler_pb2 import GetJobRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dpu.processor import Processor
    from dpu.products import Product
    from dpu.report import Reporter

SEQUENCES = ("ReadNoise", "Bias", "HotPixels")
#: What a folder of an earlier demo is known by: only such a one is emptied.
MARK = ".dpu-demo"
#: WFI at a quarter of each side: 10 biases of 3 of its chips.
SIMULATE = ("--instrument", "WFI", "--chips", "3", "--scale", "0.25", "--biases", "10", "--seed", "1")


def main(arguments: Sequence[str]) -> int:
    """Run `awe demo` and return its exit code: 0 only if every task ended normally."""
    from dpu.processor import Processor
    from dpu.report import Reporter

    asked = _parser().parse_args(arguments)
    folder = asked.folder.absolute()
    raw = _existing(asked.data) if asked.data else None
    _make_fresh(folder)
    config = Config(home=folder / "dpu", username=Config.read({}).username)
    reporter = Reporter()
    dpu = Processor(config, environ=os.environ, reporter=reporter)
    try:
        reporter.say(f"Starting a DPU of its own in {config.home}")
        _ingest(dpu, raw or _simulate(folder, reporter), reporter)
        jobs = [
            dpu.run(sequence, i=instrument, d=night, C=1, follow=True)
            for instrument, night in _nights(dpu)
            for sequence in SEQUENCES
        ]
        return _show(dpu, jobs, folder / "products")
    finally:
        dpu.close()
        local.stop(config.home)


def _existing(data: Path) -> Path:
    if not data.exists():
        raise UsageError(f"--data {str(data)!r} does not exist")
    return data


def _make_fresh(folder: Path) -> None:
    """Make `folder`, emptied if it is that of an earlier demo. Raises UsageError for any other that is not empty."""
    if (folder / MARK).exists():
        local.stop(folder / "dpu")
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(f"--folder {str(folder)!r} is not empty, and not that of an earlier demo: name another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        raise UsageError(f"--folder {str(folder)!r} cannot be written: {error.strerror}") from error


def _simulate(folder: Path, reporter: Reporter) -> Path:
    """Write a small night in a process of its own (the client knows no astronomy); return its raw frames' folder."""
    night = folder / "night"
    reporter.say("Simulating a night of WFI: 10 biases of 3 chips at a quarter of each side")
    command = [sys.executable, "-m", "dpu_recipes.simulate", str(night), *SIMULATE]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own program)
    if ended.returncode:
        raise InternalError(ended.stderr.strip() or "the simulator failed")
    reporter.say(ended.stdout.strip())
    return night / "raw"


def _ingest(dpu: Processor, raw: Path, reporter: Reporter) -> None:
    files = find_files([raw])
    with progress(len(files), reporter) as done:
        summary = ingest(dpu.link, files, done)
    for line in summary.lines():
        reporter.say(line)


def _nights(dpu: Processor) -> Iterable[tuple[str, str]]:
    """Return instrument and date of every night with biases. Raises NothingSelected where there is none."""
    request = ListFramesRequest(frame_class="RawBiasFrame")
    frames = dpu.link.ask(lambda services: services.archive.ListFrames, request).frames
    if not frames:
        raise NothingSelected("there is no bias among these frames, and every calibration begins with some")
    return sorted({(frame.instrument, frame.night) for frame in frames})


def _show(dpu: Processor, jobs: list[int], products: Path) -> int:
    """Show what came of the jobs, with the FITS files under their names; return 0 if all ended normally, else 1."""
    products.mkdir()
    dpu.get_status(jobs)
    for product in (product for job in jobs for product in dpu.get_job_result(job)):
        where = _copy(product.path, products / product.file_name) if product.path else _measured(product)
        print(f"  {product.frame_class:11} {product.chip}  {where}")
    failed = [job for job in jobs if _state(dpu, job) != JobState.JOB_STATE_FINISHED]
    print(f"Jobs {failed} did not end normally" if failed else f"Every task ended normally. FITS files: {products}")
    return 1 if failed else 0


def _state(dpu: Processor, job: int) -> JobState.ValueType:
    return dpu.link.ask(lambda services: services.scheduler.GetJob, GetJobRequest(job_id=job)).job.state


def _copy(stored: Path, named: Path) -> Path:
    """Copy a file of the archive, where it is named by its content, to one with its own name."""
    return Path(shutil.copyfile(stored, named))


def _measured(product: Product) -> str:
    """Return what a product measures that has no file."""
    return ", ".join(f"{name} = {value:.3f}" for name, value in product.values.items() if isinstance(value, float))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="awe demo",
        description="Reduce the biases of a night on a DPU of its own: ReadNoise, Bias, HotPixels for every chip.",
        epilog="exit codes: 0 every task ended normally, 1 one did not, 2 used wrongly",
    )
    parser.add_argument("--folder", type=Path, default=Path("dpu-demo"), help="where it works (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="a folder of raw frames (default: a simulated night)")
    return parser
