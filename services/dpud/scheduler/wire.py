"""Messages of people to the scheduler's own values and back."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from dpu.errors import UsageError
from dpu.values import from_map
from dpu_api.v1 import catalogue_pb2, job_pb2, scheduler_pb2
from dpud.hosting.caller import Role
from dpud.scheduler.catalogue import Option, OptionKind, Sequence, Stage
from dpud.scheduler.commands import Cancel, Repeat, SetAllowance, Submit
from dpud.scheduler.journal import Query
from dpud.scheduler.model import (
    Allowance,
    Failure,
    Job,
    JobState,
    Limits,
    Party,
    State,
    Task,
    TaskPlan,
)
from dpud.scheduler.totals import DAY_S
from dpud.scheduler.words import words_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dpud.hosting.caller import Caller
    from dpud.scheduler.explain import Explanation
    from dpud.scheduler.totals import Kind, Totals


# From messages


def submit(request: scheduler_pb2.SubmitJobRequest, caller: Caller) -> Submit:
    """Return the command of a SubmitJobRequest. Raises UsageError."""
    return Submit(
        request_id=request.request_id if request.validate_only else _uuid(request.request_id),
        digest=hashlib.sha256(content(request)).hexdigest(),
        user=caller.user,
        project=caller.project,
        sequence=sequence(request.sequence),
        given=from_map(request.options),
        options=request.options.SerializeToString(deterministic=True),
        code_digest=request.code_digest,
        limits=Limits(request.limits.time_s, request.limits.memory_mib),
        priority=request.priority,
        commit=request.commit,
        tasks=tuple(task_plans(request.tasks)),
        code_description=request.code_description,
    )


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise UsageError(f"request_id={text[:80]!r}: must be a UUID of the client's own") from None


def content(request: scheduler_pb2.SubmitJobRequest) -> bytes:
    """Return all but the request_id, and how long is waited."""
    # Put back afterwards: a copy of a large request takes longer than its digest.
    request_id, wait = request.request_id, request.wait if request.HasField("wait") else None
    request.ClearField("request_id")
    request.ClearField("wait")
    try:
        return request.SerializeToString(deterministic=True)
    finally:
        request.request_id = request_id
        if wait is not None:
            request.wait.CopyFrom(wait)


def repeat(request: scheduler_pb2.RetryJobRequest, caller: Caller, job: Job) -> Repeat:
    """Return the command of a RetryJobRequest, but for its tasks. Raises UsageError."""
    return Repeat(
        request_id=_uuid(request.request_id),
        digest=f"again {job.id} {request.only_failed}",
        user=caller.user,
        project=caller.project,
        job=job,
    )


def cancel(job: int, reason: str, caller: Caller) -> Cancel:
    """Return the wish of a caller that a job ends."""
    return Cancel(
        job=job, by=caller.user, project=caller.project, reason=reason, operator=Role.OPERATOR in caller.roles
    )


def set_allowance(request: scheduler_pb2.SetAllowanceRequest, caller: Caller) -> SetAllowance:
    """Return the command of a SetAllowanceRequest. Raises UsageError."""
    if request.user and request.project:
        raise UsageError(f"user {request.user!r} and project {request.project!r}: one of the two has the allowance")
    party = Party("user", request.user) if request.user else Party("project", request.project)
    allowance = Allowance(request.weight or 1.0, request.running, request.queued, request.queued_bytes)
    return SetAllowance(party=party, allowance=allowance, by=caller.user)


def sequence(message: catalogue_pb2.Sequence) -> Sequence:
    """Return the sequence that a tree of recipes describes. Raises UsageError."""
    return Sequence(
        name=message.name,
        stages=tuple(Stage(stage.recipe, stage.seconds, stage.memory_mib, stage.partial) for stage in message.stages),
        options=tuple(_option(option) for option in message.options),
        one_of=tuple(message.one_of),
        parameters=frozenset(name for stage in message.stages for name in stage.parameters.entries),
    )


def _option(message: catalogue_pb2.Option) -> Option:
    try:
        kind = OptionKind(message.kind)
    except ValueError:
        raise UsageError(f"option {message.long_name!r} has a kind {message.kind} that is not known") from None
    return Option(
        message.short_name,
        message.long_name,
        kind,
        message.minimum if message.HasField("minimum") else None,
        message.maximum if message.HasField("maximum") else None,
    )


def task_plans(messages: Iterable[job_pb2.TaskSpec]) -> list[TaskPlan]:
    """Return the tasks that a plan lists."""
    return [
        TaskPlan(message.label, message.SerializeToString(deterministic=True), message.seconds, message.memory_mib)
        for message in messages
    ]


def query(request: scheduler_pb2.ListJobsRequest, project: str, before: int) -> Query:
    """Return which jobs a ListJobsRequest wants. Raises UsageError."""
    try:
        states = frozenset(map(JobState, request.states))
    except ValueError as error:
        raise UsageError(f"states: {error}") from None
    return Query(
        project=project,
        ids=frozenset(request.job_ids),
        user=request.user,
        states=states,
        sequence=request.sequence,
        ended_after=request.ended_after.ToNanoseconds() / 1e9,
        before=before,
        words=words_in(request.search),
    )


def listing(request: scheduler_pb2.ListJobsRequest, project: str) -> str:
    """Return what tells one listing from another: the filters, without the page."""
    filters = scheduler_pb2.ListJobsRequest()
    filters.CopyFrom(request)
    filters.ClearField("page_token")
    filters.ClearField("page_size")
    return f"jobs {project} {filters.SerializeToString(deterministic=True).hex()}"


# To messages


def job_message(job: Job) -> job_pb2.Job:
    """Return a job for people."""
    message = job_pb2.Job(
        id=job.id,
        sequence=job.sequence,
        options=job_pb2.ValueMap.FromString(job.options),
        user=job.user,
        project=job.project,
        state=job_pb2.JobState.ValueType(job.state),
        counts=job_pb2.TaskCounts(
            normal=job.counts.normal,
            error=job.counts.error,
            aborted=job.counts.aborted,
            submitted=job.counts.submitted,
            unknown=job.counts.unknown,
        ),
        submitted=_time(job.submitted),
        started=_time(job.started),
        ended=_time(job.ended),
        code_digest=job.code_digest,
        priority=job.priority,
        limits=_limits(job.limits),
        failure=_failure_message(job.failure),
        estimate_s=job.estimate_s,
        revision=job.revision,
        commit=job.commit,
    )
    if job.cancellation:
        message.cancellation.by = job.cancellation.by
        message.cancellation.reason = job.cancellation.reason
        message.cancellation.time.FromMicroseconds(_microseconds(job.cancellation.at))
    return message


def explanation(found: Explanation) -> scheduler_pb2.ExplainJobResponse:
    """Return what a job waits for, for people."""
    waits = [
        scheduler_pb2.Wait(
            reason=scheduler_pb2.WaitReason.ValueType(wait.reason), tasks=wait.tasks, message=wait.message
        )
        for wait in found.waits
    ]
    return scheduler_pb2.ExplainJobResponse(waits=waits, position=found.position, may_start=_time(found.may_start))


def workers(state: State) -> list[scheduler_pb2.Worker]:
    """Return the workers that are there, by name."""
    leases = Counter(state.jobs[key.job].tasks[key.task].worker for key in state.leased)
    return [
        scheduler_pb2.Worker(
            name=session.worker,
            slots=session.slots,
            memory_mib=session.memory_mib,
            leases=leases[session.worker],
            cordoned=session.worker in state.cordoned,
            seen=_time(session.seen),
            draining=session.draining,
        )
        for session in sorted(state.presence.sessions.values(), key=lambda session: session.worker)
    ]


def totals(found: Callable[[Kind], dict[Any, Totals]]) -> scheduler_pb2.GetTotalsResponse:
    """Return what jobs came to, for people; `found` gives it by what they are told apart by."""
    answer = scheduler_pb2.GetTotalsResponse()
    for day, of in found("day").items():
        answer.days.add(day=Timestamp(seconds=day * DAY_S), totals=scheduler_pb2.Totals(**asdict(of)))
    for listed, by_name in ((answer.users, found("owner")), (answer.sequences, found("sequence"))):
        for name, of in by_name.items():
            listed.add(name=name, totals=scheduler_pb2.Totals(**asdict(of)))
    return answer


def _time(seconds: float) -> Timestamp | None:
    """Return a time; None where it has not come yet."""
    if not seconds:
        return None
    message = Timestamp()
    message.FromMicroseconds(_microseconds(seconds))
    return message


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _limits(limits: Limits) -> job_pb2.Limits:
    return job_pb2.Limits(time_s=limits.time_s, memory_mib=limits.memory_mib)


def _failure_message(failure: Failure | None) -> job_pb2.Failure | None:
    if failure is None:
        return None
    category = job_pb2.FailureCategory.ValueType(failure.category)
    return job_pb2.Failure(category=category, message=failure.message, detail=failure.detail)


def task_message(job: Job, number: int, task: Task) -> job_pb2.Task:
    """Return a task of a job, by its number, for people."""
    return job_pb2.Task(
        ref=job_pb2.TaskRef(job_id=job.id, task=number, attempt=task.attempt),
        stage=task.stage,
        recipe=job.stages[task.stage].recipe,
        label=task.label,
        plan=task.plan,
        state=job_pb2.TaskState.ValueType(task.state),
        worker=task.worker,
        started=_time(task.started),
        ended=_time(task.ended),
        failure=_failure_message(task.failure),
    )
