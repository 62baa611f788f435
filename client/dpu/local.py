"""The DPU of one user on one machine, from its user's side: where it lives, is it there, start it, stop it.

Its other side is dpud.embedded. The two agree on a `Home`: a folder with a lock that the living DPU holds, a file
that says where it listens, and a token that only its owner can read.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dpu
from dpu.errors import NotAllowed, StorageFull, Unreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_S = 120.0
STOP_S = 30.0
#: A Unix socket's whole path must fit in 108 bytes (104 on some systems).
LONGEST_SOCKET = 100
#: File systems on which locks and sockets cannot be trusted.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "lustre", "gpfs", "beegfs", "ceph", "9p", "glusterfs"}
)
#: The folder in its home where a user's own instrument files are.
INSTRUMENTS = "instruments"
#: What the DPU keeps of its starter's environment: nothing that could change what a recipe computes.
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "XDG_RUNTIME_DIR", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class Local:
    """A DPU that answers."""

    address: str
    archive_address: str
    token: str


@dataclass(frozen=True, slots=True)
class Running:
    """What a running DPU says of itself in its home."""

    pid: int
    version: str
    address: str
    archive_address: str
    slots: int


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of an embedded DPU."""

    folder: Path

    @property
    def lock(self) -> Path:
        """Held by the DPU as long as it lives."""
        return self.folder / "lock"

    @property
    def running(self) -> Path:
        """Written when it is ready, removed when it ends."""
        return self.folder / "running.json"

    @property
    def token(self) -> Path:
        """Its owner's token."""
        return self.folder / "token"

    @property
    def log(self) -> Path:
        """What the services say."""
        return self.folder / "dpud.log"

    @property
    def sockets(self) -> Path:
        """The folder of its sockets: below the home where the path is short enough, else a private one elsewhere."""
        near = self.folder / "run"
        if len(str(near / "archive.sock")) <= LONGEST_SOCKET:
            return near
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        return Path(runtime) / f"dpu-{os.getuid()}-{name}"

    def prepare(self) -> None:
        """Make the folders, private to their owner. Raises UsageError or StorageFull with the reason."""
        refuse_network(self.folder)
        for folder in (self.folder, self.sockets):
            _make_private(folder)
            # On a full disk one that runs still answers, and says itself what it cannot do.
            if not self.is_alive():
                _probe(folder)

    def read_running(self) -> Running | None:
        """Return what the running DPU wrote, or None."""
        try:
            return Running(**json.loads(self.running.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write_running(self, running: Running) -> None:
        """Say where the DPU listens, in one step."""
        fresh = self.running.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(running)))
        fresh.replace(self.running)

    def is_alive(self) -> bool:
        """Return whether a DPU holds the lock."""
        try:
            with self.lock.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def default_home() -> Path:
    """Return $DPU_HOME, or the place for state that the XDG specification names."""
    if home := os.environ.get("DPU_HOME"):
        return Path(home).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "dpu"


def default_slots() -> int:
    """Return $DPU_LOCAL_SLOTS, or the number of processors that this process may use."""
    text = os.environ.get("DPU_LOCAL_SLOTS", "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"DPU_LOCAL_SLOTS={text!r}: must be a whole number of at least 1")
    return int(text)


def ensure(home: Path, say: Callable[[str], None] = print) -> Local:
    """Return the DPU that lives in `home`; start it where there is none.

    A DPU of another version is restarted when it is idle, and used with a line to `say` when it is busy.
    Raises Unreachable with the last line of its log when it does not start.
    """
    place = Home(home)
    slots = default_slots()
    place.prepare()
    with _starting(place):
        running = _hello(place)
        if running is not None and (running.version, running.slots) != (dpu.__version__, slots):
            running = _renew(place, running, slots, say)
        if running is None:
            running = _start(place, slots)
    return Local(running.address, running.archive_address, place.token.read_text().strip())


def stop(home: Path) -> bool:
    """End the DPU that lives in `home`; return whether there was one. Nothing queued or made is lost.

    Raises Unreachable when it is still there after 30 s.
    """
    place = Home(home)
    running = place.read_running()
    if not place.is_alive() or running is None:
        return False
    os.kill(running.pid, signal.SIGTERM)
    if not _wait(lambda: not place.is_alive(), STOP_S):
        raise Unreachable(
            f"the DPU in {home} (process {running.pid}) has not ended after {STOP_S:.0f} s: see {place.log}"
        )
    return True


def refuse_network(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Raise UsageError where `folder` is on a network file system."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return  # no such table on this system
    here = folder.absolute()
    holding = [row for row in rows if here.is_relative_to(row[1].replace("\\040", " "))]
    kind = max(holding, key=lambda row: len(row[1]))[2] if holding else ""
    if kind in NETWORK_FILE_SYSTEMS:
        raise UsageError(f"{folder} is on a network file system ({kind}): set DPU_HOME to a folder on a local disk")


def _make_private(folder: Path) -> None:
    if folder.exists() and folder.stat().st_uid != os.getuid():
        raise NotAllowed(f"{folder} belongs to somebody else: set DPU_HOME to a folder of yours")
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)


def _probe(folder: Path) -> None:
    with _writing(folder), tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0" * 4096)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise StorageFull where the block cannot write in `folder`."""
    try:
        yield
    except OSError as error:
        raise StorageFull(
            f"the DPU cannot write in {folder} ({error.strerror}): mend that, or set DPU_HOME to another folder"
        ) from error


@contextmanager
def _starting(place: Home) -> Iterator[None]:
    """Let one client at a time look and start."""
    with (place.folder / "starting").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _hello(place: Home) -> Running | None:
    """Return the DPU that answers, or None."""
    running = place.read_running()
    if running is None or not place.is_alive():
        return None
    try:
        _ask(place, running)
    except Unreachable:
        return None
    return running


def _ask(place: Home, running: Running) -> Any:
    """Return the answer of GetDpu."""
    import grpc

    from dpu.channel import open_channel
    from dpu.status import from_rpc
    from dpu_api.v1.scheduler_pb2 import GetDpuRequest
    from dpu_api.v1.scheduler_pb2_grpc import SchedulerServiceStub

    with open_channel(running.address, place.token.read_text().strip(), "default") as channel:
        try:
            return SchedulerServiceStub(channel).GetDpu(GetDpuRequest(), timeout=10, wait_for_ready=True)
        except grpc.RpcError as error:
            raise from_rpc(error, f"the DPU in {place.folder}") from error


def _renew(place: Home, running: Running, slots: int, say: Callable[[str], None]) -> Running | None:
    """Stop an idle DPU that is of another version or size, so that a fresh one is started; keep a busy one."""
    jobs = _ask(place, running).open_jobs
    if jobs:
        say(
            f"The local DPU is of version {running.version} with {running.slots} slots (asked for: {dpu.__version__}, "
            f"{slots}) and has {jobs} open jobs: used as it is, renewed when it is idle."
        )
        return running
    stop(place.folder)
    return None


def _start(place: Home, slots: int) -> Running:
    """Start a DPU in the background and wait until it is ready."""
    if importlib.util.find_spec("dpud") is None or importlib.util.find_spec("sqlalchemy") is None:
        raise Unreachable(
            "no DPU is configured and the services are not installed here: pip install 'dpu[services,recipes]', "
            "or name a DPU in ~/.config/dpu/config.toml"
        )
    if place.is_alive():  # but did not answer
        raise Unreachable(f"the DPU in {place.folder} does not answer: `dpud stop`, and see {place.log}")
    place.running.unlink(missing_ok=True)
    environment = {key: os.environ[key] for key in KEPT if key in os.environ}
    command = [sys.executable, "-m", "dpud", "embedded", "--home", str(place.folder), "--slots", str(slots)]
    with place.log.open("ab") as log:
        begun = log.tell()
        process = subprocess.Popen(  # noqa: S603 (our own program)
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment, start_new_session=True
        )
    _wait(lambda: place.read_running() is not None or process.poll() is not None, START_S)
    running, has_ended = place.read_running(), process.poll() is not None
    # It outlives this process, on purpose; where it does not, nothing of it shall be left.
    threading.Thread(target=process.wait, name="embedded-dpu", daemon=True).start()
    if running is None:
        process.terminate()
        why = _last_line(place.log, begun) if has_ended else f"it is not ready after {START_S:.0f} s"
        raise Unreachable(f"the local DPU did not start: {why} (its log: {place.log})")
    return running


def _last_line(log: Path, begun: int) -> str:
    with log.open("rb") as file:
        file.seek(begun)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended, and said nothing"


def _wait(met: Callable[[], bool], seconds: float) -> bool:
    """Return whether the condition was met in time."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
