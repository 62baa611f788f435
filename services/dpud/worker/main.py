"""`python -m dpud worker`: settings, and how the worker is put together."""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import signal
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import structlog

from dpu.catalogue import describe_installed
from dpu.packages import offered
from dpud.hosting.metrics import DiskMetrics, expose, showing
from dpud.hosting.settings import Address, BadSetting, Environment, Peer
from dpud.worker import confinement, landlock, sandbox
from dpud.worker.agent import Agent, Worker
from dpud.worker.attempt import GRACE_S, Attempt, Bench
from dpud.worker.frames import Frames
from dpud.worker.groups import Groups
from dpud.worker.logship import LogShipper
from dpud.worker.metrics import WorkerMetrics
from dpud.worker.next_door import NextDoor
from dpud.worker.packages import Packages, uv
from dpud.worker.peers import PATIENCE_S, Channels
from dpud.worker.pilot import retire
from dpud.worker.pool import PRELOADED, Policy, Pool
from dpud.worker.quarters import Here
from dpud.worker.shift import Shift
from dpud.worker.spool import Spool
from dpud.worker.trees import Trees
from dpud.worker.uids import Uids
from dpud.worker.walls import Walls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpu_api.v1.catalogue_pb2 import Catalogue
    from dpu_api.v1.dispatch_pb2 import TaskLease
    from dpud.worker.outcome import Stop

log = structlog.get_logger(__name__)

MIB = 1024 * 1024
#: Above what systems give to people and to services, below what they give to containers.
UIDS = "61200-65199"
#: How long a stopping worker waits for the scheduler and the log service to take its last words.
LAST_WORDS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a worker is told."""

    scheduler: Peer
    logs: Peer
    code: Peer
    archive: Peer
    state: Path
    name: str
    slots: int
    memory_mib: int
    #: Where the archive's files are, if worker and archive can read each other's files by their paths.
    in_place: Path | None = None
    #: The folder that is shared with a container in which tasks run; None: they run in this one.
    runner: Path | None = None
    #: As whom tasks run where the worker runs as root; None: as root.
    uids: Uids | None = field(default_factory=lambda: Uids.parse(UIDS))
    #: What tasks may read besides the system, the installed code, and what is theirs.
    readable: tuple[Path, ...] = ()
    #: A folder of further instruments, as the archive has it.
    instruments: Path | None = None
    #: The control group in which tasks are bounded one by one; None: in none, by limits and looks alone.
    cgroup: Path | None = None
    #: Whether a worker starts where the machine cannot keep tasks apart by everything that there is.
    isolation_required: bool = False
    #: What one task may write, and what the caches of code and of frames may keep.
    scratch_mib: int = 16 * 1024
    code_cache_mib: int = 1024
    #: Where packages come from that shipped trees ask for: an index, or a folder of wheels; None: none is installed.
    packages: str | None = None
    packages_cache_mib: int = 4096
    frame_cache_mib: int = 16 * 1024
    #: How long running tasks may go on after a stop.
    grace_s: float = 8.0
    #: After so long without work the worker ends; 0: never.
    idle_s: float = 0.0
    #: From SIGTERM to SIGKILL for one task, by reason.
    stop_grace_s: dict[Stop, float] = field(default_factory=lambda: dict(GRACE_S))
    #: Loaded into every task process before it has a task.
    preload: tuple[str, ...] = PRELOADED
    #: How long a task's calls of the archive are tried.
    patience_s: float = PATIENCE_S
    #: Where Prometheus reads what this worker does.
    metrics: Address | None = None

    @classmethod
    def read(cls, environment: Environment) -> Settings:
        """Read them from the environment. Raises BadSetting."""
        return cls(
            scheduler=Peer.read(environment, "DPU_SCHEDULER"),
            logs=Peer.read(environment, "DPU_LOGS"),
            code=Peer.read(environment, "DPU_CODE"),
            archive=Peer.read(environment, "DPU_ARCHIVE"),
            state=environment.get("DPU_STATE", Path),
            name=environment.get("DPU_WORKER_NAME", str, f"{socket.gethostname()}-{os.getpid()}"),
            slots=environment.get("DPU_WORKER_SLOTS", _positive, len(os.sched_getaffinity(0))),
            memory_mib=environment.get("DPU_WORKER_MEMORY_MIB", _positive, _machine_memory_mib()),
            in_place=environment.get("DPU_ARCHIVE_IN_PLACE", _place, None),
            runner=environment.get("DPU_WORKER_RUNNER", _folder, None),
            uids=environment.get("DPU_WORKER_UIDS", Uids.parse, Uids.parse(UIDS)),
            readable=environment.get("DPU_WORKER_READABLE", _folders, ()),
            instruments=environment.get("DPU_INSTRUMENTS", _folder, None),
            cgroup=environment.get("DPU_WORKER_CGROUP", _folder, None),
            isolation_required=environment.get("DPU_WORKER_ISOLATION", _required, default=False),
            scratch_mib=environment.get("DPU_WORKER_SCRATCH_MIB", _positive, 16 * 1024),
            code_cache_mib=environment.get("DPU_WORKER_CODE_CACHE_MIB", _positive, 1024),
            packages=environment.get("DPU_WORKER_PACKAGES", _index, None),
            packages_cache_mib=environment.get("DPU_WORKER_PACKAGES_CACHE_MIB", _positive, 4096),
            frame_cache_mib=environment.get("DPU_WORKER_FRAME_CACHE_MIB", _positive, 16 * 1024),
            grace_s=environment.get("DPU_WORKER_GRACE_S", _seconds, 8.0),
            idle_s=environment.get("DPU_WORKER_IDLE_S", _seconds, 0.0),
            metrics=environment.get("DPU_METRICS_LISTEN", Address.parse, None),
        )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.0 <= number < math.inf:
        raise ValueError("must be a number of seconds, 0 or more")
    return number


def _place(text: str) -> Path | None:
    return None if text == "0" else _folder(text)


def _folders(text: str) -> tuple[Path, ...]:
    return tuple(map(_folder, text.split(os.pathsep)))


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError(f"{text!r} must be a folder's whole path")
    return path


def _index(text: str) -> str | None:
    if text == "off":
        return None
    if not text.startswith(("https://", "http://", "/")):
        raise ValueError("must be an index, as https://pypi.org/simple, a folder of wheels by its whole path, or 'off'")
    return text


def _required(text: str) -> bool:
    if text not in {"required", "best"}:
        raise ValueError("must be 'required' or 'best'")
    return text == "required"


def _machine_memory_mib() -> int:
    """Return three quarters of the machine's memory: the rest is for the system and for cached files."""
    return int(psutil.virtual_memory().total * 0.75) // MIB


@asynccontextmanager
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    """Give what attempts work with: the pool, the caches and the spool in the worker's own folder."""
    state = settings.state
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock(state)
    quarters = Here(state) if settings.runner is None else NextDoor(settings.runner)
    archive, code = Channels(settings.archive), Channels(settings.code)
    one_user = settings.runner is not None
    pool = Pool(quarters, Policy(idle=settings.slots, preload=settings.preload, one_user=one_user))
    spool = Spool(state / "logs.spool")
    try:
        yield Bench(
            quarters=quarters,
            walls=_walls(settings),
            pool=pool,
            trees=Trees(state / "code", settings.code_cache_mib * MIB, code, settings.patience_s),
            packages=_packages(settings),
            frames=_frames(settings, archive),
            archive=archive,
            spool=spool,
            kernel_kills=sandbox.KernelKills(),
            groups=_groups(settings),
            in_place=settings.in_place is not None,
            memory_mib=max(1, settings.memory_mib // settings.slots),
            scratch_mib=settings.scratch_mib,
            grace_s=settings.stop_grace_s,
            patience_s=settings.patience_s,
            instruments=settings.instruments,
        )
    finally:
        await pool.close()
        spool.close()
        await archive.close()
        await code.close()
        os.close(lock)


def _frames(settings: Settings, archive: Channels) -> Frames:
    """Return the cache of input frames."""
    return Frames(
        settings.state / "frames",
        settings.frame_cache_mib * MIB,
        archive,
        in_place=settings.in_place is not None,
        patience_s=settings.patience_s,
    )


def _packages(settings: Settings) -> Packages:
    """Return what installs packages. Raises BadSetting where there is nothing to install them with."""
    if settings.packages is not None:
        try:
            uv()
        except FileNotFoundError as error:
            raise BadSetting(f"DPU_WORKER_PACKAGES={settings.packages!r}: {error}") from error
    # Below the code, which a runner's container reads too.
    folder = settings.state / "code" / "packages"
    return Packages(folder, settings.packages_cache_mib * MIB, settings.packages)


def _groups(settings: Settings) -> Groups | None:
    """Return where tasks' groups are made. Raises BadSetting where none can be made there."""
    if settings.cgroup is None:
        return None
    said = f"DPU_WORKER_CGROUP={str(settings.cgroup)!r}"
    if settings.runner is not None:
        raise BadSetting(f"{said}: tasks run next door (DPU_WORKER_RUNNER), where this worker bounds nothing")
    try:
        return Groups(settings.cgroup)
    except OSError as error:
        raise BadSetting(f"{said}: no groups can be made there: {error}") from error


def _walls(settings: Settings) -> Walls:
    """Return what keeps tasks in. Raises BadSetting where this machine has not all of it, and all is required."""
    frames = (settings.state / "frames", *filter(None, [settings.in_place]))
    # A uid of their own would only take from tasks what the list of files gives back to them.
    uids = settings.uids if os.getuid() == 0 and landlock.version() and settings.runner is None else None
    # Next door, tasks have another uid than the worker by themselves.
    if missing := confinement.lacking(settings.runner or uids):
        if settings.isolation_required:
            raise BadSetting(f"DPU_WORKER_ISOLATION='required': this machine lacks {'; '.join(missing)}")
        log.warning("tasks are not kept in by all that there is", lacking=missing)
    readable = (*settings.readable, *filter(None, [settings.instruments]))
    return Walls(uids=uids, readable=readable, frames=frames)


def _lock(state: Path) -> int:
    """Take a worker's folder for this process. Raises BadSetting where another worker has it."""
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BadSetting(
            f"DPU_STATE={str(state)!r}: another worker runs there; each needs a folder of its own"
        ) from None
    return lock


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set, then drain. Raises DpuError where the scheduler will not have this worker."""
    worker = Worker(
        name=settings.name,
        slots=settings.slots,
        memory_mib=settings.memory_mib,
        catalogue=await asyncio.to_thread(_catalogue, settings),
    )
    dispatch, logs = Channels(settings.scheduler), Channels(settings.logs)
    try:
        async with bench(settings) as tools, asyncio.TaskGroup() as tasks:
            await tools.pool.prepare()
            beside = [
                tasks.create_task(each) for each in (LogShipper(tools.spool, logs.of()).ship(), tools.pool.tend())
            ]
            agent = Agent(worker, dispatch.of(), partial(_shift, tools))
            working = tasks.create_task(agent.work(stop, settings.grace_s))
            if settings.idle_s:
                beside.append(tasks.create_task(retire(lambda: any(agent.leases), settings.idle_s, stop)))
            with showing(WorkerMetrics(agent, tools.spool)), showing(DiskMetrics("worker", settings.state)):
                await _until_done(working, stop, settings.grace_s + LAST_WORDS_S + max(settings.stop_grace_s.values()))
            with suppress(TimeoutError):
                await asyncio.wait_for(tools.spool.empty(), LAST_WORDS_S)
            for each in beside:
                each.cancel()
    except BaseExceptionGroup as group:
        raise _only(group) from None
    finally:
        await dispatch.close()
        await logs.close()


def _catalogue(settings: Settings) -> Catalogue:
    """Return what the recipes installed here can do, and what tasks have beside them."""
    told = describe_installed()
    told.packages.CopyFrom(offered(more=settings.packages is not None))
    return told


def _shift(tools: Bench, leases: list[TaskLease]) -> Shift:
    return Shift([Attempt(lease, tools) for lease in leases], tools)


def _only(error: BaseException) -> BaseException:
    """Return the one error inside groups of one, for a person to read."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _until_done(working: asyncio.Task[None], stop: asyncio.Event, seconds: float) -> None:
    """Wait until the agent has nothing more to tell; a scheduler that is away is not waited for for ever."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        done, _ = await asyncio.wait({working}, timeout=seconds)
        if not done:
            log.warning("stopped before the scheduler heard of everything: its leases will lapse")
            working.cancel()
    finally:
        stopping.cancel()


async def main(environment: Environment) -> None:
    """Run the worker until SIGTERM or SIGINT, and let it drain."""
    settings = Settings.read(environment)
    if settings.state.exists() and not settings.state.is_dir():
        raise BadSetting(f"DPU_STATE={str(settings.state)!r}: is not a folder")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.metrics is not None:
        expose(settings.metrics, "worker")
    await run(settings, stop)
