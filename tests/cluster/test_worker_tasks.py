"""Tasks that misbehave, in real processes: each ends with the right category, and leaves nothing behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from dpu_api.v1 import dispatch_pb2, job_pb2
from fakes_worker import FORMS, SECRET, Rig, surroundings, until, working_as

Category = job_pb2.FailureCategory

RECIPES = """
def Well(options, archive, scratch, spec):
    print("well")

def EatMemory(options, archive, scratch, spec):
    hoard = []
    while True:
        hoard.append(bytearray(b"x") * (8 << 20))

def EatMemoryInChildren(options, archive, scratch, spec):
    code = "x = bytearray(b'x') * (150 << 20); import time; time.sleep(60)"
    for child in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]:
        child.wait()

def Loop(options, archive, scratch, spec):
    while True:
        pass

def Stubborn(options, archive, scratch, spec):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for hide in (False, True):
        if os.fork() == 0:
            if hide:
                os.setsid()
            time.sleep(600)
            os._exit(0)
    print("stubborn", flush=True)
    while True:
        time.sleep(1)

def Orphan(options, archive, scratch, spec):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(600)
    os.wait()

def Segfault(options, archive, scratch, spec):
    import ctypes
    print("about to fall")
    ctypes.string_at(0)

def Killed(options, archive, scratch, spec):
    os.kill(os.getpid(), signal.SIGKILL)

def Wait(options, archive, scratch, spec):
    if os.fork() == 0:
        time.sleep(600)
    print(os.getppid(), flush=True)
    time.sleep(600)

def Nonsense(options, archive, scratch, spec):
    import socket
    channel = next(fd for fd in range(3, 64) if os.path.realpath(f"/proc/self/fd/{fd}").find("socket:") >= 0)
    socket.socket(fileno=channel).sendall(bytes.fromhex("ffffffff"))
    time.sleep(600)

def Exit3(options, archive, scratch, spec):
    os._exit(3)

def SysExit(options, archive, scratch, spec):
    sys.exit("enough")

class Strange(Exception):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
    def __str__(self):
        raise ValueError("no text")
    def __reduce__(self):
        raise TypeError("cannot be pickled")

def RaiseStrange(options, archive, scratch, spec):
    raise Strange()

def Refuse(options, archive, scratch, spec):
    raise RecipeError("only 1 bias of ccd50: at least 3 are needed")

def Fill(options, archive, scratch, spec):
    with (scratch / "huge").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))

def FillWithMany(options, archive, scratch, spec):
    for number in range(10 ** 6):
        (scratch / str(number)).write_bytes(bytes(1 << 20))

def Print(options, archive, scratch, spec):
    print("x" * 1_000_000)
    print("nul:\\0.")
    sys.stdout.buffer.write(b"bytes:\\xff\\xfe.\\n")
    print("surrogate:\\udcff.")
    os.write(1, b"raw \\xe9 and\\0\\n")
    os.write(2, b"no newline at all")

def CloseStdout(options, archive, scratch, spec):
    logging.getLogger().warning("closing")
    sys.stdout.close()
    sys.stderr.close()
    os.close(1)
    os.close(2)

def LeaveBehind(options, archive, scratch, spec):
    os.environ["LEFT"] = "1"
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    (scratch / "secret").mkdir()
    (scratch / "secret").chmod(0)

def Pid(options, archive, scratch, spec):
    print(os.getpid(), os.environ.get("LEFT"), sorted(os.listdir(".")))
"""


@pytest.fixture(params=FORMS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with working_as(request.param, tmp_path, scratch_mib=16) as running:
        yield running


async def only_guarded_ones(rig: Rig) -> None:
    """Wait until of all processes only the idle ones of the pool are left, and nothing in a scratch folder."""

    def settled() -> bool:
        left = list((rig.settings.state / "processes").glob("*/home/scratch/*"))
        return not left and len(rig.family()) <= 2 * (rig.settings.slots + 1)

    await until(settled, f"an end of {[process.pid for process in rig.family()]}")


@pytest.mark.parametrize(
    ("recipe", "category", "message"),
    [
        ("EatMemory", Category.FAILURE_CATEGORY_OUT_OF_MEMORY, "its limit of 256 MiB"),
        ("EatMemoryInChildren", Category.FAILURE_CATEGORY_OUT_OF_MEMORY, "its limit of 256 MiB"),
        ("Loop", Category.FAILURE_CATEGORY_TIME_LIMIT, "longer than its limit of 1.5 s"),
        ("Stubborn", Category.FAILURE_CATEGORY_TIME_LIMIT, "longer than its limit of 1.5 s"),
        ("Segfault", Category.FAILURE_CATEGORY_CRASH, "signal 11 (SIGSEGV)"),
        ("Killed", Category.FAILURE_CATEGORY_CRASH, "signal 9 (SIGKILL)"),
        ("Exit3", Category.FAILURE_CATEGORY_CRASH, "exit code 3"),
        ("Nonsense", Category.FAILURE_CATEGORY_CRASH, "its process was ended by signal 9 (SIGKILL)"),
        ("SysExit", Category.FAILURE_CATEGORY_RECIPE, "SystemExit: enough"),
        ("RaiseStrange", Category.FAILURE_CATEGORY_RECIPE, "Strange: (its text cannot be had: ValueError)"),
        ("Refuse", Category.FAILURE_CATEGORY_RECIPE, "only 1 bias of ccd50: at least 3 are needed"),
        ("Fill", Category.FAILURE_CATEGORY_RECIPE, "OSError: [Errno 27] File too large"),
        ("FillWithMany", Category.FAILURE_CATEGORY_RECIPE, "more than 16 MiB into its scratch folder"),
    ],
)
async def test_a_bad_end_has_its_category_and_harms_nobody(
    rig: Rig, recipe: str, category: Category.ValueType, message: str
) -> None:
    digest = rig.ship(RECIPES)
    report = await rig.done(rig.lease(recipe, digest, time_s=1.5 if "limit of 1.5" in message else 60, memory_mib=256))
    assert (Category.Name(report.failure.category), message in report.failure.message) == (
        Category.Name(category),
        True,
    ), report
    await only_guarded_ones(rig)
    after = await rig.done(rig.lease("Well", digest))
    assert not after.HasField("failure")


async def test_a_crash_reports_the_end_of_its_log(rig: Rig) -> None:
    lease = rig.lease("Segfault", rig.ship(RECIPES))
    report = await rig.done(lease)
    assert "about to fall" in report.failure.detail
    assert any("Segmentation fault" in line for line in rig.logs.texts(lease.ref))


async def test_a_task_whose_guard_was_killed_ends_with_it(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    lease = rig.lease("Wait", digest)
    rig.scheduler.give(lease)
    await until(lambda: rig.logs.lines, "its first line")
    os.kill(int(rig.logs.texts(lease.ref)[0]), signal.SIGKILL)
    report = await rig.report_of(lease)
    assert report.failure.category == Category.FAILURE_CATEGORY_CRASH
    assert "its process was lost" in report.failure.message
    await only_guarded_ones(rig)
    assert not (await rig.done(rig.lease("Well", digest))).HasField("failure")


async def test_processes_that_hide_in_a_session_of_their_own_end_with_their_task(rig: Rig) -> None:
    report = await rig.done(rig.lease("Orphan", rig.ship(RECIPES)))
    assert not report.HasField("failure")
    await only_guarded_ones(rig)


async def test_strange_output_arrives_escaped(rig: Rig) -> None:
    lease = rig.lease("Print", rig.ship(RECIPES))
    await rig.done(lease)
    lines = rig.logs.texts(lease.ref)
    printed = [line for line in lines if not line.startswith(("raw", "no newline"))]
    assert printed == ["x" * 1_000_000, "nul:\\x00.", "bytes:\\xff\\xfe.", "surrogate:\\xff."]
    assert {"raw \\xe9 and\\x00", "no newline at all"} < set(lines)


async def test_what_a_task_closed_or_left_behind_does_not_reach_the_next(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    pids = set()
    for recipe in ("CloseStdout", "LeaveBehind"):
        assert not (await rig.done(rig.lease(recipe, digest))).HasField("failure")
        after = rig.lease("Pid", digest)
        await rig.done(after)
        pid, rest = rig.logs.texts(after.ref)[0].split(" ", 1)
        pids.add(pid)
        assert rest == "None []"
    assert len(pids) == 2
    await only_guarded_ones(rig)


async def test_a_cancelled_task_that_ignores_sigterm_is_killed_with_all_its_children(rig: Rig) -> None:
    lease = rig.lease("Stubborn", rig.ship(RECIPES))
    rig.scheduler.give(lease)
    await until(lambda: rig.logs.lines, "its first line")
    rig.scheduler.tell(cancel=(lease.ref,))
    report = await rig.report_of(lease)
    assert report.failure.category == Category.FAILURE_CATEGORY_CANCELLED
    await only_guarded_ones(rig)


WORKER = """
import asyncio, sys
from dpud.hosting.settings import Environment
from dpud.worker.main import main
asyncio.run(main(Environment(dict(line.split("=", 1) for line in sys.argv[1:]))))
"""


async def start_worker(rig: Rig, token: Path) -> asyncio.subprocess.Process:
    """Start a worker of its own process, as `python -m dpud worker` does."""
    await asyncio.to_thread(token.write_text, SECRET)
    address = rig.settings.scheduler.address.text
    settings = {
        **dict.fromkeys(("DPU_SCHEDULER", "DPU_LOGS", "DPU_CODE", "DPU_ARCHIVE"), address),
        "DPU_TOKEN_FILE": str(token),
        "DPU_STATE": str(rig.settings.state),
        "DPU_WORKER_SLOTS": "1",
        "DPU_WORKER_GRACE_S": "0.5",
    }
    arguments = [f"{key}={value}" for key, value in settings.items()]
    return await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, *arguments)


async def test_kill_9_of_the_worker_leaves_no_process_and_no_scratch(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as rig:
        worker = await start_worker(rig, tmp_path / "token")
        lease = rig.lease("Stubborn", rig.ship(RECIPES))
        rig.scheduler.give(lease)
        await until(lambda: rig.logs.lines, "its first line")
        family = psutil.Process(worker.pid)
        # Two guards, the spare process, the task and its two children.
        await until(lambda: len(family.children(recursive=True)) == 6, "six processes")
        below = family.children(recursive=True)
        worker.kill()
        await worker.wait()
        await until(lambda: not any(alive(process) for process in below), "an end of all its processes")
        assert list((rig.settings.state / "processes").iterdir()) == []


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


async def test_sigterm_hands_back_what_waits_and_what_will_not_end(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as rig:
        worker = await start_worker(rig, tmp_path / "token")
        digest = rig.ship(RECIPES)
        running = rig.lease("Stubborn", digest)
        rig.scheduler.give(running)
        await until(lambda: rig.logs.lines, "its first line")
        worker.send_signal(signal.SIGTERM)
        report = await rig.report_of(running)
        assert report.failure.category == Category.FAILURE_CATEGORY_WORKER_DRAINED
        assert await asyncio.wait_for(worker.wait(), 60) == 0
        assert rig.scheduler.calls[-1].draining


async def test_a_killed_worker_that_starts_again_reports_anew(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as rig:
        digest = rig.ship(RECIPES)
        first = await start_worker(rig, tmp_path / "token")
        await until(lambda: rig.scheduler.registered, "the first registration")
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()
        second = await start_worker(rig, tmp_path / "token")
        await until(lambda: len(rig.scheduler.registered) == 2, "the second registration")
        report: dispatch_pb2.TaskReport = await rig.done(rig.lease("Well", digest))
        assert not report.HasField("failure")
        second.terminate()
        await second.wait()
