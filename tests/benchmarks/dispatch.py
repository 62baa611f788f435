"""How fast tasks that do nothing go through a whole DPU: client, gRPC, journal with fsync, worker, logs, and back.

Everything is as shipped: the embedded DPU with two slots, a lease and an end journaled a task, a scratch folder,
limits, checks after each task and one log line. A job counts as done when it is FINISHED: its logs are closed too.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from google.protobuf.duration_pb2 import Duration

from dpu import local
from dpu.bundle import bundle, ship
from dpu.config import Config
from dpu.processor import Processor
from dpu.report import Reporter
from dpu_api.v1.catalogue_pb2 import Sequence, Stage
from dpu_api.v1.job_pb2 import JobState, TaskSpec
from dpu_api.v1.scheduler_pb2 import SubmitJobRequest
from tests.benchmarks.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dpu.bundle import Bundle
    from dpu.link import Link

SLOTS = 2
TASKS = 5_000
RUNS = 3
SINGLES = 200
SEPARATE = 400
CLIENTS = 8
NAPS = 100
NAP_S = 0.1

PEERS = Path(__file__).parent / "peers"
ENVIRONMENT = Path(__file__).parents[2] / "build" / "bench-peers"
PACKAGES = ("ray>=2.50,<3", "distributed>=2025.1")

#: What the workers run: the recipes' own ports, and a registry of recipes that do nothing.
REGISTRY = """
import time
from dpu_recipes.task import TaskSpec

def plan(recipe, options, archive, scratch):
    return [TaskSpec(label="ccd50")]

def run(recipe, options, archive, scratch, spec):
    if recipe == "Nap":
        time.sleep(0.1)
    else:
        print("nothing done")
"""
PORTS = ("archive", "frames", "task")


def figures() -> Iterator[Figure]:
    """Measure our own DPU, then the peers, in one run."""
    peers = dict(_peers())
    with _dpu() as bench:
        ours = dict(bench.measured())
    bars = {
        "latency_p50_ms": "at most 4 ms",
        "planned_latency_p50_ms": "at most 10 ms",
        "nap_overhead": "at most 0.03",
    }
    ratios = {"ray": "at least 2x", "dask": "at least 6x"}
    for name, value in ours.items():
        known = {"bench": "dispatch", "figure": name, "value": value, "unit": _unit(name)}
        known["less_is_better"] = not name.endswith("_per_s")
        beside = {peer: found[name] for peer, found in peers.items() if name in found}
        if not beside:
            yield Figure(**known, bar=bars.get(name, ""))
        for peer, theirs in beside.items():
            bar = ratios[peer] if name == "tasks_per_s" else bars.get(name, "")
            yield Figure(**known, bar=bar, peer=peer, peer_value=theirs)


def _unit(name: str) -> str:
    if name.endswith("_ms"):
        return "ms"
    return "1/s" if name.endswith("_per_s") else ""


@dataclass(frozen=True, slots=True)
class _Bench:
    """An embedded DPU to measure, and the code that its workers run."""

    link: Link
    code: Bundle
    home: Path

    def measured(self) -> Iterator[tuple[str, float]]:
        """Yield name and value of each figure."""
        for _ in range(10):
            self.job("Nothing", 2 * SLOTS)
        with self._spent("one task", SINGLES):
            singles = sorted(_timed(lambda: self.job("Nothing", 1)) for _ in range(SINGLES))
        rates = []
        for _ in range(RUNS):
            with self._spent("a long job", TASKS):
                rates.append(TASKS / _timed(lambda: self.job("Nothing", TASKS)))
        planned = sorted(_timed(lambda: self.job("Nothing", 0)) for _ in range(SINGLES))
        with self._spent("separate jobs", SEPARATE):
            separate = _timed(self._separately)
        naps = _timed(lambda: self.job("Nap", NAPS))
        yield "tasks_per_s", statistics.median(rates)
        yield "latency_p50_ms", 1e3 * statistics.median(singles)
        yield "latency_p99_ms", 1e3 * singles[int(0.99 * len(singles))]
        yield "planned_latency_p50_ms", 1e3 * statistics.median(planned)
        yield "separate_submits_per_s", SEPARATE / separate
        yield "nap_overhead", naps / (NAPS * NAP_S / SLOTS) - 1

    def job(self, recipe: str, tasks: int) -> None:
        """Run a job of so many explicit tasks (0: one task, by a plan) to its end."""
        request = SubmitJobRequest(
            request_id=str(uuid.uuid4()),
            sequence=Sequence(name=recipe, stages=[Stage(recipe=recipe, seconds=0.1, memory_mib=256)]),
            code_digest=self.code.digest,
            code_description=self.code.description,
            tasks=[TaskSpec(label=f"ccd{number}") for number in range(tasks)],
            wait=Duration(seconds=60),
        )
        job = self.link.ask(lambda services: services.scheduler.SubmitJob, request, deadline=90).job
        if job.state != JobState.JOB_STATE_FINISHED or job.counts.normal != max(1, tasks):
            raise RuntimeError(f"the benchmark's job did not end well: {job}")

    def _separately(self) -> None:
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda _: self.job("Nothing", 1), range(SEPARATE)))

    @contextmanager
    def _spent(self, what: str, tasks: int) -> Iterator[None]:
        """Say on standard error how much processor time a task of the block took, by process."""
        before, begun = _processor_s(self.home), time.perf_counter()
        yield
        wall = time.perf_counter() - begun
        after = _processor_s(self.home)
        spent = {name: (after[name] - before.get(name, 0.0)) / tasks * 1e6 for name in sorted(after)}
        shown = ", ".join(f"{name} {us:.0f}" for name, us in spent.items())
        print(f"{what}: {wall / tasks * 1e6:.0f} us a task; processor us: {shown}", file=sys.stderr)


def _processor_s(home: Path) -> dict[str, float]:
    """Return the processor time of the DPU's processes so far, by what they are."""
    running = local.Home(home).read_running()
    if running is None:
        raise RuntimeError("the embedded DPU is gone")
    root = psutil.Process(running.pid)
    spent: dict[str, float] = defaultdict(float)
    for process in (root, *root.children(recursive=True)):
        words = process.cmdline()
        name = "services" if process == root else "archive" if "archive" in words else "agent"
        if "dpud.worker.guard" in words:
            is_guard = "dpud.worker.guard" not in (process.parent() or process).cmdline()
            name = "guard" if is_guard else "runner"
        used = process.cpu_times()
        spent[name] += used.user + used.system
    return dict(spent)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@contextmanager
def _dpu() -> Iterator[_Bench]:
    """Start an embedded DPU of two slots, ship the benchmark's code to it, stop it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        os.environ["DPU_LOCAL_SLOTS"] = str(SLOTS)
        processor = Processor(Config(home=home, username="bench"), reporter=Reporter(out=StringIO()))
        try:
            packed = bundle(_checkout(Path(folder)))
            processor.link.attempt(lambda services: ship(packed, services.code))
            yield _Bench(processor.link, packed, home)
        finally:
            processor.close()
            local.stop(home)


def _checkout(folder: Path) -> Path:
    """Make a checkout whose recipes do nothing."""
    checkout = folder / "checkout"
    recipes = checkout / "services" / "dpu_recipes"
    recipes.mkdir(parents=True)
    real = find_spec("dpu_recipes")
    if real is None or real.origin is None:
        raise RuntimeError("dpu_recipes is not installed")
    for name in PORTS:
        shutil.copy(Path(real.origin).parent / f"{name}.py", recipes)
    (recipes / "__init__.py").touch()
    (recipes / "registry.py").write_text(REGISTRY)
    return checkout


def _peers() -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the figures of the bare way, of Ray and of Dask; say why where those are not to be had."""
    yield from _peer("bare", Path(sys.executable))
    python = ENVIRONMENT / "bin" / "python"
    try:
        if not (ENVIRONMENT / "ready").exists():
            print("installing Ray and Dask ...", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
            install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES]
            subprocess.run(install, check=True, stdout=sys.stderr)
            (ENVIRONMENT / "ready").touch()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no peers to compare with: Ray and Dask could not be installed from PyPI: {error}", file=sys.stderr)
        return
    for peer in ("ray", "dask"):
        yield from _peer(peer, python)


def _peer(peer: str, python: Path) -> Iterator[tuple[str, dict[str, float]]]:
    command: list[Any] = [python, PEERS / f"{peer}_dispatch.py", TASKS, SINGLES, NAPS]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{peer} could not be measured: {done.stderr[-2000:]}", file=sys.stderr)
    else:
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{peer}: {found}", file=sys.stderr)
        yield peer, found
