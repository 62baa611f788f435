"""Ends several jobs, all or none; where they have very many tasks, a few jobs at a time: nobody waits for the whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpud.scheduler.loop import PAUSE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from dpu_api.v1 import scheduler_pb2
    from dpud.hosting.caller import Caller
    from dpud.scheduler.commands import Cancel
    from dpud.scheduler.loop import Loop
    from dpud.scheduler.model import State

#: So many jobs, with so many tasks together, are cancelled at once, a few milliseconds of work; a longer one alone.
JOBS = 100
TASKS = 5_000


def own(state: State, request: scheduler_pb2.CancelJobsRequest, caller: Caller) -> list[int]:
    """Return the caller's own open jobs that a request means. Raises UsageError where it means none."""
    if not (request.mine or request.sequence):
        raise UsageError("which jobs are to end? name them, their sequence, or say that all of yours are")
    return [
        job.id
        for job in state.jobs.values()
        if (job.user, job.project) == (caller.user, caller.project)
        and not job.state.ended
        and request.sequence in ("", job.sequence)
    ]


async def cancelling(loop: Loop, commands: Sequence[Cancel]) -> AsyncIterator[list[int]]:
    """Do these commands; yield the jobs of some of them as soon as that is durable. Raises a refusal, nothing done."""
    for command in _here(loop.state, commands):
        loop.check(command)
    for some in _parts(loop.state, commands):
        await loop.execute(*_here(loop.state, some))
        yield [command.job for command in some]
        await asyncio.sleep(PAUSE_S)


def _here(state: State, commands: Sequence[Cancel]) -> list[Cancel]:
    """Return those about jobs that have not left the memory: the others ended long ago."""
    return [command for command in commands if command.job in state.jobs]


def _parts(state: State, commands: Sequence[Cancel]) -> Iterator[list[Cancel]]:
    some: list[Cancel] = []
    tasks = 0
    for command in commands:
        job = state.jobs.get(command.job)
        length = len(job.tasks) if job else 0
        if some and (len(some) == JOBS or tasks + length > TASKS):
            yield some
            some, tasks = [], 0
        some.append(command)
        tasks += length
    if some:
        yield some
