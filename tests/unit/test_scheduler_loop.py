import asyncio
from contextlib import asynccontextmanager

import pytest

from dpu.errors import Conflict, StorageFull, UnknownSession, Unreachable, UsageError
from dpud.scheduler import events, machine
from dpud.scheduler.commands import Acknowledge, Cancel, Claim, Register, Report, Retire
from dpud.scheduler.directory import Directory
from dpud.scheduler.journal import AppendFailed, MemoryJournal, Query, Shelf, Superseded
from dpud.scheduler.loop import Loop
from dpud.scheduler.model import JobState, TaskState
from dpud.scheduler.outbox import Outbox, RecordingPeers
from fakes_scheduler import NOON, background, plans, renewal, report, submit, until

TICK_S = 0.005


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shelf():
    return Shelf()


@asynccontextmanager
async def running(shelf, clock):
    loop = Loop(MemoryJournal(shelf), clock, tick_s=TICK_S)
    async with background(loop.run()):
        yield loop


async def leased(loop, name="w1", room=1):
    """Register a worker and return its leases."""
    session = f"s-{name}"
    await loop.execute(Register(session=session, worker=name, slots=4, memory_mib=10_000), renewal(session))
    happened = await loop.execute(Claim(session=session, room=room, memory_mib=10_000, nonce=f"n-{name}"))
    return [event for event in happened if isinstance(event, events.TaskLeased)]


async def test_what_waits_together_is_one_group(shelf, clock):
    async with running(shelf, clock) as loop:
        await asyncio.gather(*(loop.execute(submit(request_id=f"r{number}")) for number in range(10)))
        assert len(loop.state.jobs) == 10
    assert len(shelf.groups) == 1


async def test_a_refusal_is_its_askers_alone(shelf, clock):
    async with running(shelf, clock) as loop:
        good, bad = await asyncio.gather(
            loop.execute(submit()), loop.execute(submit(digest="other")), return_exceptions=True
        )
        assert [type(event) for event in good] == [events.JobSubmitted]
        assert isinstance(bad, Conflict)


async def test_what_was_done_before_a_refusal_is_durable(shelf, clock):
    async with running(shelf, clock) as loop:
        await loop.execute(submit(tasks=plans("a")))
        [lease] = await leased(loop)
        with pytest.raises(UnknownSession):
            await loop.execute(report(lease), renewal("nobody's"))
    async with running(shelf, clock) as loop:
        assert loop.state.jobs[1].tasks[0].state is TaskState.SUCCEEDED


async def test_an_append_that_fails_ends_the_loop_and_whoever_waits_is_told(shelf, clock):
    shelf.broken = True
    loop = Loop(MemoryJournal(shelf), clock, tick_s=TICK_S)
    asking = asyncio.ensure_future(loop.execute(submit()))
    with pytest.RaisesGroup(AppendFailed, flatten_subgroups=True):
        await asyncio.wait_for(loop.run(), 2)
    with pytest.raises(Unreachable, match="could not make it durable: try again"):
        await asyncio.wait_for(asking, 1)
    with pytest.raises(Unreachable, match="going down"):
        await loop.execute(submit())


async def test_a_superseded_writer_ends(shelf, clock):
    with pytest.RaisesGroup(Superseded, flatten_subgroups=True):
        async with running(shelf, clock) as loop:
            MemoryJournal(shelf)
            with pytest.raises(Unreachable):
                await loop.execute(submit())
            await until(lambda: False, lambda: "the loop goes on")


async def test_on_a_full_disk_submissions_are_refused_and_what_runs_ends(shelf, clock):
    async with running(shelf, clock) as loop:
        await loop.execute(submit(tasks=plans("a", "b")))
        [lease] = await leased(loop)
        shelf.full = True
        await until(lambda: not loop._roomy, lambda: "still roomy")
        with pytest.raises(StorageFull, match="journal is full"):
            await loop.execute(submit(request_id="r2"))
        with pytest.raises(StorageFull, match="journal is full"):
            # As who only asks whether a job would be taken.
            loop.check(submit(request_id="r2"))
        await loop.execute(report(lease))
        assert len(await leased(loop)) == 1
        shelf.full = False
        await until(lambda: loop._roomy, lambda: "not roomy yet")
        await loop.execute(submit(request_id="r2"))
        assert list(loop.state.jobs) == [1, 2]


async def test_after_a_restart_leases_get_one_full_term(shelf, clock):
    async with running(shelf, clock) as loop:
        await loop.execute(submit(tasks=plans("a")))
        [lease] = await leased(loop)
    clock.now += 3_600
    async with running(shelf, clock) as loop:
        await loop.execute(report(lease))
        assert loop.state.jobs[1].tasks[0].state is TaskState.SUCCEEDED


async def test_a_lease_lapses_by_the_clock_and_wakes_who_waits(shelf, clock):
    async with running(shelf, clock) as loop:
        await loop.execute(submit(tasks=plans("a")))
        await leased(loop)
        with loop.watchers.watching(1) as bell:
            for _ in range(8):  # in steps that are no absence of the scheduler
                clock.now += 4
                ticked = clock.now
                await until(lambda ticked=ticked: loop._ticked == ticked, lambda: "no tick")
            await asyncio.wait_for(bell.wait(), 2)
        assert loop.state.jobs[1].tasks[0].state is TaskState.LOST


async def test_after_an_absence_of_the_scheduler_itself_nothing_lapses(shelf, clock):
    async with running(shelf, clock) as loop:
        await loop.execute(submit(tasks=plans("a")))
        await leased(loop)
        clock.now += 3_600
        await until(lambda: loop._ticked == clock.now, lambda: "no tick")
        await loop.execute()
        assert loop.state.jobs[1].tasks[0].state is TaskState.RUNNING


async def test_long_jobs_leave_the_memory_one_by_one_and_short_ones_together(shelf, clock):
    loop = Loop(MemoryJournal(shelf), clock, max_ended=0, tick_s=TICK_S)
    gone = []
    for number, length in enumerate((60, 40, 1, 150, 2), start=1):
        taken = submit(request_id=f"r{number}", tasks=plans(*["a"] * length))
        for command in (taken, Cancel(job=number, by="anna", project="kids")):
            machine.execute(loop.state, command, clock.now)
    machine.execute(loop.state, Acknowledge(tuple(loop.state.outbox)), clock.now)
    while loop.state.ended:
        [retired] = machine.execute(loop.state, Retire(0), clock.now)
        gone.append(retired.jobs)
    assert gone == [(1, 2), (3,), (4,), (5,)]


async def test_ended_jobs_leave_the_memory_and_are_found_in_the_history(shelf, clock):
    journal = MemoryJournal(shelf)
    loop = Loop(journal, clock, max_ended=1, tick_s=TICK_S)
    directory = Directory(loop.state, journal)
    async with background(loop.run(), Outbox(loop, RecordingPeers()).run()):
        for number in range(1, 4):
            await loop.execute(submit(request_id=f"r{number}", tasks=plans("a")))
            [lease] = await leased(loop)
            await loop.execute(report(lease))
        await until(lambda: list(loop.state.jobs) == [3], lambda: loop.state.jobs)
    assert directory.job(1, "kids").state is JobState.FINISHED
    assert [job.id for job in directory.jobs(Query("kids"), 10)] == [3, 2, 1]
    assert [job.id for job in directory.jobs(Query("kids", before=3), 1)] == [2]
    assert [job.id for job in directory.jobs(Query("kids", ids=frozenset({1, 3})), 10)] == [3, 1]


async def test_a_check_changes_nothing(shelf, clock):
    async with running(shelf, clock) as loop:
        assert [type(event) for event in loop.check(submit())] == [events.JobSubmitted]
        assert loop.state.jobs == {}


async def test_who_went_away_does_not_stop_the_others(shelf, clock):
    async with running(shelf, clock) as loop:
        gone = asyncio.ensure_future(loop.execute(submit(request_id="r1")))
        stays = asyncio.ensure_future(loop.execute(submit(request_id="r2")))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        assert list(loop.state.jobs) == [1, 2]


async def test_the_outbox_tells_until_it_is_heard_and_closes_the_job_last(shelf, clock):
    peers = RecordingPeers()
    peers.away = True
    loop = Loop(MemoryJournal(shelf), clock, tick_s=TICK_S)
    async with background(loop.run(), Outbox(loop, peers, first_pause_s=0.001).run()):
        await loop.execute(submit(tasks=plans("a"), commit=True))
        [lease] = await leased(loop)
        await loop.execute(report(lease))
        assert loop.state.jobs[1].state is JobState.RUNNING
        peers.away = False
        await until(lambda: loop.state.jobs[1].state.ended, lambda: loop.state.outbox)
    told = [(entry.errand.value, entry.commit, entry.lines) for entry in peers.told]
    assert sorted(told[:2]) == [("close_task", False, 3), ("publish", True, -1)]
    assert told[2:] == [("close_job", False, -1)]


class SlowLogs(RecordingPeers):
    """Closes a task's log when it is let."""

    def __init__(self):
        super().__init__()
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()

    async def close_logs(self, entries):
        self.asked.set()
        await self.gate.wait()
        await super().close_logs(entries)


async def test_a_jobs_log_is_closed_when_all_else_was_told(shelf, clock):
    peers = SlowLogs()
    loop = Loop(MemoryJournal(shelf), clock, tick_s=TICK_S)
    async with background(loop.run(), Outbox(loop, peers).run()):
        await loop.execute(submit(tasks=plans("a")))
        [lease] = await leased(loop)
        await loop.execute(report(lease, products=0))
        await peers.asked.wait()
        assert [entry.errand.value for entry in loop.state.outbox.values()] == ["close_task", "close_job"]
        await loop.execute(submit(request_id="r2"))
        assert peers.told == []
        peers.gate.set()
        await until(lambda: loop.state.jobs[1].state.ended, lambda: loop.state.outbox)
    assert [entry.errand.value for entry in peers.told] == ["close_task", "close_job"]


async def test_where_the_logs_are_here_an_end_is_one_commit_and_they_are_told_all_the_same(shelf, clock):
    peers = SlowLogs()
    loop = Loop(MemoryJournal(shelf), clock, logs_here=True, tick_s=TICK_S)
    async with background(loop.run(), Outbox(loop, peers).run()):
        await loop.execute(submit(tasks=plans("a")))
        [lease] = await leased(loop)
        before = len(shelf.groups)
        await loop.execute(report(lease, products=0))
        assert loop.state.jobs[1].state is JobState.FINISHED
        assert len(shelf.groups) == before + 1
        await peers.asked.wait()
        peers.gate.set()
        await until(lambda: not loop.state.outbox, lambda: loop.state.outbox)
    assert [entry.errand.value for entry in peers.told] == ["close_task", "close_job"]


async def test_logs_that_are_here_are_told_after_a_restart_what_they_have_not_heard(shelf, clock):
    loop = Loop(MemoryJournal(shelf), clock, logs_here=True, tick_s=TICK_S)
    async with background(loop.run()):
        await loop.execute(submit(tasks=plans("a")))
        [lease] = await leased(loop)
        await loop.execute(report(lease, products=0))
    peers = RecordingPeers()
    again = Loop(MemoryJournal(shelf), clock, logs_here=True, tick_s=TICK_S)
    assert again.state.jobs[1].state is JobState.FINISHED
    async with background(again.run(), Outbox(again, peers).run()):
        await until(lambda: not again.state.outbox, lambda: again.state.outbox)
    assert [entry.errand.value for entry in peers.told] == ["close_task", "close_job"]


async def test_what_nobody_waits_for_goes_with_the_next_commit(shelf, clock):
    loop = Loop(MemoryJournal(shelf), clock, tick_s=60)
    async with background(loop.run()):
        await loop.execute(submit(tasks=plans("a")))
        [lease] = await leased(loop)
        await loop.execute(report(lease))
        before = len(shelf.groups)
        loop.note(Acknowledge(tuple(loop.state.outbox)))
        await loop.execute(submit(request_id="r2"))
        assert {entry.errand.value for entry in loop.state.outbox.values()} == {"close_job"}
    assert len(shelf.groups) == before + 1


async def test_an_archive_that_is_away_does_not_hold_back_the_logs(shelf, clock):
    peers = RecordingPeers()

    async def refuse(_entry):
        raise Unreachable

    peers.publish = refuse
    loop = Loop(MemoryJournal(shelf), clock, tick_s=TICK_S)
    async with background(loop.run(), Outbox(loop, peers, first_pause_s=0.001).run()):
        await loop.execute(submit(tasks=plans(*map(str, range(40)))))
        for lease in await leased(loop, room=40):
            await loop.execute(report(lease))
        await until(lambda: len(loop.state.outbox) == 40, lambda: loop.state.outbox)
        assert {entry.errand.value for entry in loop.state.outbox.values()} == {"publish"}
        assert [entry.errand.value for entry in peers.told] == ["close_task"] * 40


async def test_what_was_not_acknowledged_is_told_after_a_restart(shelf, clock):
    async with running(shelf, clock) as loop:
        await loop.execute(submit(tasks=plans("a")))
        [lease] = await leased(loop)
        await loop.execute(report(lease))
    peers = RecordingPeers()
    loop = Loop(MemoryJournal(shelf), clock, tick_s=TICK_S)
    async with background(loop.run(), Outbox(loop, peers).run()):
        await until(lambda: loop.state.jobs[1].state is JobState.FINISHED, lambda: loop.state.outbox)
    assert [entry.errand.value for entry in peers.told[-1:]] == ["close_job"]


async def test_a_report_without_a_lease_changes_nothing(shelf, clock):
    async with running(shelf, clock) as loop:
        await loop.execute(submit(tasks=plans("a")))
        [lease] = await leased(loop)
        stranger = Report(ref=report(lease).ref, token="")
        assert await loop.execute(stranger) == []


class ProudLogs(RecordingPeers):
    """Will not hear of job 1, until it is told to."""

    def __init__(self):
        super().__init__()
        self.refuses = True

    async def close_logs(self, entries):
        if self.refuses and any(entry.ref.job == 1 for entry in entries):
            raise UsageError("the job belongs to another project")
        await super().close_logs(entries)


async def test_what_the_logs_refuse_holds_up_its_own_job_alone(shelf, clock):
    peers = ProudLogs()
    loop = Loop(MemoryJournal(shelf), clock, tick_s=TICK_S)
    async with background(loop.run()):
        for request_id in ("r1", "r2"):
            await loop.execute(submit(request_id=request_id, tasks=plans("a")))
        for lease in await leased(loop, room=2):
            await loop.execute(report(lease, products=0))
        async with background(Outbox(loop, peers, first_pause_s=0.001).run()):
            await until(lambda: loop.state.jobs[2].state.ended, lambda: loop.state.outbox)
            assert [entry.errand.value for entry in loop.state.outbox.values()] == ["close_task", "close_job"]
            peers.refuses = False
            await until(lambda: loop.state.jobs[1].state.ended, lambda: loop.state.outbox)
    assert [entry.ref.job for entry in peers.told] == [2, 2, 1, 1]


async def test_a_claim_that_stands_is_granted_in_the_commit_of_the_submission(shelf, clock):
    async with running(shelf, clock) as loop:
        assert await leased(loop) == []
        bell = asyncio.Event()
        claim = Claim(session="s-w1", room=2, memory_mib=10_000, nonce="later")
        with loop.standing([claim], bell) as granted:
            groups = len(shelf.groups)
            await loop.execute(submit(tasks=plans("a", "b", "c")))
            assert [event.token for event in granted] == ["later.0", "later.1"]
            assert bell.is_set()
            assert len(shelf.groups) == groups + 1
            await loop.execute(submit(request_id="another", tasks=plans("d")))
            assert len(granted) == 2
        await loop.execute(submit(request_id="a third", tasks=plans("e")))
        assert len(loop.state.leased) == 2
    assert Loop(MemoryJournal(shelf), clock).state.leased == {(1, 0), (1, 1)}


async def test_a_claim_of_a_session_that_is_over_stands_for_nothing(shelf, clock):
    async with running(shelf, clock) as loop:
        claim = Claim(session="gone", room=2, memory_mib=10_000, nonce="n")
        with loop.standing([claim], asyncio.Event()) as granted:
            await loop.execute(submit(tasks=plans("a")))
        assert granted == []
        assert loop.state.jobs[1].tasks[0].state is TaskState.QUEUED
