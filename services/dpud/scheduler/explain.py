"""Why a job is not running: what each of its tasks waits for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from dpud.scheduler import allowances, share
from dpud.scheduler.demand import needs
from dpud.scheduler.model import Party

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from dpud.scheduler.model import Job, State
    from dpud.scheduler.presence import Session


#: So many workers are named.
NAMED = 5
#: Of those that wait before a job about so many are looked at, one by one.
LOOKED_AT = 200


class Reason(IntEnum):
    """What tasks wait for; numbered as dpu_api.v1.WaitReason."""

    SHARE = 1
    PAUSE = 2
    INPUTS = 3
    NO_WORKER = 4
    NO_MEMORY = 5
    QUOTA = 6
    RUNNING = 7


@dataclass(frozen=True, slots=True)
class Wait:
    """Some tasks of a job, and what they wait for; the message goes on from their number."""

    reason: Reason
    tasks: int
    message: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job is not running, and when it may."""

    waits: tuple[Wait, ...] = ()
    #: Among the jobs that wait for their turn; 0: it does not.
    position: int = 0
    #: 0: nobody can tell.
    may_start: float = 0.0


def explain(state: State, job: Job, now: float) -> Explanation:
    """Return what a job waits for; walks the tasks that run, and few of the jobs and tasks that wait."""
    if job.state.ended:
        return Explanation()
    queued = needs(job, state.waiting.of(job.user, job.id, len(job.tasks) - 1))
    delayed = [until for key, until in state.delayed.items() if key.job == job.id]
    waits = (*_running(state, job), *_of_queued(state, job, queued), *_paused(delayed, now), *_inputs(job))
    position, before_s = _place(state, job, now) if queued else (0, 0.0)
    start = _start(state, before_s, now) if _for_turn(waits) else min(delayed, default=0.0)
    return Explanation(waits, position, start)


def _running(state: State, job: Job) -> Iterator[Wait]:
    running = [job.tasks[key.task].worker for key in state.leased if key.job == job.id]
    workers = sorted(set(running))
    if workers:
        others = f" and {len(workers) - NAMED} other workers" if len(workers) > NAMED else ""
        yield Wait(Reason.RUNNING, len(running), f"running on {', '.join(workers[:NAMED])}{others}")


def _of_queued(state: State, job: Job, queued: Counter[int]) -> Iterator[Wait]:
    """Yield what tasks in the queue wait for; `queued` is how many of them need so much memory."""
    open_to = [session for session in state.presence.sessions.values() if session.worker not in state.cordoned]
    if queued and not open_to:
        why = _why_none(list(state.presence.sessions.values()))
        yield Wait(Reason.NO_WORKER, queued.total(), f"waiting for a worker: {why}")
        return
    largest = max((session.memory_mib for session in open_to), default=0)
    too_large = {memory: count for memory, count in queued.items() if memory > largest}
    if too_large:
        message = f"waiting for {max(too_large)} MiB of memory: the largest worker has {largest} MiB"
        yield Wait(Reason.NO_MEMORY, sum(too_large.values()), message)
    if rest := queued.total() - sum(too_large.values()):
        yield _turn(state, job, rest)


def _why_none(cordoned: list[Session]) -> str:
    """Return why no worker takes tasks."""
    if not cordoned:
        return "no worker is there"
    draining = sum(session.draining for session in cordoned)
    if len(cordoned) == 1:
        return f"the only worker is {'being drained' if draining else 'cordoned'}"
    return f"all {len(cordoned)} workers are cordoned" + (f", {draining} of them being drained" if draining else "")


def _turn(state: State, job: Job, tasks: int) -> Wait:
    if allowances.has_room(state, job, {}):
        return Wait(Reason.SHARE, tasks, "waiting for a free slot")
    parties = [party for party in allowances.parties(job) if allowances.of(state, party).running]
    limits = " and ".join(
        f"{party.kind} {party.name} may run {allowances.of(state, party).running} at a time" for party in parties
    )
    return Wait(Reason.QUOTA, tasks, f"waiting, because {limits}")


def _paused(delayed: list[float], now: float) -> Iterator[Wait]:
    if delayed:
        message = f"pausing before another attempt, the first for {max(0.0, min(delayed) - now):.0f} s more"
        yield Wait(Reason.PAUSE, len(delayed), message)


def _inputs(job: Job) -> Iterator[Wait]:
    later = len(job.stages) - job.stage - 1
    if job.archive_open and not job.counts.open:
        attempts = "an attempt's" if job.archive_open == 1 else f"{job.archive_open} attempts'"
        yield Wait(Reason.INPUTS, 0, f"waiting for {attempts} products to be in their place")
    elif later and not job.settled and not job.cancellation:
        recipe = job.stages[job.stage].recipe
        stages = "a later stage waits" if later == 1 else f"{later} later stages wait"
        yield Wait(Reason.INPUTS, 0, f"{stages} for what {recipe} makes")


def _for_turn(waits: tuple[Wait, ...]) -> bool:
    return any(wait.reason is Reason.SHARE for wait in waits)


def _place(state: State, job: Job, now: float) -> tuple[int, float]:
    """Return the position of a job in the queue, and the seconds of work left before it, by estimates.

    Before it are jobs of users who had less, and earlier ones of its user. The work of many is taken from some of them.
    """
    lines, own = state.waiting.lines, _standing(state, job.user, now)
    ahead = [
        (line, len(line)) for user, line in lines.items() if user != job.user and _standing(state, user, now) < own
    ]
    line = lines[job.user]
    ahead.append((line, line.place(job.priority, job.id)))
    count = sum(jobs for _, jobs in ahead)
    step = max(1, count // LOOKED_AT)
    return count + 1, sum(_work(state, line.some(jobs, step), jobs) for line, jobs in ahead)


def _work(state: State, looked_at: list[int], count: int) -> float:
    """Return the seconds of work left in so many jobs, some of which are looked at."""
    seconds = [_left(state.jobs[number]) for number in looked_at]
    return sum(seconds) / len(seconds) * count if seconds else 0.0


def _left(job: Job) -> float:
    return job.counts.open * (job.stages[job.stage].seconds or 0.0)


def _standing(state: State, user: str, now: float) -> float:
    had = share.standing(state.usage.get(user, share.Usage()), state.running.get(user, 0), now)
    return had / allowances.of(state, Party("user", user)).weight


def _start(state: State, before_s: float, now: float) -> float:
    """Return when a slot may be free for the job behind so much work, by estimates."""
    running = (state.jobs[key.job].tasks[key.task] for key in state.leased)
    ends = sorted(max(now, task.started + task.charge) for task in running)
    free = len(ends) < state.presence.slots
    first = now if free or not ends else ends[0]
    return first + before_s / max(1, state.presence.slots)
