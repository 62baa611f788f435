"""What the scheduler's tests share: commands with overrides, a run of the machine, archive and logs on record."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dpu_api.v1 import archive_pb2, archive_pb2_grpc, logs_pb2, logs_pb2_grpc
from dpud.scheduler import events, invariants, machine, repeats
from dpud.scheduler.catalogue import Option, OptionKind, Sequence, Stage
from dpud.scheduler.commands import Acknowledge, Cancel, Claim, Plan, Register, Renew, Report, Retire, Submit, Tick
from dpud.scheduler.model import Failure, FailureCategory, Limits, Ref, State, TaskPlan

NOON = 1_000_000_000.0

BIAS = Sequence(
    name="Bias",
    stages=(Stage("Bias", seconds=10.0, memory_mib=100, partial=True),),
    options=(Option("i", "instrument", OptionKind.TEXT), Option("oc", "overscan", OptionKind.INTEGER, 0, 10)),
)


def stages(*names, partial=False):
    """Return a sequence of such stages."""
    parts = tuple(Stage(name, seconds=10.0, memory_mib=100, partial=partial) for name in names)
    return Sequence(name=">".join(names), stages=parts)


def plans(*labels, **overrides):
    return tuple(TaskPlan(label, b"spec of " + label.encode(), **overrides) for label in labels)


def submit(**overrides):
    values = {
        "request_id": "r1",
        "digest": "d1",
        "user": "anna",
        "project": "kids",
        "sequence": BIAS,
        "given": {},
        "options": b"",
        "code_digest": "",
        "limits": Limits(),
    }
    return Submit(**{**values, **overrides})


def failure(category=FailureCategory.RECIPE, message="no"):
    return Failure(category, message)


def again(tasks, *, only_failed=False):
    """Return what a Repeat says of an ended job's tasks; at least one is to be done again."""
    first = repeats.first_failed(tasks) if only_failed else tasks[0]
    return {"stage": first.stage, "tasks": tuple(repeats.plans_again(tasks, first, only_failed=only_failed))}


@dataclass
class Trial:
    """A state with a clock of its own, checked after every step."""

    state: State = field(default_factory=State)
    now: float = NOON
    happened: list = field(default_factory=list)
    claims: int = 0

    def do(self, command):
        """Execute a command; return what happened."""
        happened = machine.execute(self.state, command, self.now)
        self.happened += happened
        assert invariants.violations(self.state) == []
        return happened

    def submit(self, **overrides):
        overrides.setdefault("request_id", f"r{self.state.next_job}")
        self.do(submit(**overrides))
        return self.state.next_job - 1

    def worker(self, name="w1", slots=4, memory_mib=10_000, *, session=None):
        session = session or f"s-{name}"
        self.do(Register(session=session, worker=name, slots=slots, memory_mib=memory_mib))
        self.do(Renew(session=session))
        return session

    def claim(self, session="s-w1", room=1, memory_mib=100_000):
        """Return the leases that a session gets."""
        self.claims += 1
        claim = Claim(session=session, room=room, memory_mib=memory_mib, nonce=f"n{self.claims}")
        return [event for event in self.do(claim) if isinstance(event, events.TaskLeased)]

    def end(self, lease, failure=None, **figures):
        return self.do(report(lease, failure, **figures))

    def plan(self, lease, *labels, **overrides):
        return self.do(Plan(report=report(lease), tasks=plans(*labels, **overrides)))

    def cancel(self, job, **overrides):
        return self.do(Cancel(**{"job": job, "by": "anna", "project": "kids", **overrides}))

    def pass_time(self, seconds):
        self.now += seconds
        return self.do(Tick())

    def deliver(self):
        """Let all others acknowledge everything, until nothing is left to tell."""
        while self.state.outbox:
            self.do(Acknowledge(tuple(self.state.outbox)))

    def counts(self, job):
        counts = self.state.jobs[job].counts
        return f"{counts.normal}/{counts.error}/{counts.aborted}/{counts.submitted}/{counts.unknown}"

    def outbox(self):
        return [(entry.errand.value, *entry.ref) for entry in self.state.outbox.values()]

    def replayed(self):
        """Return the state that the journaled events give."""
        state = State()
        for event in self.happened:
            if type(event) in events.JOURNALED:
                machine.apply(state, event)
        return state


class Recorder(Trial):
    """A trial whose every step is committed to a journal."""

    def __init__(self, journal):
        super().__init__()
        self.journal = journal

    def do(self, command, leaving=()):
        happened = super().do(command)
        self.journal.append(happened, leaving)
        return happened

    def retire(self, limit):
        """Let ended jobs beyond so many leave the memory, as many as may at once."""
        decided = machine.decide(self.state, Retire(limit), self.now)
        self.do(Retire(limit), [self.state.jobs[number] for event in decided for number in event.jobs])


def ref_of(lease):
    return Ref(lease.job, lease.task, lease.attempt)


def report(lease, failure=None, *, run_s=10.0, log_lines=3, products=1, alone=False):
    return Report(
        ref=ref_of(lease),
        token=lease.token,
        failure=failure,
        run_s=run_s,
        log_lines=log_lines,
        products=products,
        alone=alone,
    )


def renewal(session, *leases):
    return Renew(session=session, held={ref_of(lease): lease.token for lease in leases})


class RecordingArchive(archive_pb2_grpc.ArchiveServiceServicer):
    """The archive's side of the outbox."""

    def __init__(self):
        self.told = []
        #: The highest job that it says it knows.
        self.highest = 0

    async def Publish(self, request, _context):  # noqa: N802 (gRPC's name)
        self.told.append(("publish", *key(request.ref), request.commit))
        return archive_pb2.PublishResponse(products=1)

    async def Discard(self, request, _context):  # noqa: N802 (gRPC's name)
        self.told.append(("discard", *key(request.ref)))
        return archive_pb2.DiscardResponse()

    async def GetHighestJob(self, _request, _context):  # noqa: N802 (gRPC's name)
        return archive_pb2.GetHighestJobResponse(job_id=self.highest)


class RecordingLogs(logs_pb2_grpc.LogServiceServicer):
    """The logs' side of the outbox."""

    def __init__(self):
        self.told = []
        #: The highest job that it says it knows.
        self.highest = 0

    async def CloseTasks(self, request, _context):  # noqa: N802 (gRPC's name)
        self.told += [("close_task", *key(task.ref), task.state, task.lines) for task in request.tasks]
        self.told += [("close_job", job.job_id, job.state) for job in request.jobs]
        return logs_pb2.CloseTasksResponse()

    async def GetHighestJobWithLogs(self, _request, _context):  # noqa: N802 (gRPC's name)
        return logs_pb2.GetHighestJobWithLogsResponse(job_id=self.highest)


def key(ref):
    return ref.job_id, ref.task, ref.attempt


async def until(condition, what, deadline_s=5.0):
    """Wait until `condition()` is true; fail with `what()` when it does not come."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what()}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def background(*coroutines):
    """Run coroutines beside the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
