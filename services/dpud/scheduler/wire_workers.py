"""What workers say, as the scheduler's own values, and what they are told, as messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu_api.v1 import dispatch_pb2, job_pb2
from dpud.scheduler.commands import Plan, Register, Renew, Report, WorkCall
from dpud.scheduler.model import PLAN_TIME_S, Failure, FailureCategory, Job, Ref, State, Task
from dpud.scheduler.wire import task_plans

if TYPE_CHECKING:
    from dpud.scheduler.answers import Answer
    from dpud.scheduler.events import TaskLeased
    from dpud.scheduler.traces import Traces

#: The end of a traceback that is kept.
MAX_DETAIL = 8 * 1024
MAX_WAIT_S = 30.0


def register(request: dispatch_pb2.RegisterWorkerRequest, session: str) -> Register:
    """Return the command of a RegisterWorkerRequest."""
    return Register(
        session=session,
        worker=request.name,
        slots=request.slots,
        memory_mib=request.memory_mib,
        catalogue=request.catalogue.SerializeToString(),
    )


def work(request: dispatch_pb2.WorkRequest, shortest_wait_s: float = 0.0) -> WorkCall:
    """Return what a worker says and asks."""
    held = {ref(lease.ref): lease.token for lease in request.held}
    return WorkCall(
        reports=tuple(report(ended) for ended in request.ended if not ended.HasField("plan")),
        plans=tuple(
            Plan(report=report(ended), tasks=tuple(task_plans(ended.plan.tasks)))
            for ended in request.ended
            if ended.HasField("plan")
        ),
        renewal=Renew(session=request.session, held=held, draining=request.draining),
        room=0 if request.draining else max(0, request.room),
        memory_mib=request.memory_mib,
        wait_s=min(MAX_WAIT_S, max(shortest_wait_s, request.wait.ToNanoseconds() / 1e9)),
        draining=request.draining,
    )


def report(message: dispatch_pb2.TaskReport) -> Report:
    """Return the end of an attempt."""
    return Report(
        ref=ref(message.ref),
        token=message.token,
        failure=_failure(message.failure) if message.HasField("failure") else None,
        run_s=message.run_s,
        log_lines=message.log_lines,
        products=max(0, message.products),
        alone=message.alone,
    )


def _failure(message: job_pb2.Failure) -> Failure:
    known = int(message.category) in set(map(int, FailureCategory))
    # A worker that knows more categories than we do has met something that is not the recipe's fault.
    category = FailureCategory(message.category) if known else FailureCategory.INFRASTRUCTURE
    return Failure(category, message.message, message.detail[-MAX_DETAIL:])


def ref(message: job_pb2.TaskRef) -> Ref:
    """Return an attempt."""
    return Ref(message.job_id, message.task, message.attempt)


def work_response(state: State, answer: Answer, traces: Traces) -> dispatch_pb2.WorkResponse:
    """Return what a worker is told."""
    return dispatch_pb2.WorkResponse(
        leases=[_lease(state.jobs[event.job], event, traces.of(event.job)) for event in answer.leases],
        cancel=map(_ref, answer.cancel),
        stale=map(_ref, answer.stale),
        acknowledged=map(_ref, answer.acknowledged),
        drain=answer.drain,
    )


def _ref(ref: Ref) -> job_pb2.TaskRef:
    return job_pb2.TaskRef(job_id=ref.job, task=ref.task, attempt=ref.attempt)


def _lease(job: Job, event: TaskLeased, trace_parent: str) -> dispatch_pb2.TaskLease:
    task, stage = job.tasks[event.task], job.stages[job.tasks[event.task].stage]
    return dispatch_pb2.TaskLease(
        ref=job_pb2.TaskRef(job_id=job.id, task=event.task, attempt=event.attempt),
        token=event.token,
        plan=task.plan,
        sequence=job.sequence,
        recipe=stage.recipe,
        stage=task.stage,
        user=job.user,
        project=job.project,
        options=job_pb2.ValueMap.FromString(job.options),
        code_digest=job.code_digest,
        limits=_lease_limits(job, task),
        commit=job.commit,
        spec=None if task.plan else job_pb2.TaskSpec.FromString(task.spec),
        # A time limit goes by it: that earlier tasks were quick is no reason to end this one early.
        estimate_s=max(task.seconds, stage.seconds),
        alone=task.is_suspect,
        trace_parent=trace_parent,
        # It is said by plans alone.
        code_description=job.code_description if task.plan else "",
    )


def _lease_limits(job: Job, task: Task) -> job_pb2.Limits:
    """Return what this attempt may use: memory may have grown since the last."""
    time_s = PLAN_TIME_S if task.plan else job.limits.time_s
    return job_pb2.Limits(time_s=time_s, memory_mib=task.memory_mib)
