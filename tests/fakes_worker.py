"""What a worker talks to, scripted: real gRPC services behind the real interceptor and tokens, answers written down."""
# ruff: noqa: N802, ARG002 (gRPC names the methods and gives their arguments)

import asyncio
import hashlib
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psutil
import zstandard

from dpu.errors import DpuError, MissingCalibration, NotFound, UnknownSession, Unreachable
from dpu.tree import digest_of
from dpu.values import to_map
from dpu_api.v1 import (
    archive_pb2,
    archive_pb2_grpc,
    codeship_pb2,
    codeship_pb2_grpc,
    dispatch_pb2,
    dispatch_pb2_grpc,
    job_pb2,
    logs_pb2,
    logs_pb2_grpc,
)
from dpud.hosting.caller import current_caller
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, Listening, Peer
from dpud.hosting.tokens import token_row
from dpud.worker.leases import Key, key_of
from dpud.worker.main import Settings, run
from dpud.worker.outcome import Stop

SECRET = "worker-secret"  # noqa: S105 (the tests' own)
WAIT_S = 60.0
#: Whoever has nothing, and how to become so.
NOBODY = 65534
NOTHING = (
    f"--reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs"
    " --bounding-set=-all --inh-caps=-all --ambient-caps=-all"
)
PROJECT = "survey"


async def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """Return what `condition` returns, once that is true; say `what` was waited for when it never is."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (value := condition()):
        assert asyncio.get_running_loop().time() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.01)
    return value


def passing_on() -> list[asyncio.Task[Any]]:
    """Return the tasks by which gRPC passes on what is written into open streams."""
    return [task for task in asyncio.all_tasks() if "_consume_request_iterator" in repr(task)]


HEARTBEAT_S = 0.5


class Scheduler(dispatch_pb2_grpc.DispatchServiceServicer):
    """Hands out the leases that a test puts in, and keeps what comes back."""

    def __init__(self) -> None:
        self.registered: list[dispatch_pb2.RegisterWorkerRequest] = []
        self.session = ""
        self.queue: list[dispatch_pb2.TaskLease] = []
        self.reports: dict[Key, dispatch_pb2.TaskReport] = {}
        self.plans: dict[Key, list[job_pb2.TaskSpec]] = {}
        self.plan_error: DpuError | None = None
        self.cancel: list[job_pb2.TaskRef] = []
        self.stale: list[job_pb2.TaskRef] = []
        self.calls: list[dispatch_pb2.WorkRequest] = []
        self.refused = 0
        #: Whether it is of a release that knows calls alone.
        self.is_old = False
        self._away = False
        self._changed = asyncio.Condition()
        self._newest = 0

    @property
    def away(self) -> bool:
        return self._away

    @away.setter
    def away(self, away: bool) -> None:
        self._away = away
        self._wake()

    def give(self, *leases: dispatch_pb2.TaskLease) -> None:
        self.queue += leases
        self._wake()

    def tell(self, *, cancel: tuple[Any, ...] = (), stale: tuple[Any, ...] = ()) -> None:
        self.cancel += cancel
        self.stale += stale
        self._wake()

    def _wake(self) -> None:
        async def wake() -> None:
            async with self._changed:
                self._changed.notify_all()

        self._waking = asyncio.get_running_loop().create_task(wake())

    async def RegisterWorker(self, request: Any, context: Any) -> dispatch_pb2.RegisterWorkerResponse:
        self._refuse_when_away()
        self.registered.append(request)
        self.session = f"session-{len(self.registered)}"
        answer = dispatch_pb2.RegisterWorkerResponse(session=self.session)
        answer.heartbeat.FromMilliseconds(round(1000 * HEARTBEAT_S))
        answer.lease_term.FromMilliseconds(1500)
        return answer

    def _refuse_when_away(self) -> None:
        if self.away:
            self.refused += 1
            raise Unreachable("the scheduler is away")

    async def Attend(self, requests: Any, context: Any) -> AsyncIterator[dispatch_pb2.AttendResponse]:
        if self.is_old:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        stream = _Stream(self)
        listening = asyncio.create_task(stream.listen(requests))
        try:
            number = 0
            while not listening.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_S), self._changed:
                        await self._changed.wait_for(lambda: listening.done() or self.away or stream.has_news())
                self._refuse_when_away()
                number += 1
                yield dispatch_pb2.AttendResponse(answer=stream.news(), number=number)
            listening.result()
        finally:
            listening.cancel()

    def take(self, request: dispatch_pb2.WorkRequest) -> dispatch_pb2.WorkResponse:
        self._refuse_when_away()
        if request.session != self.session:
            raise UnknownSession
        self.calls.append(request)
        self._newest = request.call
        for report in request.ended:
            if report.HasField("plan"):
                self.plans[key_of(report.ref)] = list(report.plan.tasks)
            else:
                self.reports[key_of(report.ref)] = report
        return dispatch_pb2.WorkResponse(acknowledged=[report.ref for report in request.ended])

    def add_news(self, answer: dispatch_pb2.WorkResponse, room: int) -> None:
        answer.leases.extend(self.queue[:room])
        del self.queue[:room]
        answer.cancel.extend(self.cancel)
        answer.stale.extend(self.stale)
        self.cancel, self.stale = [], []

    async def woken(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def Work(self, request: Any, context: Any) -> dispatch_pb2.WorkResponse:
        answer = self.take(request)
        if not request.ended:
            async with self._changed:
                self._changed.notify_all()
                try:
                    async with asyncio.timeout(request.wait.ToTimedelta().total_seconds()):
                        await self._changed.wait_for(lambda: self._has_news(request))
                except TimeoutError:
                    pass
        self.add_news(answer, 0 if request.draining else request.room)
        return answer

    def _has_news(self, request: Any) -> bool:
        room = self.queue and request.room and not request.draining
        return bool(room or self.cancel or self.stale or request.call < self._newest)

    async def ReportPlan(self, request_iterator: Any, context: Any) -> dispatch_pb2.ReportPlanResponse:
        first, tasks = None, []
        async for request in request_iterator:
            first = first or request
            tasks += request.tasks
        assert first is not None
        assert first.session == self.session
        if self.plan_error is not None:
            raise self.plan_error
        self.plans[key_of(first.report.ref)] = tasks
        return dispatch_pb2.ReportPlanResponse()


class _Stream:
    """What a worker said on its stream and was not answered yet."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._answer = dispatch_pb2.WorkResponse()
        self._room = 0

    async def listen(self, requests: AsyncIterator[dispatch_pb2.AttendRequest]) -> None:
        try:
            async for request in requests:
                self._answer.MergeFrom(self._scheduler.take(request.work))
                self._room = 0 if request.work.draining else request.work.room
                await self._scheduler.woken()
        finally:
            await self._scheduler.woken()

    def has_news(self) -> bool:
        scheduler = self._scheduler
        return bool(
            self._answer.acknowledged or (scheduler.queue and self._room) or scheduler.cancel or scheduler.stale
        )

    def news(self) -> dispatch_pb2.WorkResponse:
        answer, self._answer = self._answer, dispatch_pb2.WorkResponse()
        self._scheduler.add_news(answer, self._room)
        self._room -= len(answer.leases)
        return answer


class Logs(logs_pb2_grpc.LogServiceServicer):
    """Keeps lines by attempt and sequence number."""

    def __init__(self) -> None:
        self.lines: dict[Key, dict[int, tuple[int, int, str]]] = {}
        self.projects: set[str] = set()
        self.away = False

    async def Append(self, request_iterator: Any, context: Any) -> AsyncIterator[logs_pb2.AppendResponse]:
        async for request in request_iterator:
            if self.away:
                raise Unreachable("the log service is away")
            first, *more = map(self._take, (request, *request.more))
            first.more.extend(more)
            yield first

    def _take(self, request: Any) -> logs_pb2.AppendResponse:
        batch = request.batch
        self.projects.add(request.project)
        kept = self.lines.setdefault(key_of(batch.ref), {})
        for index, text in enumerate(batch.texts):
            line = (batch.levels[index], batch.streams[index], text)
            # Whatever comes twice is the same.
            assert kept.setdefault(batch.first + index, line) == line
        return logs_pb2.AppendResponse(ref=batch.ref, acknowledged=batch.first + len(batch.texts))

    def texts(self, ref: job_pb2.TaskRef) -> list[str]:
        kept = self.lines.get(key_of(ref), {})
        assert sorted(kept) == list(range(len(kept))), "lines are missing in the middle"
        return [kept[number][2] for number in sorted(kept)]


class Code(codeship_pb2_grpc.CodeServiceServicer):
    """Trees and blobs, in memory."""

    def __init__(self) -> None:
        self.trees: dict[str, codeship_pb2.Tree] = {}
        self.blobs: dict[str, bytes] = {}
        self.sent: list[str] = []
        #: How often a tree was asked for.
        self.asked = 0

    def put(self, files: dict[str, bytes]) -> str:
        entries = []
        for path, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            self.blobs[digest] = data
            entries.append(codeship_pb2.TreeEntry(path=path, mode=0o644, size=len(data), digest=digest))
        digest = digest_of(entries)
        self.trees[digest] = codeship_pb2.Tree(entries=entries)
        return digest

    async def GetTree(self, request: Any, context: Any) -> codeship_pb2.GetTreeResponse:
        assert current_caller().project == PROJECT
        self.asked += 1
        if request.digest not in self.trees:
            raise NotFound(f"there is no tree {request.digest}")
        return codeship_pb2.GetTreeResponse(tree=self.trees[request.digest])

    async def DownloadBlobs(self, request: Any, context: Any) -> AsyncIterator[codeship_pb2.DownloadBlobsResponse]:
        for digest in request.digests:
            self.sent.append(digest)
            packed = zstandard.compress(self.blobs[digest])
            half = len(packed) // 2
            for piece, last in ((packed[:half], False), (packed[half:], True)):
                chunk = codeship_pb2.BlobChunk(digest=digest, size=len(self.blobs[digest]), zstd=piece, last=last)
                yield codeship_pb2.DownloadBlobsResponse(chunk=chunk)


class Archive(archive_pb2_grpc.ArchiveServiceServicer):
    """Frames by identifier, and what was staged."""

    def __init__(self) -> None:
        self.frames: dict[str, archive_pb2.Frame] = {}
        self.files: dict[str, bytes] = {}
        self.staged: dict[tuple[Key, int], tuple[archive_pb2.StagedProduct, bytes]] = {}
        self.fetched: list[str] = []
        #: Identifiers, by question.
        self.looked_up: list[list[str]] = []
        self.away = False
        self.sends_always = False

    def add(self, frame: archive_pb2.Frame, data: bytes) -> archive_pb2.Frame:
        frame.digest, frame.size = hashlib.sha256(data).hexdigest(), len(data)
        frame.id = frame.id or frame.digest
        self.frames[frame.id] = frame
        self.files[frame.id] = data
        return frame

    def _check(self) -> None:
        assert current_caller().project == PROJECT
        if self.away:
            raise Unreachable("the archive is away")

    async def ListFrames(self, request: Any, context: Any) -> archive_pb2.ListFramesResponse:
        self._check()
        if request.ids:
            self.looked_up.append(list(request.ids))
            for missing in set(request.ids) - set(self.frames):
                raise NotFound(f"there is no frame {missing}")
            return archive_pb2.ListFramesResponse(frames=[self.frames[each] for each in request.ids])
        found = [frame for frame in self.frames.values() if frame.frame_class == request.frame_class]
        start = int(request.page_token or 0)
        more = str(start + 1) if start + 1 < len(found) else ""
        return archive_pb2.ListFramesResponse(frames=found[start : start + 1], next_page_token=more)

    async def FindCalibration(self, request: Any, context: Any) -> archive_pb2.FindCalibrationResponse:
        self._check()
        for frame in self.frames.values():
            if frame.frame_class == request.frame_class:
                return archive_pb2.FindCalibrationResponse(frame=frame, why="same night, newest of 1")
        raise MissingCalibration(f"no {request.frame_class}: dpu.run({request.frame_class!r}, ...)")

    async def FetchFrame(self, request: Any, context: Any) -> AsyncIterator[archive_pb2.FetchFrameResponse]:
        self._check()
        self.fetched.append(request.id)
        yield archive_pb2.FetchFrameResponse(frame=self.frames[request.id])
        if not request.in_place or self.sends_always:
            data = self.files[request.id]
            for start in range(0, len(data), 1000):
                yield archive_pb2.FetchFrameResponse(chunk=data[start : start + 1000])

    async def StageProduct(self, request_iterator: Any, context: Any) -> archive_pb2.StageProductResponse:
        self._check()
        product, data = None, b""
        async for request in request_iterator:
            product = request.product if product is None else product
            data += request.chunk
        assert product is not None
        if product.path:
            data = await asyncio.to_thread(Path(product.path).read_bytes)
        self.staged[(key_of(product.frame.ref), product.number)] = (product, data)
        frame = archive_pb2.Frame()
        frame.CopyFrom(product.frame)
        frame.id = f"product-{product.frame.ref.task}-{product.number}"
        frame.file_name = "Cal-somebody.fits"
        return archive_pb2.StageProductResponse(frame=frame)


#: Put before every scripted registry.
REGISTRY = """
import json, logging, os, signal, subprocess, sys, threading, time, warnings
from pathlib import Path
from dpu_recipes.archive import Selection
from dpu_recipes.frames import Frame
from dpu_recipes.task import RecipeError, TaskSpec

def plan(recipe, options, archive, scratch):
    return globals()[recipe](options, archive, scratch, None)

def run(recipe, options, archive, scratch, spec):
    globals()[recipe](options, archive, scratch, spec)
"""


def tree_of(recipes: str) -> dict[str, bytes]:
    """Return a tree with the real ports of the recipes, and `recipes`: functions by the names of the recipes."""
    spec = importlib.util.find_spec("dpu_recipes")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    files = {f"dpu_recipes/{name}.py": (folder / f"{name}.py").read_bytes() for name in ("archive", "frames", "task")}
    source = textwrap.dedent(REGISTRY) + textwrap.dedent(recipes)
    return files | {"dpu_recipes/__init__.py": b"", "dpu_recipes/registry.py": source.encode()}


@dataclass
class Rig:
    """A worker's whole surroundings."""

    scheduler: Scheduler
    logs: Logs
    code: Code
    archive: Archive
    settings: Settings
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    made: int = 0
    worker_pid: int = field(default_factory=os.getpid)
    #: Processes of this one that are none of the worker's: another suite's database server, say.
    elders: frozenset[int] = field(
        default_factory=lambda: frozenset(child.pid for child in psutil.Process().children())
    )

    def family(self) -> list[psutil.Process]:
        """Return every process below the worker."""
        found = [child for child in psutil.Process(self.worker_pid).children() if child.pid not in self.elders]
        for child in found[:]:
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                found += child.children(recursive=True)
        return found

    def ship(self, recipes: str) -> str:
        return self.code.put(tree_of(recipes))

    def lease(self, recipe: str, digest: str, **changes: Any) -> dispatch_pb2.TaskLease:
        """Return a lease of a new task that runs `recipe` of the tree `digest`."""
        self.made += 1
        options = changes.pop("options", {})
        spec = changes.pop("spec", job_pb2.TaskSpec(label="ccd50", arguments=to_map({})))
        limits = job_pb2.Limits(time_s=changes.pop("time_s", 30.0), memory_mib=changes.pop("memory_mib", 512))
        defaults: dict[str, Any] = {
            "ref": job_pb2.TaskRef(job_id=7, task=self.made, attempt=1),
            "token": f"token-{self.made}",
            "user": "somebody",
            "project": PROJECT,
        }
        return dispatch_pb2.TaskLease(
            recipe=recipe,
            code_digest=digest,
            options=to_map(options),
            spec=spec,
            limits=limits,
            **defaults | changes,
        )

    async def reported(self, lease: dispatch_pb2.TaskLease, seconds: float = WAIT_S) -> dispatch_pb2.TaskReport:
        """Return the report of a lease."""
        key = key_of(lease.ref)
        report = await until(lambda: self.scheduler.reports.get(key), f"the report of {key}", seconds)
        assert isinstance(report, dispatch_pb2.TaskReport)
        return report

    async def report_of(self, lease: dispatch_pb2.TaskLease, seconds: float = WAIT_S) -> dispatch_pb2.TaskReport:
        """Return the report of a lease, and with it all its lines are here."""
        key, report = key_of(lease.ref), await self.reported(lease, seconds)
        await until(lambda: len(self.logs.lines.get(key, {})) >= report.log_lines, f"{report.log_lines} lines of {key}")
        assert len(self.logs.lines.get(key, {})) == report.log_lines
        return report

    async def done(self, lease: dispatch_pb2.TaskLease) -> dispatch_pb2.TaskReport:
        """Give a lease and return its report."""
        self.scheduler.give(lease)
        return await self.report_of(lease)


@asynccontextmanager
async def surroundings(folder: Path, **changes: Any) -> AsyncIterator[Rig]:
    """Serve a scheduler, logs, code and archive on one socket in `folder`; no worker runs yet."""
    tokens = folder / "tokens.toml"
    tokens.write_text(token_row(SECRET, "worker", ["*"], ["worker"]))
    address = Address.parse(f"unix:{folder / 'dpu.sock'}")
    peer = Peer(address, SECRET)
    scheduler, logs, code, archive = Scheduler(), Logs(), Code(), Archive()
    settings = Settings(
        scheduler=peer,
        logs=peer,
        code=peer,
        archive=peer,
        state=folder / "state",
        name="anvil",
        slots=1,
        memory_mib=4096,
        grace_s=0.2,
        stop_grace_s=dict.fromkeys((Stop.CANCELLED, Stop.TIME, Stop.DRAINED), 0.5),
        patience_s=2.0,
        preload=(),
    )
    services = [
        ("dpu_api.v1.DispatchService", partial(dispatch_pb2_grpc.add_DispatchServiceServicer_to_server, scheduler)),
        ("dpu_api.v1.LogService", partial(logs_pb2_grpc.add_LogServiceServicer_to_server, logs)),
        ("dpu_api.v1.CodeService", partial(codeship_pb2_grpc.add_CodeServiceServicer_to_server, code)),
        ("dpu_api.v1.ArchiveService", partial(archive_pb2_grpc.add_ArchiveServiceServicer_to_server, archive)),
    ]
    async with listening(Listening(address, tokens, None), services):
        yield Rig(scheduler, logs, code, archive, replace(settings, **changes))


@asynccontextmanager
async def working(folder: Path, **changes: Any) -> AsyncIterator[Rig]:
    """Run a worker in its surroundings; it is drained afterwards, and must leave no process."""
    async with surroundings(folder, **changes) as rig:
        worker = asyncio.create_task(run(rig.settings, rig.stop))
        try:
            yield rig
        finally:
            rig.stop.set()
            await asyncio.wait_for(worker, WAIT_S)
        assert list((rig.settings.state / "processes").iterdir()) == []


def _let_in(folder: Path, state: Path, home: Path, uid: int) -> None:
    """Give `uid` a worker's folders, and let it talk to the services."""
    state.mkdir()
    if uid:
        for given in (state, folder, home):
            os.chown(given, uid, uid)
        (folder / "dpu.sock").chmod(0o666)


#: What becomes a worker: nobody, who may still read what only root may, since that is where Python can be. Its tasks
#: inherit that, so that not modes but the list of their files must keep them in.
UNPRIVILEGED = """
import asyncio, pickle, signal, sys
from dpud.worker import linux
from dpud.worker.main import run
settings, uid = pickle.load(sys.stdin.buffer)
if uid:
    linux.become(uid, linux.CAP_DAC_READ_SEARCH)

async def work():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run(settings, stop)

asyncio.run(work())
"""


def restricted(*folders: Path | str) -> list[str]:
    """Return a command that runs another as in a restricted pod's container: as nobody, who can gain nothing.

    All that there is can only be read, but `folders`.
    """
    needed = (sys.base_prefix, sys.prefix, Path(__file__).parents[1], *folders)
    # These can be where only root may look: nothing else is there then.
    hidden = {place: top for place in needed if (top := _hidden(place))}
    lines = [f'mount --bind "{folder}" "{folder}"' for folder in folders if folder not in hidden]
    lines += [f'exec {number}<"{place}"' for number, place in enumerate(hidden, 3)]
    lines += [f'mount -t tmpfs -o mode=755 none "{top}"' for top in set(hidden.values())]
    for number, place in enumerate(hidden, 3):
        lines += [f'mkdir -p "{place}"', f'mount -c --bind /proc/self/fd/{number} "{place}"', f"exec {number}<&-"]
    lines += ["mount -o remount,bind,ro /", f'exec setpriv {NOTHING} "$@"']
    return ["unshare", "-m", "sh", "-ec", "\n".join(lines), "restricted"]


def _hidden(place: Path | str) -> Path | None:
    """Return the topmost folder around a place that only its owner may search."""
    around = reversed(Path(place).absolute().parents)
    return next((folder for folder in around if not folder.stat().st_mode & 0o001), None)


def _can_restrict() -> bool:
    """Return whether this machine can start a worker in that form."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return False
    command = [*restricted(), sys.executable, "-c", "import asyncio, dpud"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


#: A worker without any privilege, as strictly as this machine can have it, and what this process itself is, if that is
#: more.
FORMS = ["restricted" if _can_restrict() else "unprivileged", *(["root"] if os.geteuid() == 0 else [])]


@asynccontextmanager
async def working_as(form: str, folder: Path, **changes: Any) -> AsyncIterator[Rig]:
    """Run a worker in its surroundings: in this process, or without any privilege in one of its own."""
    if form == "root":
        async with working(folder, **changes) as rig:
            yield rig
        return
    async with surroundings(folder, **changes) as rig:
        uid = NOBODY if os.geteuid() == 0 else 0
        # Shared by all tests: the worker keeps there what its recipes can do.
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        _let_in(folder, rig.settings.state, home, uid)
        restrict = restricted(folder, home) if form == "restricted" else []
        worker = await asyncio.create_subprocess_exec(
            *restrict,
            sys.executable,
            "-c",
            UNPRIVILEGED,
            stdin=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "DPU_HOME": str(home)},
        )
        rig.worker_pid = worker.pid
        assert worker.stdin is not None
        worker.stdin.write(pickle.dumps((rig.settings, 0 if restrict else uid)))
        worker.stdin.close()
        try:
            await until(lambda: rig.scheduler.registered, "its registration")
            yield rig
        finally:
            worker.terminate()
            assert await asyncio.wait_for(worker.wait(), WAIT_S) == 0
        assert list((rig.settings.state / "processes").iterdir()) == []
