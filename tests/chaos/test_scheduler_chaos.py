"""2,000 tasks while real processes are killed, stopped and cut off: nothing lost, nothing twice, all settled."""

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from dpu.errors import StorageFull
from dpu_api.v1 import job_pb2
from dpud.scheduler.model import LEASE_TERM_S
from fakes_chaos import settled, trial
from fakes_house import fails, specs, submission
from fakes_postgres import programs, running
from fakes_programs import DEADLINE_S, Customer, Others, Scheduler, patiently, send_to_all, worker_program
from fakes_scheduler import background, until

pytestmark = pytest.mark.timeout(3 * DEADLINE_S)


@pytest.fixture
def folder(tmp_path_factory):
    return Path(tmp_path_factory.mktemp("c"))


@pytest.fixture
def server():
    """Return a database server of this test's own, with its syncs."""
    if (found := programs()) is None:
        pytest.skip("this machine has no PostgreSQL: no initdb on PATH or in /usr/lib/postgresql")
    with running(found, "fsync=on") as postgres:
        yield postgres


# What fails


async def kill_leader(run):
    run.leader().kill()
    await run.recovered("kill -9 of the scheduler")


async def kill_worker(run, number):
    """Kill a worker that has tasks; its tasks end with it, and it comes back."""
    worker = run.workers[number]
    await until_it_has_tasks(run, worker)
    starts = worker.starts
    worker.kill()
    await run.recovered("kill -9 of a worker")
    await until(lambda: worker.starts > starts, run.tails, DEADLINE_S)


async def until_it_has_tasks(run, worker):
    async def has_tasks():
        found = await run.seen(worker.name)
        assert found is not None
        assert found[0] > 0

    await patiently(has_tasks)


async def cut(run):
    run.line.cut()
    await asyncio.sleep(0.5)
    run.line.mend()
    await run.recovered("a network that was cut for 0.5 s")


async def freeze(run):
    run.line.passing.clear()
    await asyncio.sleep(1)
    run.line.passing.set()
    await run.recovered("a network that held everything back for 1 s")


async def lose_workers(run):
    """Stop a worker and its tasks, and cut another off from the scheduler, which goes on; return since when."""
    for worker in (run.workers[0], run.workers[2]):
        await until_it_has_tasks(run, worker)
    run.workers[0].send(signal.SIGSTOP)
    run.partition.passing.clear()
    return time.monotonic()


async def find_workers(run, since):
    """Let workers go on whose leases have lapsed: they are told that these are others', and work again."""
    await asyncio.sleep(since + LEASE_TERM_S + 2 - time.monotonic())
    run.workers[0].send(signal.SIGCONT)
    run.partition.passing.set()
    found = time.time()

    async def is_back(worker):
        seen = await run.seen(worker.name)
        assert seen is not None
        assert seen[1] > found

    for worker, why in ((run.workers[0], "stopped"), (run.workers[2], "cut off")):
        await patiently(partial(is_back, worker))
        run.recoveries[f"a worker that was {why} for {LEASE_TERM_S + 2:.0f} s"].append(time.time() - found)


def end_backends(server):
    for backend in psutil.Process(server._process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if "test_" in " ".join(backend.cmdline()):
                backend.send_signal(signal.SIGTERM)


def restart(server):
    server.stop(signal.SIGQUIT)
    server.start()


async def stop_leader(run):
    """Stop the leader past its epoch; the other one leads, and the first, woken, cannot append and ends."""
    stopped, starts = run.leader(), run.leader().starts
    stopped.send(signal.SIGSTOP)
    begun = time.monotonic()
    await until(lambda: run.leader() is not stopped, run.tails, DEADLINE_S)
    await run.recovered("SIGSTOP of the leader", begun)
    stopped.send(signal.SIGCONT)
    await until(lambda: stopped.starts > starts, run.tails, DEADLINE_S)


# The trials


async def test_nothing_is_lost_or_doubled_on_sqlite(folder):
    async with trial(folder) as run:
        await run.recovered("the start")
        lost = await lose_workers(run)
        for fault in (kill_leader, cut, kill_leader, freeze):
            await fault(run)
            await kill_worker(run, 1)
        await find_workers(run, lost)
        await kill_leader(run)
        await settled(run)


async def test_nothing_is_lost_or_doubled_on_postgresql_with_a_standby(folder, server):
    async with trial(folder, 2, server.database()) as run:
        await run.recovered("the start")
        lost = await lose_workers(run)
        for _ in range(20):
            end_backends(server)
            await run.recovered("pg_terminate_backend")
        await asyncio.to_thread(restart, server)
        await run.recovered("a restart of PostgreSQL")
        await kill_worker(run, 1)
        await stop_leader(run)
        await cut(run)
        await find_workers(run, lost)
        await kill_leader(run)
        await settled(run)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_machine_that_slept_goes_on_where_it_was(folder, kind, request):
    server = request.getfixturevalue("server") if kind == "postgresql" else None
    async with trial(folder, 1, server and server.database(), deaths=0.0) as run:
        await until_it_has_tasks(run, run.workers[0])
        await run.recovered("the start")
        slept = LEASE_TERM_S + 5
        run.fleet.awake.clear()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for program in (*run.schedulers, *run.workers):
                program.send(number)
            if server:
                send_to_all(server._process.pid, number)
            if number is signal.SIGSTOP:
                await asyncio.sleep(slept)
        run.fleet.awake.set()
        await run.recovered(f"a machine that slept for {slept:.0f} s")
        await settled(run)
        # Every lease had its full term after that: no task ran again because the machine was away.
        assert set(await run.attempts()) == {1}


@contextmanager
def small_disk(folder, mib):
    """Give a disk of so many MiB at a folder; skip where this user cannot mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root can mount a small disk, and not everywhere")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file):
    """Write to a file until nothing more fits."""
    with suppress(OSError), file.open("wb", buffering=0) as sink:
        while True:
            sink.write(bytes(65_536))
    with suppress(OSError), file.open("ab", buffering=0) as sink:
        while True:
            sink.write(bytes(1))


async def is_refused(anna):
    """Check that no more jobs are taken."""
    request = submission(tasks=specs("more"))
    call = anna.SubmitJob(request, timeout=DEADLINE_S)
    await fails(call, StorageFull, "disk under the scheduler's journal is full")


async def test_a_full_disk_refuses_new_jobs_and_no_work_and_recovers_by_itself(folder):
    with small_disk(folder / "state-a", 80):
        async with trial(folder) as run, run.calling() as anna:
            await run.recovered("the start")
            fill(folder / "state-a" / "filler")
            # The reserve is given up for what runs to end in.
            await run.recovered("a full disk")
            await until(lambda: "room for the journal" in run.leader().log.read_text(), run.tails, DEADLINE_S)
            more = submission(tasks=specs("more"))
            await fails(
                anna.SubmitJob(more, timeout=DEADLINE_S), StorageFull, "disk under the scheduler's journal is full"
            )
            await kill_worker(run, 0)
            (folder / "state-a" / "filler").unlink()
            begun = time.monotonic()
            await run.submit()
            run.recoveries["a disk with room again"].append(time.monotonic() - begun)
            counts = await settled(run)
            assert counts["starts"]["a"] == 1


async def test_a_full_disk_under_postgresql_refuses_new_jobs_and_no_work_and_recovers_by_itself(folder, monkeypatch):
    if (found := programs()) is None:
        pytest.skip("this machine has no PostgreSQL: no initdb on PATH or in /usr/lib/postgresql")
    # Not below a test's own folder, where the database's user may not go.
    with tempfile.TemporaryDirectory(prefix="dpu-disk") as place, small_disk(Path(place) / "disk", 200) as disk:
        Path(place).chmod(0o755)  # noqa: ASYNC240 (nothing else runs yet)
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        with running(found, "fsync=on") as server:
            async with trial(folder, 1, server.database()) as run, run.calling() as anna:
                await run.recovered("the start")
                fill(disk / "filler")
                await until(lambda: "room for the journal" in run.leader().log.read_text(), run.tails, DEADLINE_S)
                more = submission(tasks=specs("more"))
                await fails(
                    anna.SubmitJob(more, timeout=DEADLINE_S), StorageFull, "disk under the scheduler's journal is full"
                )
                # The reserve was given up for what runs to end in.
                await run.recovered("a full disk under PostgreSQL")
                (disk / "filler").unlink()
                begun = time.monotonic()
                await run.submit()
                run.recoveries["a disk with room again"].append(time.monotonic() - begun)
                await settled(run)
                # It did not end of the disk; where the machine kept it waiting beyond its epoch, it began anew.
                assert "DiskFull" not in run.leader().log.read_text()


async def leader_of(schedulers):
    leading = [scheduler for scheduler in schedulers if await scheduler.leads()]
    assert leading
    return leading[0]


async def test_a_leader_that_is_stopped_is_given_up_by_clients_and_workers_that_know_the_other(folder, server):
    others, database = Others(folder), server.database()
    schedulers = [Scheduler(folder, name, others.address, database) for name in "ab"]
    both = ",".join(f"unix:{scheduler.socket}" for scheduler in schedulers)
    worker = worker_program(folder, 0, both, others.address)
    runs = [program.run() for program in (*schedulers, worker)]
    async with others.serving(), background(*runs):
        with closing(Customer(folder, both)) as anna:
            job = await patiently(lambda: asyncio.to_thread(anna.submit, others.ship(), 50))
            waiting = asyncio.create_task(asyncio.to_thread(anna.wait, job))
            await until(lambda: others.archive.told, worker.log.read_text, DEADLINE_S)
            leader = await patiently(lambda: leader_of(schedulers))
            begun = time.monotonic()
            leader.send(signal.SIGSTOP)
            done = await waiting
            print(f"all had ended {time.monotonic() - begun:.1f} s after the leader was stopped")
    assert (done.state, done.counts) == (job_pb2.JOB_STATE_FINISHED, job_pb2.TaskCounts(normal=50))
    published = [told[1:3] for told in others.archive.told if told[0] == "publish"]
    assert set(published) == {(job.id, number) for number in range(50)}
