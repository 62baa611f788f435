"""Brings in lists of tasks; a long one piece by piece, so that nobody else waits for the whole."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from dpu.errors import UsageError
from dpu_api.v1 import scheduler_pb2
from dpud.scheduler import allowances, deposits, repeats, wire
from dpud.scheduler.commands import Abandon, Deposit
from dpud.scheduler.loop import PAUSE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from dpu_api.v1 import job_pb2
    from dpud.hosting.caller import Caller
    from dpud.scheduler.commands import Repeat, Submit
    from dpud.scheduler.directory import Directory
    from dpud.scheduler.loop import Loop
    from dpud.scheduler.model import Task, TaskPlan

#: Tasks that are read at once, and those of a piece, with about so many bytes: each is a few milliseconds of work.
STEP = 100
PIECE = 500
PIECE_BYTES = 256 * 1024
#: What goes before each of a SubmitJobRequest's tasks: the number of the field, and that its size follows.
_TASKS = bytes((scheduler_pb2.SubmitJobRequest.TASKS_FIELD_NUMBER << 3 | 2,))


class Arrival:
    """One list on its way in: its newest piece is here, and all before it is laid down."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._before = 0
        self._size = 0
        #: Of what is laid down; empty while nothing is.
        self.deposit = ""
        self._tasks: list[TaskPlan] = []

    @property
    def tasks(self) -> tuple[TaskPlan, ...]:
        """The newest piece."""
        return tuple(self._tasks)

    async def take(self, messages: Sequence[job_pb2.TaskSpec]) -> None:
        """Take more tasks. Raises UsageError where one of them cannot be, or they are too many."""
        for first in range(0, len(messages), STEP):
            await self.add(wire.task_plans(messages[first : first + STEP]))

    async def add(self, tasks: Sequence[TaskPlan]) -> None:
        """Take a few more tasks; raises as `take`."""
        if self._tasks and (len(self._tasks) + len(tasks) > PIECE or self._size > PIECE_BYTES):
            await self._lay_down()
        self._tasks += tasks
        self._size += sum(task.size for task in tasks)

    async def _lay_down(self) -> None:
        self.deposit = self.deposit or secrets.token_hex(8)
        await self._loop.execute(Deposit(key=self.deposit, before=self._before, tasks=self.tasks))
        self._before += len(self._tasks)
        self._tasks, self._size = [], 0
        await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def arriving(loop: Loop) -> AsyncIterator[Arrival]:
    """Give a list that is to arrive within the block; what was laid down and not taken by its end is abandoned."""
    arrival = Arrival(loop)
    try:
        yield arrival
    finally:
        if arrival.deposit in loop.state.deposits:
            await loop.execute(Abandon(arrival.deposit))


async def submission(loop: Loop, arrival: Arrival, request: scheduler_pb2.SubmitJobRequest, caller: Caller) -> Submit:
    """Return the command of a request; of a long list of its tasks, all but the last are laid down by then.

    Raises the refusal of what need not wait for its tasks.
    """
    if len(request.tasks) <= PIECE:
        return wire.submit(request, caller)
    deposits.check_number(len(request.tasks))
    head = without_tasks(request)
    command = wire.submit(head, caller)
    if (command.project, command.user, command.request_id) not in loop.state.requests:
        loop.check(command)
        allowances.check_queued(loop.state, command.user, command.project, len(request.tasks), len(command.options))
    digest = hashlib.sha256(wire.content(head))
    for first in range(0, len(request.tasks), STEP):
        tasks = wire.task_plans(request.tasks[first : first + STEP])
        digest.update(content_of_tasks(tasks))
        await arrival.add(tasks)
    return replace(command, digest=digest.hexdigest(), tasks=arrival.tasks, deposit=arrival.deposit)


async def repetition(
    loop: Loop, directory: Directory, arrival: Arrival, command: Repeat, *, only_failed: bool
) -> Repeat:
    """Return a command with its tasks; of many, all but the last are laid down by then.

    Raises the refusal of what need not wait for its tasks, and UsageError where nothing is to be done again.
    """
    # Also of a request that was taken before and is another now.
    if not loop.check(command):
        return command
    first = await _first(_pages(directory, command.job.id), only_failed=only_failed)
    if first is None:
        raise UsageError(f"nothing of job {command.job.id} failed: there is nothing to do again")
    async for tasks in _pages(directory, command.job.id):
        for step in range(0, len(tasks), STEP):
            await arrival.add(repeats.plans_again(tasks[step : step + STEP], first, only_failed=only_failed))
    return replace(command, stage=first.stage, tasks=arrival.tasks, deposit=arrival.deposit)


async def _pages(directory: Directory, job: int) -> AsyncIterator[list[Task]]:
    """Yield all tasks of a job, a few at a time."""
    first = 0
    while tasks := directory.tasks(job, first, PIECE):
        yield tasks
        first += len(tasks)
        await asyncio.sleep(PAUSE_S)


async def _first(pages: AsyncIterator[list[Task]], *, only_failed: bool) -> Task | None:
    """Return the task with which it begins: that of the job, or of what did not end well."""
    first = None
    async for tasks in pages:
        if not only_failed:
            return tasks[0]
        first = repeats.first_failed([*filter(None, [first]), *tasks])
    return first


def content_of_tasks(tasks: Sequence[TaskPlan]) -> bytes:
    """Return a request of nothing but tasks, as `wire.content` does; a message is its fields, one after the other."""
    return b"".join(part for task in tasks for part in (_TASKS, _varint(len(task.spec)), task.spec))


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    written = bytearray()
    while high := number >> 7:
        written.append(number & 0x7F | 0x80)
        number = high
    return bytes((*written, number))


def without_tasks(request: scheduler_pb2.SubmitJobRequest) -> scheduler_pb2.SubmitJobRequest:
    """Return a copy of a request, but for its tasks."""
    head = scheduler_pb2.SubmitJobRequest()
    for field, value in request.ListFields():
        if field.name == "tasks":
            continue
        if field.message_type:
            getattr(head, field.name).CopyFrom(value)
        else:
            setattr(head, field.name, value)
    return head
