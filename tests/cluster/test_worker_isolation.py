"""What a task may not do, tried by a real task of each form of a worker: as root, and without any privilege."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from dpu_api.v1 import job_pb2
from dpud.hosting.settings import BadSetting
from dpud.worker import confinement, landlock, seccomp
from dpud.worker.main import run
from fakes_worker import FORMS, Rig, surroundings, until, working, working_as

Category = job_pb2.FailureCategory

pytestmark = pytest.mark.skipif(
    not (landlock.version() and seccomp.supported()), reason="this kernel has not both Landlock and seccomp"
)

RECIPES = """
import ctypes, socket, tempfile
from dpu_recipes.archive import ArchiveError

def attempt(what):
    try:
        what()
    except BaseException as error:
        return type(error).__name__
    return "done"

def syscall(*arguments):
    if ctypes.CDLL(None, use_errno=True).syscall(*map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def connect(address):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.connect(address)

def datagram(address):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", address)

def start(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

def Try(given, archive, scratch, spec):
    agent, guard = given["agent"], os.getppid()
    caches = Path(os.environ["NUMBA_CACHE_DIR"]) / "new"
    forbidden = {
        "open a socket": lambda: socket.socket(),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "call the services": lambda: connect(given["socket"]),
        "send a datagram": lambda: datagram(given["socket"]),
        "resolve a name": lambda: socket.create_connection(("localhost", 80)),
        "trace the agent": lambda: syscall(101, 16, agent, 0, 0),
        "read the agent's memory": lambda: open(f"/proc/{agent}/mem", "rb"),
        "read the agent's environment": lambda: Path(f"/proc/{agent}/environ").read_bytes(),
        "see the agent's files": lambda: os.readlink(f"/proc/{agent}/fd/0"),
        "read the guard's environment": lambda: Path(f"/proc/{guard}/environ").read_bytes(),
        "read the token": lambda: Path(given["token"]).read_bytes(),
        "list the worker's folder": lambda: os.listdir(given["state"]),
        "read another scratch": lambda: Path(given["other"]).read_bytes(),
        "write into another scratch": lambda: Path(given["other"]).write_bytes(b""),
        "list the frames": lambda: os.listdir(given["state"] + "/frames"),
        "list the archive": lambda: os.listdir(given["files"]),
        "change a frame": lambda: open(given["frame"], "r+b"),
        "make a frame writable": lambda: os.chmod(given["frame"], 0o666) or open(given["frame"], "ab"),
        "remove a frame": lambda: os.unlink(given["frame"]),
        "link to a frame": lambda: os.link(given["frame"], scratch / "link"),
        "change its code": lambda: open(sys.modules["dpu_recipes.registry"].__file__, "r+"),
        "add to its code": lambda: Path(sys.path[0], "more.py").write_text(""),
        "write over the interpreter": lambda: open(os.path.realpath(sys.executable), "r+b"),
        "add to the packages": lambda: Path(json.__file__).with_name("evil.py").write_text(""),
        "read shadow": lambda: Path("/etc/shadow").read_bytes(),
        "write in /tmp": lambda: tempfile.mkstemp(dir="/tmp"),
        "write in /dev/shm": lambda: Path("/dev/shm/left").write_bytes(b""),
        "list the root": lambda: os.listdir("/"),
        "list the homes": lambda: os.listdir("/root"),
        "mount": lambda: syscall(165, 0, 0, 0, 0, 0),
        "leave its namespaces": lambda: syscall(272, 0x10000000),
        "clone into a user namespace": lambda: syscall(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
        "open by handle": lambda: syscall(304, 0, 0, 0),
        "keep memory": lambda: syscall(29, 0, 4096, 0o1666),
        "use io_uring": lambda: syscall(425, 8, 0),
        "load a program into the kernel": lambda: syscall(321, 0, 0, 0),
        "become root": lambda: os.setresuid(0, 0, 0) or start("false"),
        "make a device": lambda: os.mknod(scratch / "null", 0o666 | 0o020000, os.makedev(1, 3)),
        "signal its guard": lambda: os.kill(guard, 0),
        "signal its agent": lambda: os.kill(agent, 0),
        "lift its limit of processes": lambda: __import__("resource").setrlimit(6, (10 ** 5, 10 ** 5)),
    }
    allowed = {
        "write in its scratch": lambda: (scratch / "a").write_bytes(b"x"),
        "make temporary files": lambda: tempfile.NamedTemporaryFile().write(b"x"),
        "rename across folders": lambda: (scratch / "sub").mkdir() or (scratch / "a").rename(scratch / "sub" / "b"),
        "write its caches": lambda: caches.mkdir() or caches.rmdir(),
        "read the frame": lambda: Path(given["frame"]).read_bytes(),
        "start a program": lambda: start("true"),
        "start Python": lambda: start(sys.executable, "-c", "import json"),
        "connect two sockets": lambda: socket.socketpair()[0].close(),
        "fork": lambda: os.waitpid(os.fork() or os._exit(0), 0),
        "start a thread": lambda: threading.Thread(target=time.time).start(),
        "throw away": lambda: open("/dev/null", "w").write("x"),
        "roll dice": lambda: open("/dev/urandom", "rb").read(8),
        "see itself": lambda: Path("/proc/self/status").read_text(),
        "import more": lambda: __import__("sqlite3"),
    }
    print(json.dumps({name: attempt(what) for name, what in (forbidden | allowed).items()}))
    print(json.dumps(sorted(allowed)))

def Who(options, archive, scratch, spec):
    print(json.dumps([os.getuid(), os.getgid(), os.getgroups()]))

def Bomb(options, archive, scratch, spec):
    children = 0
    try:
        while True:
            if os.fork() == 0:
                time.sleep(600)
            children += 1
    finally:
        print(children)

def KillGuard(options, archive, scratch, spec):
    os.kill(os.getppid(), signal.SIGKILL)

def Wait(options, archive, scratch, spec):
    (scratch / "secret").write_text("mine")
    print(scratch / "secret", flush=True)
    time.sleep(600)

def Steal(options, archive, scratch, spec):
    token = Path(options["token"])
    from datetime import UTC, date, datetime
    product = Frame(frame_class="BiasFrame", instrument="WFI", chip="ccd50", night=date(2000, 4, 28),
                    date_obs=datetime(2000, 4, 28, 22, tzinfo=UTC))
    (scratch / "file").symlink_to(token)
    (scratch / "folder").symlink_to(token.parent)
    os.mkfifo(scratch / "pipe")
    files = ["file", f"folder/{token.name}", "pipe", "../../lock", ".", str(token)]
    try:
        scratch.rename(scratch.with_name("aside"))
        scratch.symlink_to(token.parent)
    except PermissionError:
        print("the folder stays where it is")
    else:
        files += [token.name]
    for file in files:
        try:
            archive.save(product, scratch / file)
        except ArchiveError as error:
            print(file, "refused:", str(error).split(":")[0])

def Well(options, archive, scratch, spec):
    print("well")
"""


@pytest.fixture(params=FORMS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    files = tmp_path / "files"
    files.mkdir(mode=0o755)
    async with working_as(request.param, tmp_path, in_place=files, slots=2) as running:
        yield running


async def test_a_task_can_do_its_work_and_nothing_else(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    other = rig.lease("Wait", digest, user="neighbour")
    rig.scheduler.give(other)
    await until(lambda: rig.logs.lines, "a neighbour's task")
    secret = rig.logs.texts(other.ref)[0]
    assert rig.settings.in_place is not None
    frame = rig.settings.in_place / "aa" / "bb" / "aabb"
    frame.parent.mkdir(parents=True)
    frame.write_bytes(b"frame")
    frame.chmod(0o444)
    options = {
        "agent": rig.worker_pid,
        "socket": str(rig.settings.scheduler.address.socket),
        "token": str(rig.settings.state.parent / "tokens.toml"),
        "state": str(rig.settings.state),
        "files": str(rig.settings.in_place),
        "frame": str(frame),
        "other": secret,
    }
    trying = rig.lease("Try", digest, options=options)
    report = await rig.done(trying)
    assert not report.HasField("failure"), report
    ends, allowed = map(json.loads, rig.logs.texts(trying.ref)[:2])
    assert [name for name, end in ends.items() if end == "done"] == [name for name in ends if name in allowed]
    others = {name: end for name, end in ends.items() if end not in {"done", "PermissionError"}}
    # Where the whole root is read-only, or a link would lead to another file system, that is said first.
    for name in ("write in /tmp", "add to the packages", "link to a frame"):
        assert others.pop(name, "OSError") == "OSError"
    assert others == {"resolve a name": "gaierror", "lift its limit of processes": "ValueError"}
    rig.scheduler.tell(cancel=(other.ref,))
    await rig.report_of(other)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
async def test_two_users_of_a_worker_that_is_root_are_two_users_of_the_system(tmp_path: Path) -> None:
    async with working(tmp_path) as rig:
        digest = rig.ship(RECIPES)
        uids = []
        for user in ("anna", "bert", "anna"):
            lease = rig.lease("Who", digest, user=user)
            assert not (await rig.done(lease)).HasField("failure")
            uids.append(json.loads(rig.logs.texts(lease.ref)[0]))
    assert uids == [[61200, 61200, []], [61201, 61201, []], [61200, 61200, []]]


async def test_a_task_that_forks_without_end_is_stopped_by_its_limit_of_processes(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    lease = rig.lease("Bomb", digest)
    report = await rig.done(lease)
    assert report.failure.category == Category.FAILURE_CATEGORY_RECIPE
    assert report.failure.message.startswith("BlockingIOError")
    assert 50 < int(rig.logs.texts(lease.ref)[0]) <= confinement.PROCESSES
    await until(lambda: len(psutil.Process().children(recursive=True)) < 12, "an end of its children")
    assert not (await rig.done(rig.lease("Well", digest))).HasField("failure")


async def test_a_task_cannot_kill_its_guard(rig: Rig) -> None:
    if landlock.version() < 6 and rig.worker_pid != os.getpid():
        pytest.skip("signals are bounded from Linux 6.12 on")
    report = await rig.done(rig.lease("KillGuard", rig.ship(RECIPES)))
    assert report.failure.category == Category.FAILURE_CATEGORY_RECIPE
    assert report.failure.message.startswith("PermissionError")


async def test_a_product_is_not_taken_from_where_a_task_has_put_a_link(rig: Rig) -> None:
    token = rig.settings.state.parent / "tokens.toml"
    lease = rig.lease("Steal", rig.ship(RECIPES), options={"token": str(token)})
    assert not (await rig.done(lease)).HasField("failure")
    lines = rig.logs.texts(lease.ref)
    assert [line for line in lines if "refused" not in line and "stays" not in line] == []
    assert len(lines) == 7
    assert not rig.archive.staged


async def test_a_worker_that_must_isolate_does_not_start_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    async with surroundings(tmp_path, isolation_required=True) as rig:
        with pytest.raises(BadSetting, match="this machine lacks Landlock"):
            await asyncio.wait_for(run(rig.settings, asyncio.Event()), 60)
