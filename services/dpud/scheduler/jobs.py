"""The life of a job: taken, planned stage by stage, cancelled, settled, ended, retired."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from dpu.errors import Conflict, NotAllowed, NotFound, StaleLease, UsageError
from dpud.scheduler import allowances, catalogue, deposits, experience, leases, ledger
from dpud.scheduler.events import (
    EntriesDelivered,
    Event,
    JobCancelRequested,
    JobEnded,
    JobSettled,
    JobsRetired,
    JobSubmitted,
    StageBegun,
    StagePlanned,
    StagesAborted,
)
from dpud.scheduler.model import (
    PLAN_MEMORY_MIB,
    REQUEST_TERM_S,
    Cancellation,
    Errand,
    Job,
    JobState,
    Ref,
    Request,
    State,
    Task,
    TaskState,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpud.scheduler.catalogue import Stage
    from dpud.scheduler.commands import Acknowledge, Cancel, Plan, Repeat, Retire, Submit
    from dpud.scheduler.model import Deposit, TaskPlan


#: Jobs that leave the memory together have at most so many tasks; a longer one leaves alone.
RETIRED_AT_ONCE = 100


# Deciding


def submit(state: State, command: Submit, now: float) -> list[Event]:
    """Decide on a new job; a repeated request changes nothing."""
    if was_taken(state, command, now):
        return []
    _check(command)
    here = deposits.of(state, command.deposit)
    deposits.check_tasks(command.tasks, len(here.tasks))
    size = len(command.options) + here.size + sum(task.size for task in command.tasks)
    allowances.check_queued(state, command.user, command.project, len(here.tasks) + len(command.tasks), size)
    stages = command.sequence.stages
    return [
        JobSubmitted(
            job=state.free_number,
            at=now,
            request_id=command.request_id,
            digest=command.digest,
            user=command.user,
            project=command.project,
            sequence=command.sequence.name,
            stages=stages,
            options=command.options,
            code_digest=command.code_digest,
            limits=command.limits,
            priority=command.priority,
            commit=command.commit,
            estimate_s=whole_estimate(
                state, command.project, command.instrument, stages, [*here.tasks, *command.tasks]
            ),
            tasks=command.tasks,
            instrument=command.instrument,
            deposit=command.deposit,
            code_description=command.code_description,
        )
    ]


def was_taken(state: State, command: Submit | Repeat, now: float) -> bool:
    """Return whether the request was taken before. Raises Conflict where it was another."""
    known = state.requests.get((command.project, command.user, command.request_id))
    if not known or now - known.at >= REQUEST_TERM_S:
        return False
    if known.digest != command.digest:
        raise Conflict(f"request_id {command.request_id!r} was used for another job, {known.job}: take a new one")
    return True


def _check(command: Submit) -> None:
    catalogue.check_sequence(command.sequence)
    catalogue.check_options(command.sequence, command.given)
    catalogue.check_description(command.code_description)
    catalogue.check_figures("the job's limits", command.limits.time_s, command.limits.memory_mib)
    if abs(command.priority) > catalogue.MAX_PRIORITY:
        bound = catalogue.MAX_PRIORITY
        raise UsageError(f"dpu_priority={command.priority}: must be from {-bound} to {bound}")


def whole_estimate(
    state: State, project: str, instrument: str, stages: tuple[Stage, ...], tasks: Sequence[TaskPlan | Task]
) -> float:
    """Return how long stages take, one after the other; those whose tasks nobody knows yet, as if they had one."""
    each = [
        experience.seconds_of(state.experience, experience.Kind(project, stage.recipe, instrument), stage)
        for stage in stages
    ]
    first = _estimate(tasks, each[0], state.presence.slots) if tasks else each[0]
    return first + sum(each[1:])


def _estimate(tasks: Sequence[TaskPlan | Task], seconds: float, slots: int) -> float:
    """Return how long tasks of a stage take; `seconds` is that of a task that does not say."""
    mean = sum(task.seconds or seconds for task in tasks) / len(tasks) if tasks else 0.0
    return catalogue.estimate(mean, len(tasks), slots)


def cancel(state: State, command: Cancel, now: float) -> list[Event]:
    """Decide on somebody's wish that a job ends; one that can run no more stays as it is."""
    job = state.jobs.get(command.job)
    if job is None or job.project != command.project:
        raise NotFound(f"there is no job {command.job} in project {command.project!r}")
    if job.user != command.by and not command.operator:
        raise NotAllowed(f"job {job.id} is {job.user}'s: only {job.user} or an operator may cancel it")
    if job.settled or job.cancellation:
        return []
    return [JobCancelRequested(job.id, Cancellation(command.by, command.reason, now))]


def plan(state: State, command: Plan, now: float) -> list[Event]:
    """Decide on the answer of a plan task; a repeated one changes nothing."""
    report = command.report
    ref = report.ref
    job, task = state.jobs.get(ref.job), state.find(ref.key)
    if job and task and (task.attempt, task.token) == (ref.attempt, report.token) and task.state is TaskState.SUCCEEDED:
        return []
    if job is None or task is None or not task.plan or not state.holds(ref, report.token):
        raise StaleLease(f"task {ref.task} of job {ref.job} is no longer leased by this token: drop it")
    if job.cancellation:
        return [leases.cancelled(report, now)]
    here = deposits.of(state, command.deposit)
    deposits.check_tasks(command.tasks, len(job.tasks) + len(here.tasks))
    seconds = [
        experience.seconds_of(state.experience, job.kind(n), job.stages[n]) for n in range(task.stage, len(job.stages))
    ]
    return [
        StagePlanned(
            *ref,
            at=now,
            run_s=leases.sound(report.run_s),
            log_lines=report.log_lines,
            estimate_s=_estimate([*here.tasks, *command.tasks], seconds[0], state.presence.slots) + sum(seconds[1:]),
            tasks=command.tasks,
            deposit=command.deposit,
        )
    ]


def acknowledge(state: State, command: Acknowledge, _now: float) -> list[Event]:
    """Decide on what others acknowledged; what is not in the outbox was acknowledged before."""
    entries = tuple(number for number in command.entries if number in state.outbox)
    return [EntriesDelivered(entries)] if entries else []


def follow_up(state: State, number: int, now: float) -> list[Event]:
    """Decide what follows for a job from how its tasks and its outbox stand."""
    job = state.jobs.get(number)
    if job is None or job.state.ended or job.counts.open:
        return []
    if job.outcome is not None:
        return [JobEnded(number, now)] if _may_end(state, job) else []
    if job.archive_open:
        # What the next stage reads, and what a user reads after the end, must be in its place by then.
        return []
    if job.cancellation:
        return [JobSettled(number, now, JobState.CANCELLED)]
    following = job.stage + 1
    if following < len(job.stages) and not job.counts.aborted:
        goes_on = not job.failed or (job.stages[job.stage].partial and job.succeeded > 0)
        kind = StageBegun if goes_on else StagesAborted
        return [kind(number, following, now)]
    return [JobSettled(number, now, JobState.FAILED if job.counts.error else JobState.FINISHED)]


def _may_end(state: State, job: Job) -> bool:
    """Return whether others know what a settled job came to.

    Logs that are here need not have acknowledged it: that they are told is as durable as the end itself.
    """
    return not (job.archive_open if state.presence.logs_here else job.outbox_open)


def retire(state: State, command: Retire, _now: float) -> list[Event]:
    """Decide which ended jobs leave the memory: the oldest beyond so many, a few at a time."""
    leaving: list[int] = []
    tasks = 0
    for number in islice(state.ended, max(0, len(state.ended) - command.limit)):
        tasks += len(state.jobs[number].tasks)
        if state.jobs[number].outbox_open:
            break
        if leaving and tasks > RETIRED_AT_ONCE:
            break
        leaving.append(number)
    return [JobsRetired(tuple(leaving))] if leaving else []


# Applying


def submitted(state: State, event: JobSubmitted) -> None:
    """Make the job, with its tasks or the plan of its first stage."""
    _forget_requests(state, event.at)
    request = (event.project, event.user, event.request_id)
    state.requests.pop(request, None)
    state.requests[request] = Request(event.job, event.digest, event.at)
    state.next_job = event.job + 1
    state.jobs[event.job] = job = Job(
        id=event.job,
        user=event.user,
        project=event.project,
        sequence=event.sequence,
        stages=event.stages,
        options=event.options,
        code_digest=event.code_digest,
        limits=event.limits,
        priority=event.priority,
        commit=event.commit,
        submitted=event.at,
        estimate_s=event.estimate_s,
        instrument=event.instrument,
        size=len(event.options),
        code_description=event.code_description,
    )
    if event.tasks or event.deposit:
        _add_tasks(state, job, deposits.taken(state, event.deposit, event.tasks))
    else:
        _add_plan(state, job)
    ledger.touch(state, job)


def _forget_requests(state: State, now: float) -> None:
    """Drop requests that are too old; they are in order of their time."""
    while state.requests:
        key = next(iter(state.requests))
        if now - state.requests[key].at < REQUEST_TERM_S:
            return
        del state.requests[key]


def _add_plan(state: State, job: Job) -> None:
    """Add the plan of the stage that runs."""
    ledger.add(state, job, [Task(job.stage, True, "plan", b"", 0.0, PLAN_MEMORY_MIB)])


def _add_tasks(state: State, job: Job, here: Deposit) -> None:
    """Add tasks to the stage that runs; what their plans left open is as the stage has it."""
    stage, kind = job.stages[job.stage], job.kind(job.stage)
    seconds = experience.seconds_of(state.experience, kind, stage)
    declared = {task.memory_mib for task in here.tasks}
    memory = {
        mib: job.limits.memory_mib or experience.memory_of(state.experience, kind, mib or stage.memory_mib)
        for mib in declared
    }
    for task in here.tasks:
        task.stage, task.seconds, task.memory_mib = job.stage, task.seconds or seconds, memory[task.memory_mib]
    job.size += here.size
    ledger.add(state, job, here.tasks)


def planned(state: State, event: StagePlanned) -> None:
    """End the plan task and add what it planned."""
    job = state.jobs[event.job]
    ref = Ref(event.job, event.task, event.attempt)
    ledger.release(state, ref, TaskState.SUCCEEDED, at=event.at, run_s=event.run_s)
    ledger.close_task(state, ref, TaskState.SUCCEEDED, event.log_lines)
    job.estimate_s = event.estimate_s
    _add_tasks(state, job, deposits.taken(state, event.deposit, event.tasks))
    ledger.touch(state, job)


def begun(state: State, event: StageBegun) -> None:
    """Begin a stage with its plan task."""
    job = state.jobs[event.job]
    job.stage, job.succeeded, job.failed = event.stage, 0, 0
    _add_plan(state, job)
    ledger.touch(state, job)


def aborted(state: State, event: StagesAborted) -> None:
    """Count the stages that will never be planned."""
    job = state.jobs[event.job]
    for number in range(event.stage, len(job.stages)):
        task = Task(number, True, "plan", b"", 0.0, PLAN_MEMORY_MIB, state=TaskState.ABORTED, ended=event.at)
        ledger.add(state, job, [task])
    ledger.touch(state, job)


def cancel_requested(state: State, event: JobCancelRequested) -> None:
    """Cancel what waits; what runs is told by its worker's next answer."""
    job = state.jobs[event.job]
    job.cancellation, job.state = event.cancellation, JobState.CANCELLING
    ledger.cancel_waiting(state, job, event.cancellation.at)
    ledger.touch(state, job)


def settled(state: State, event: JobSettled) -> None:
    """Fix the end of a job, and have the logs told."""
    job = state.jobs[event.job]
    job.outcome = event.state
    ledger.tell(state, Errand.CLOSE_JOB, Ref(job.id, 0, 0), ending=event.state)
    ledger.touch(state, job)


def ended(state: State, event: JobEnded) -> None:
    """End a job."""
    job = state.jobs[event.job]
    job.state, job.ended = job.outcome or JobState.FAILED, event.at
    state.ended[job.id] = None
    ledger.touch(state, job)


def delivered(state: State, event: EntriesDelivered) -> None:
    """Take entries out of the outbox."""
    for number in event.entries:
        entry = state.outbox.pop(number)
        job = state.jobs[entry.ref.job]
        job.outbox_open -= 1
        job.archive_open -= entry.errand.for_archive


def retired(state: State, event: JobsRetired) -> None:
    """Forget ended jobs; the history has them."""
    for number in event.jobs:
        del state.jobs[number]
        del state.by_revision[number]
        del state.ended[number]
