"""Real workers print, real followers read, and everything between them fails: every line once, in order a task."""

import asyncio
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dpu.values import to_map
from dpu_api.v1.job_pb2 import TaskSpec
from fakes_logs_cluster import JOB, Follower, House, started
from fakes_proxy import proxied
from fakes_worker import SECRET, surroundings, until

TASKS, LINES = 4, 1_500
RECIPES = """
def Print(options, archive, scratch, spec):
    for number in range(spec.arguments["lines"]):
        print(f"{spec.arguments['name']} line {number}")
        if number % 25 == 24:
            time.sleep(0.1)

def StopInMidLine(options, archive, scratch, spec):
    for number in range(500):
        print(f"before {number}")
    print("half a li", end="")
    sys.stdout.flush()
    os.write(1, b"and from C a li")
    time.sleep(600)
"""


def expected(name, count=LINES):
    return [f"{name} line {number}" for number in range(count)]


@pytest.fixture
def folder():
    # A socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="dpu", ignore_cleanup_errors=True) as made:
        yield Path(made)


async def print_all(rig, count=TASKS):
    """Lease `count` tasks that print; return how many lines each wrote, once all have ended."""
    digest = rig.ship(RECIPES)
    specs = [
        TaskSpec(label="ccd50", arguments=to_map({"name": f"t{task}", "lines": LINES})) for task in range(1, count + 1)
    ]
    leases = [rig.lease("Print", digest, spec=spec) for spec in specs]
    rig.scheduler.give(*leases)
    for lease in leases:
        await until(lambda key=(JOB, lease.ref.task, 1): rig.scheduler.reports.get(key), f"the end of {lease.ref}", 60)
    return {(task, 1): rig.scheduler.reports[JOB, task, 1].log_lines for task in range(1, count + 1)}


def all_is_there(follower, end, lines):
    assert lines == {(task, 1): LINES for task in range(1, TASKS + 1)}
    assert follower.lines == {(t, 1): expected(f"t{t}") for t in range(1, TASKS + 1)}
    assert all(each.complete for each in follower.ends.values())
    assert len(follower.ends) == TASKS
    assert end.complete


@pytest.mark.timeout(100)
async def test_the_log_service_is_killed_while_four_tasks_print_and_three_followers_read(folder):
    chance = random.Random(5)  # noqa: S311 (moments of a test)
    house = House(folder)
    followers = [Follower(house.address) for _ in range(3)]
    async with asyncio.timeout(90), surroundings(folder) as rig:
        with started(house.logs, house.worker(f"unix:{folder}/dpu.sock", house.address, TASKS)):
            reading = [asyncio.create_task(each.run()) for each in followers]
            printing = asyncio.create_task(print_all(rig))
            for kill in range(3):
                enough = kill * TASKS * LINES // 4 + chance.randrange(100, 500)
                await until(lambda least=enough: followers[0].count >= least, f"{enough} lines", 40)
                await asyncio.to_thread(house.logs.kill)
                house.logs.start()
            lines = await printing
            await house.close(lines)
            ends = await asyncio.gather(*reading)
    for follower, end in zip(followers, ends, strict=True):
        assert follower.breaks >= 3
        all_is_there(follower, end, lines)


@pytest.mark.timeout(100)
async def test_the_network_is_cut_both_ways_and_stalls(folder):
    house = House(folder)
    async with (
        asyncio.timeout(90),
        surroundings(folder) as rig,
        proxied(folder / "in.sock", house.socket) as inward,
        proxied(folder / "out.sock", house.socket) as outward,
    ):
        followers = [Follower(outward.address), Follower(outward.address), Follower(house.address)]
        with started(house.logs, house.worker(f"unix:{folder}/dpu.sock", inward.address, TASKS)):
            reading = [asyncio.create_task(each.run()) for each in followers]
            printing = asyncio.create_task(print_all(rig))
            steady = followers[2]
            for step, (cut, stalled) in enumerate([(inward, outward), (outward, inward), (inward, inward)]):
                await until(lambda least=400 * (step + 1): steady.count >= least, f"cut {step}", 60)
                stalled.stall()
                cut.cut()
                broken = followers[0].breaks
                if cut is outward:
                    await until(lambda before=broken: followers[0].breaks > before, "the followers are cut off", 60)
                else:
                    await until(lambda: (folder / "worker" / "logs.spool").stat().st_size > 4_000, "lines wait", 60)
                for proxy in (inward, outward):
                    proxy.heal()
            lines = await printing
            await house.close(lines)
            ends = await asyncio.gather(*reading)
        assert inward.connections > 1
        assert followers[0].breaks
        for follower, end in zip(followers, ends, strict=True):
            all_is_there(follower, end, lines)


@pytest.mark.timeout(100)
async def test_a_worker_is_killed_in_mid_line(folder):
    house = House(folder)
    followers = [Follower(house.address) for _ in range(3)]
    async with asyncio.timeout(90), surroundings(folder) as rig:
        worker = house.worker(f"unix:{folder}/dpu.sock", house.address, 1)
        with started(house.logs, worker):
            digest = rig.ship(RECIPES)
            reading = [asyncio.create_task(each.run()) for each in followers]
            rig.scheduler.give(rig.lease("StopInMidLine", digest))
            await until(lambda: all(each.count >= 300 for each in followers), "300 lines", 40)
            await asyncio.to_thread(worker.kill)
            worker.start()
            again = rig.lease("Print", digest, spec=TaskSpec(arguments=to_map({"name": "again", "lines": 100})))
            again.ref.task, again.ref.attempt = 1, 2
            rig.scheduler.give(again)
            report = await until(lambda: rig.scheduler.reports.get((JOB, 1, 2)), "the second attempt's end", 40)
            await house.close({(1, 1): -1, (1, 2): report.log_lines}, patience_s=1)
            ends = await asyncio.gather(*reading)
    for follower, end in zip(followers, ends, strict=True):
        first, second = follower.lines[1, 1], follower.lines[1, 2]
        assert len(first) >= 300
        assert first == [f"before {number}" for number in range(500)][: len(first)]
        assert second == expected("again", 100)
        lost = f"the worker was lost; {len(first)} lines arrived, and whether there were more is not known"
        assert (follower.ends[1, 1].complete, follower.ends[1, 1].missing) == (False, lost)
        assert follower.ends[1, 2].complete
        assert not end.complete
        assert follower.lines == followers[0].lines


#: Prints into a spool with little room, and says how many lines the spool has taken; or only ships what is there.
SPOOLING = """
import asyncio, sys
from pathlib import Path
from dpu.channel import open_async_channel
from dpu_api.v1.job_pb2 import TaskRef
from dpud.worker.lines import Level, Lines, Stream
from dpud.worker.logship import LogShipper, TaskLog
from dpud.worker.spool import Spool

async def main(file, address, token, prints):
    spool = Spool(Path(file), memory=4_096, disk=65_536)
    async with open_async_channel(address, token) as channel, asyncio.TaskGroup() as tasks:
        shipping = tasks.create_task(LogShipper(spool, channel).ship())
        if prints == "print":
            log = TaskLog(TaskRef(job_id=7, task=1, attempt=1), "survey", spool)
            for number in range(10**9):
                lines = Lines()
                lines.add(f"t1 line {number}", Level.INFO, Stream.STDOUT, number)
                await log.print(lines)
                await log.flush()
                print(number + 1, flush=True)
        await spool.empty()
        shipping.cancel()
        print("empty", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(100)
async def test_a_worker_starts_again_on_a_full_spool(folder):
    house = House(folder)

    def spooling(what):
        command = [sys.executable, "-c", SPOOLING, str(folder / "spool"), house.address, SECRET, what]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    printing = spooling("print")
    try:
        taken = await asyncio.to_thread(_last_before_silence, printing)
    finally:
        printing.kill()
        printing.wait()
        printing.stdout.close()
    assert taken > 100
    assert (folder / "spool").stat().st_size >= 65_536
    follower = Follower(house.address)
    with started(house.logs):
        shipping = spooling("ship")
        try:
            said, _ = await asyncio.to_thread(shipping.communicate, timeout=40)
        finally:
            shipping.kill()
        assert said.splitlines()[-1] == "empty"
        await house.close({(1, 1): -1}, patience_s=0)
        end = await asyncio.wait_for(follower.run(), 20)
    assert follower.lines[1, 1] == expected("t1", len(follower.lines[1, 1]))
    assert len(follower.lines[1, 1]) >= taken
    assert not end.complete


def _last_before_silence(process, seconds=1.5):
    """Return the last number that a process prints before it falls silent: the spool is full and holds it back."""
    import select

    last = 0
    while select.select([process.stdout], [], [], seconds if last else 20)[0]:
        line = process.stdout.readline()
        assert line, "the printing process ended"
        # The rest is the shipper's: it cannot reach anybody.
        last = int(line) if line[:-1].isdecimal() and len(line) < 10 else last
    return last
