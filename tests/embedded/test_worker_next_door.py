"""A worker whose tasks run next door: the processes are another's, here as in a pod another user's."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from dpu_api.v1 import job_pb2
from dpu_api.v1.archive_pb2 import Frame
from dpud.hosting.children import send_signal
from dpud.worker.main import run
from dpud.worker.next_door import Guest, NextDoor
from dpud.worker.tenancy import Tenancy
from fakes_worker import surroundings, until

# A nursery, guards and tasks start one after the other: a busy machine takes its time.
pytestmark = pytest.mark.timeout(300)
Category = job_pb2.FailureCategory
#: As whom tasks run where this process may decide that.
RUNNER = 61_199

RECIPES = """
import subprocess, tempfile

def Who(options, archive, scratch, spec):
    print(os.getuid(), os.getpid(), os.getppid())

def Nap(options, archive, scratch, spec):
    time.sleep(0.35)

def Hang(options, archive, scratch, spec):
    print("hanging")
    time.sleep(600)

def Family(options, archive, scratch, spec):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print("hanging")
    time.sleep(600)

def Eat(options, archive, scratch, spec):
    eaten = [bytearray(os.urandom(1 << 20)) for _ in range(200)]
    time.sleep(600)

def Make(options, archive, scratch, spec):
    folder = Path(tempfile.mkdtemp(dir=scratch))
    made = folder / "made.fits"
    made.write_bytes(b"pixels" * 1000)
    made.chmod(0o600)
    archive.save(archive.find("raw-0"), made)

def Look(options, archive, scratch, spec):
    for place in options["places"]:
        try:
            print(place, os.listdir(place))
        except OSError as error:
            print(place, error.strerror)
"""

#: Becomes another user, as the runner's container is, and may still read where Python is.
NURSERY = """
import sys
from dpud.worker import linux, nursery
if (uid := int(sys.argv.pop(1))):
    linux.become(uid, linux.CAP_DAC_READ_SEARCH)
nursery.main()
"""


class House:
    """A runner's container: a process of its own, started again when it ends."""

    def __init__(self, folder):
        self.folder = folder
        self.uid = RUNNER if os.geteuid() == 0 else 0
        folder.mkdir(mode=0o750)
        if self.uid:
            os.chown(folder, self.uid, os.getegid())
        self.starts = 0

    async def keep(self):
        while True:
            self.child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", NURSERY, str(self.uid), str(self.folder), env={"PATH": os.environ["PATH"]}
            )
            self.starts += 1
            await self.child.wait()

    def kill(self):
        """Kill all that is in it, as the kernel does when the first process of a container dies."""
        nursery = psutil.Process(self.child.pid)
        for each in (nursery, *nursery.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.kill()

    def hanging(self):
        """Return the processes in it that hang, each with who has started it."""
        found = []
        for each in psutil.Process(self.child.pid).children(recursive=True):
            # It may end while it is looked at.
            with suppress(psutil.Error):
                if "sleep(600)" in " ".join(each.cmdline()):
                    found.append(each)
        return found

    async def end(self, keeping):
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        family = psutil.Process(self.child.pid).children(recursive=True)
        send_signal(self.child, signal.SIGTERM)
        await self.child.wait()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 30)
        assert alive == []


@asynccontextmanager
async def working(folder, **changes):
    """Run a worker beside a runner's container; yields its rig and the container."""
    house = House(folder / "tasks")
    keeping = asyncio.create_task(house.keep())
    async with surroundings(folder, runner=house.folder, **changes) as rig:
        worker = asyncio.create_task(run(rig.settings, rig.stop))
        try:
            yield rig, house
        finally:
            rig.stop.set()
            await asyncio.wait_for(worker, 60)
            assert list((house.folder / "processes").iterdir()) == []
            await house.end(keeping)


def printed(rig, lease):
    return rig.logs.texts(lease.ref)


async def hanging(rig, recipe, digest):
    lease = rig.lease(recipe, digest)
    rig.scheduler.give(lease)
    await until(lambda: "hanging" in printed(rig, lease), f"{recipe} to hang", 60)
    return lease


async def test_a_task_runs_next_door_as_somebody_else(tmp_path):
    async with working(tmp_path) as (rig, house):
        lease = rig.lease("Who", rig.ship(RECIPES))
        report = await rig.done(lease)
        assert not report.HasField("failure"), report
        uid, _, guard = map(int, printed(rig, lease)[0].split())
        assert uid == (house.uid or os.getuid())
        assert guard in [child.pid for child in psutil.Process(house.child.pid).children()]


async def test_what_a_task_offers_is_read_and_staged(tmp_path):
    async with working(tmp_path) as (rig, _):
        raw = Frame(id="raw-0", frame_class="RawBiasFrame", file_name="raw-0.fits", night="2000-04-28")
        raw.date_obs.FromJsonString("2000-04-28T22:01:03Z")
        rig.archive.add(raw, b"raw")
        report = await rig.done(rig.lease("Make", rig.ship(RECIPES)))
        assert not report.HasField("failure"), report
        assert report.products == 1
        assert [data for _, data in rig.archive.staged.values()] == [b"pixels" * 1000]


async def test_a_cancelled_task_is_ended_with_all_that_it_started(tmp_path):
    async with working(tmp_path) as (rig, house):
        lease = await hanging(rig, "Family", rig.ship(RECIPES))
        rig.scheduler.tell(cancel=(lease.ref,))
        report = await rig.report_of(lease, 60)
        assert report.failure.category == Category.FAILURE_CATEGORY_CANCELLED
        assert house.hanging() == []


async def test_a_task_that_eats_memory_next_door_is_stopped(tmp_path):
    async with working(tmp_path) as (rig, _):
        lease = rig.lease("Eat", rig.ship(RECIPES), memory_mib=100, time_s=120.0)
        report = await rig.done(lease)
        assert report.failure.category == Category.FAILURE_CATEGORY_OUT_OF_MEMORY


async def test_a_task_that_ends_while_its_memory_is_asked_for_is_reported(tmp_path, monkeypatch):
    async def slowly(_self, _pid):
        await asyncio.sleep(0.4)
        return 1.0

    monkeypatch.setattr(Guest, "memory_mib", slowly)
    async with working(tmp_path) as (rig, _):
        digest = rig.ship(RECIPES)
        leases = [rig.lease("Nap", digest) for _ in range(4)]
        rig.scheduler.give(*leases)
        for lease in leases:
            assert not (await rig.report_of(lease, 60)).HasField("failure")


async def test_a_guard_that_is_killed_leaves_nothing(tmp_path):
    async with working(tmp_path) as (rig, house):
        lease = await hanging(rig, "Family", rig.ship(RECIPES))
        (child,) = await until(house.hanging, "what it starts", 60)
        (guard,) = [each for each in child.parents() if each.ppid() == house.child.pid]
        guard.kill()
        report = await rig.report_of(lease, 60)
        assert report.failure.category == Category.FAILURE_CATEGORY_CRASH
        assert "lost" in report.failure.message

        await until(lambda: house.hanging() == [], "its descendants to be gone", 60)
        assert not (await rig.done(rig.lease("Who", rig.ship(RECIPES)))).HasField("failure")


async def test_when_the_container_dies_its_task_is_reported_and_the_next_one_runs(tmp_path):
    async with working(tmp_path) as (rig, house):
        digest = rig.ship(RECIPES)
        lease = await hanging(rig, "Hang", digest)
        house.kill()
        report = await rig.report_of(lease, 60)
        assert report.failure.category == Category.FAILURE_CATEGORY_CRASH
        await until(lambda: house.starts == 2, "the container to start again", 60)
        assert not (await rig.done(rig.lease("Who", digest))).HasField("failure")


async def test_another_user_finds_nothing_of_the_one_before(tmp_path):
    async with working(tmp_path, slots=2) as (rig, house):
        digest = rig.ship(RECIPES)
        await rig.done(rig.lease("Who", digest, user="anna"))
        annas = {each.pid for each in psutil.Process(house.child.pid).children(recursive=True)}
        assert list((house.folder / "caches").iterdir())
        nursery = house.child.pid
        report = await rig.done(rig.lease("Who", digest, user="bert"))
        assert not report.HasField("failure"), report
        berts = {each.pid for each in psutil.Process(house.child.pid).children(recursive=True)}
        assert annas
        assert annas & berts == set()
        assert len(list((house.folder / "caches").iterdir())) == 1
        # The same process, which has begun anew: no container was started for it.
        assert (house.child.pid, house.starts) == (nursery, 1)


async def test_two_users_never_run_at_the_same_time(tmp_path):
    async with working(tmp_path, slots=2) as (rig, _):
        digest = rig.ship(RECIPES)
        annas = await hanging(rig, "Hang", digest)
        berts = rig.lease("Who", digest, user="bert")
        rig.scheduler.give(berts)
        await until(lambda: any(len(call.held) == 2 for call in rig.scheduler.calls), "both leases to be held", 60)
        assert printed(rig, berts) == []
        rig.scheduler.tell(cancel=(annas.ref,))
        assert not (await rig.report_of(berts, 60)).HasField("failure")


async def test_a_container_that_is_not_there_is_waited_for_only_so_long(tmp_path):
    nobody = NextDoor(Path(tmp_path), patience_s=0.1)
    with pytest.raises(FileNotFoundError):
        await nobody.ask({"do": "memory", "pid": 1, "family": False})


async def test_who_waits_for_another_user_holds_back_those_behind():
    moved = []

    async def move_in(user):
        moved.append(user)

    tenancy = Tenancy(move_in)
    await tenancy.enter("anna")
    waiting = [asyncio.create_task(tenancy.enter(user)) for user in ("bert", "anna")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [False, False]
    tenancy.leave()
    await waiting[0]
    tenancy.leave()
    await waiting[1]
    assert moved == ["anna", "bert", "anna"]
