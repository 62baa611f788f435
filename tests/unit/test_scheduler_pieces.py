"""What is long is done in pieces, and others are served between them."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from dpu.errors import Conflict, NotAllowed, StorageFull, UsageError
from dpud.scheduler import codec, events
from dpud.scheduler.arrivals import PIECE, arriving, repetition
from dpud.scheduler.cancels import JOBS, TASKS, cancelling
from dpud.scheduler.commands import Cancel, Claim, Cordon, Deposit, Register, Repeat
from dpud.scheduler.directory import Directory
from dpud.scheduler.journal import MemoryJournal, Shelf
from dpud.scheduler.loop import Loop
from dpud.scheduler.model import JobState, TaskState
from dpud.scheduler.outbox import Outbox, RecordingPeers
from dpud.scheduler.wire import task_message
from fakes_scheduler import NOON, background, failure, plans, report, submit, until

LONG = 4 * PIECE


@pytest.fixture
def shelf():
    return Shelf()


@asynccontextmanager
async def running(shelf, **settings):
    journal = MemoryJournal(shelf)
    loop = Loop(journal, lambda: NOON, tick_s=0.005, **settings)
    async with background(loop.run(), Outbox(loop, RecordingPeers()).run()):
        yield loop, Directory(loop.state, journal)


async def submitted(loop, length, name="r"):
    """Submit a job of many tasks; return its number."""
    tasks = plans(*map(str, range(length)))
    for first in range(0, length, PIECE):
        await loop.execute(Deposit(key=name, before=first, tasks=tasks[first : first + PIECE]))
    [taken] = await loop.execute(submit(request_id=name, deposit=name))
    return taken.job


async def ended(loop, length, *, failing=0):
    """Have a job of many tasks end, of which the first so many fail and the next succeeds; return its number."""
    job = await submitted(loop, length)
    await loop.execute(Register(session="s", worker="w1", slots=9, memory_mib=10_000))
    claim = Claim(session="s", room=failing + 1, memory_mib=10**6, nonce="n")
    leases = [event for event in await loop.execute(claim) if isinstance(event, events.TaskLeased)]
    await loop.execute(*(report(lease, failure() if lease.task < failing else None, products=0) for lease in leases))
    await loop.execute(cancel(job))
    await until(lambda: job in loop.state.ended or job not in loop.state.jobs, lambda: loop.state.outbox)
    return job


def cancel(job, **overrides):
    return Cancel(**{"job": job, "by": "anna", "project": "kids", **overrides})


async def done_again(loop, directory, job, *, only_failed=False, **overrides):
    """Do a job again as the service does; return the new job."""
    asked = {"request_id": "again", "digest": "d", "user": "anna", "project": "kids"}
    wish = Repeat(**{**asked, "job": directory.job(job, "kids"), **overrides})
    async with arriving(loop) as arrival:
        await loop.execute(await repetition(loop, directory, arrival, wish, only_failed=only_failed))
    return loop.state.jobs[loop.state.requests["kids", "anna", wish.request_id].job]


def longest(shelf):
    """Return the largest number of tasks that one group of the journal has."""
    return max(
        len(getattr(event, "labels", getattr(event, "tasks", ())))
        for group in shelf.groups
        for event in codec.load_events(group)
    )


@pytest.mark.parametrize("max_ended", [0, 10])
async def test_a_long_job_is_done_again_in_pieces_from_the_memory_or_the_history(shelf, max_ended):
    async with running(shelf, max_ended=max_ended) as (loop, directory):
        job = await ended(loop, LONG, failing=3)
        if not max_ended:
            await until(lambda: job not in loop.state.jobs, lambda: loop.state.ended)
        shelf.groups.clear()
        whole = await done_again(loop, directory, job)
        assert [task.label for task in whole.tasks] == [*map(str, range(LONG))]
        failed = await done_again(loop, directory, job, only_failed=True, request_id="other")
        # The fourth had succeeded, and what waited was cancelled.
        assert [task.label for task in failed.tasks] == [str(number) for number in range(LONG) if number != 3]
        assert longest(shelf) <= PIECE
        assert not loop.state.deposits


async def test_others_are_served_while_a_long_job_is_done_again(shelf):
    async with running(shelf) as (loop, directory):
        job = await ended(loop, LONG)
        again = asyncio.create_task(done_again(loop, directory, job))
        await until(lambda: loop.state.deposits, lambda: "nothing arrived")
        await loop.execute(Cordon(worker="w2", cordoned=True, by="ruth"))
        assert not again.done()
        assert len((await again).tasks) == LONG


async def test_what_is_not_done_again_lays_nothing_down(shelf):
    async with running(shelf) as (loop, directory):
        job = await ended(loop, LONG)
        taken = await done_again(loop, directory, job)
        groups = list(shelf.groups)
        assert await done_again(loop, directory, job) is taken
        with pytest.raises(Conflict, match="was used for another job"):
            await done_again(loop, directory, job, digest="other")
        with pytest.raises(UsageError, match=f"job {taken.id} has not ended"):
            await done_again(loop, directory, taken.id, request_id="early")
        shelf.full = True
        await until(lambda: not loop.roomy, lambda: "still roomy")
        with pytest.raises(StorageFull):
            await done_again(loop, directory, job, request_id="late")
        assert shelf.groups == groups


async def test_nothing_of_a_job_that_went_well_is_done_again(shelf):
    async with running(shelf) as (loop, directory):
        job = await submitted(loop, 1)
        await loop.execute(Register(session="s", worker="w1", slots=1, memory_mib=10_000))
        claim = Claim(session="s", room=1, memory_mib=10_000, nonce="n")
        [lease] = [event for event in await loop.execute(claim) if isinstance(event, events.TaskLeased)]
        await loop.execute(report(lease))
        await until(lambda: loop.state.ended, lambda: loop.state.outbox)
        with pytest.raises(UsageError, match=f"nothing of job {job} failed: there is nothing to do again"):
            await done_again(loop, directory, job, only_failed=True)


async def test_many_jobs_are_cancelled_some_at_a_time_and_a_long_one_alone(shelf):
    async with running(shelf) as (loop, _):
        numbers = []
        for number in range(JOBS + 50):
            [taken] = await loop.execute(submit(request_id=f"r{number}", tasks=plans("a")))
            numbers.append(taken.job)
        long = await submitted(loop, TASKS + 1, "long")
        parts = [len(part) async for part in cancelling(loop, [cancel(number) for number in (*numbers, long, 9_999)])]
        assert parts == [JOBS, 50, 1, 1]
        assert {job.state for job in loop.state.jobs.values()} <= {JobState.CANCELLING, JobState.CANCELLED}
        assert {task.state for task in loop.state.jobs[long].tasks} == {TaskState.CANCELLED}
        assert not loop.state.waiting.lines


async def test_where_one_of_many_may_not_be_cancelled_none_is(shelf):
    async with running(shelf) as (loop, _):
        for number in range(JOBS + 1):
            user = "bert" if number == JOBS else "anna"
            await loop.execute(submit(request_id=f"r{number}", user=user, tasks=plans("a")))
        wishes = [cancel(number) for number in loop.state.jobs]
        with pytest.raises(NotAllowed, match=r"is bert's"):
            await anext(cancelling(loop, wishes))
        assert {job.state for job in loop.state.jobs.values()} == {JobState.QUEUED}


async def test_the_tasks_of_a_long_job_are_listed_as_before_when_it_has_left_the_memory(shelf):
    async with running(shelf, max_ended=1) as (loop, directory):
        job = await ended(loop, LONG, failing=1)
        before = [task_message(loop.state.jobs[job], 3, task) for task in directory.tasks(job, 3, 700)]
        loop._max_ended = 0
        await until(lambda: job not in loop.state.jobs, lambda: loop.state.ended)
        known = directory.job(job, "kids")
        assert known.tasks == []
        assert [task_message(known, 3, task) for task in directory.tasks(job, 3, 700)] == before


async def test_a_long_job_keeps_its_tasks_until_the_logs_are_told_and_it_leaves(shelf):
    journal, peers = MemoryJournal(shelf), RecordingPeers()
    peers.away = True
    loop = Loop(journal, lambda: NOON, logs_here=True, max_ended=10, tick_s=0.005)
    async with background(loop.run(), Outbox(loop, peers, first_pause_s=0.001).run()):
        job = await ended(loop, LONG)
        await loop._retire_oldest()
        assert len(loop.state.jobs[job].tasks) == LONG
        loop._max_ended = 0
        peers.away = False
        await until(lambda: job not in loop.state.jobs, lambda: loop.state.outbox)
    assert len(journal.tasks(job, 0, 2 * LONG)) == LONG
