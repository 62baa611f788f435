"""Reading a job's log: from an offset, to its present end or until the job is closed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from dpu.errors import InternalError, UsageError
from dpu_api.v1.logs_pb2 import LogBatch
from dpud.logs.aggregator import Aggregator, Job, View
from dpud.logs.record import Lines, TaskEnded, weight
from dpud.logs.selection import Selection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from dpud.hosting.caller import Caller
    from dpud.logs.store import Placed

#: Bytes that one look into the store brings.
BUDGET = 256 * 1024
#: After so many looks that showed nothing, a reader is told how far they got.
FRUITLESS = 16
#: The farthest that a tail looks back in one go, in lines.
STEP_BACK = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What somebody wants to read."""

    offset: int = 0
    follow: bool = False
    selection: Selection = field(default_factory=Selection)
    #: Only the first, or the last, so many lines; 0: all.
    head: int = 0
    tail: int = 0
    #: Where to end; 0: at the end.
    before: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """Lines [start, stop) of a batch whose first line has an offset."""

    offset: int
    batch: LogBatch
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt is over; its end has an offset."""

    offset: int
    record: TaskEnded


@dataclass(frozen=True, slots=True)
class Passed:
    """Nothing was wanted up to an offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The reading is over: what is known of the job, and whether there was as much as was wanted."""

    view: View
    offset: int
    cut: bool = False


Item: TypeAlias = Shown | Ended | Passed | Finished


class Reading:
    """One reading of one job by one caller."""

    def __init__(self, aggregator: Aggregator, job: Job, caller: Caller, question: Question) -> None:
        self._aggregator = aggregator
        self._job = job
        self._caller = caller
        self._question = question
        self._offset = question.offset
        self._left = question.head or None

    async def items(self) -> AsyncGenerator[Item, None]:
        """Yield what is wanted, and Finished last. Raises UsageError for an offset beyond the end."""
        if self._question.tail:
            self._offset = await self._tail()
        while True:
            # Taken before the look: a change after it cannot be missed.
            changed = self._job.changed
            view = self._view()
            if not view.deleted_by and self._offset > view.end:
                raise UsageError(
                    f"offset {self._offset} is beyond the end of the log of job {self._job.id}, which is at {view.end}"
                )
            async for item in self._until(view):
                yield item
            if self._left == 0:
                yield Finished(view, self._offset, cut=True)
                return
            if self._question.before and self._offset >= view.end:
                yield Finished(view, view.end, cut=True)
                return
            if changed is self._job.changed:
                if view.ended is not None or view.deleted_by or not self._question.follow:
                    yield Finished(view, view.end)
                    return
                await changed.wait()

    def _view(self) -> View:
        """Return what is to be read."""
        view = seen(self._job, self._caller)
        return replace(view, end=min(view.end, self._question.before)) if self._question.before else view

    async def _until(self, view: View) -> AsyncGenerator[Item, None]:
        """Yield what is wanted of what the view knows."""
        fruitless = 0
        while self._offset < view.end and not view.deleted_by and self._left != 0:
            placed = await self._look(self._offset)
            if not placed:
                return
            fruitless += 1
            for each in placed:
                for item in self._shown(each):
                    fruitless = 0
                    yield item
                    if self._left == 0:
                        return
            self._offset = placed[-1].offset + weight(placed[-1].record)
            if fruitless == FRUITLESS:
                fruitless = 0
                yield Passed(self._offset)

    async def _look(self, offset: int) -> list[Placed]:
        """Return what is there from an offset on; nothing where it was deleted meanwhile."""
        placed = await self._aggregator.read(self._job, offset, BUDGET)
        if not placed and not self._job.view.deleted_by and offset < self._job.view.end:
            raise InternalError(f"the log of job {self._job.id} holds nothing at offset {offset}: it was damaged")
        return placed

    def _shown(self, placed: Placed) -> Iterator[Shown | Ended]:
        """Yield what is wanted of one record, and count it."""
        record, selection = placed.record, self._question.selection
        if not isinstance(record, Lines | TaskEnded) or not selection.wants(self._job.ledger, record):
            return
        if isinstance(record, TaskEnded):
            yield Ended(placed.offset, record)
            return
        batch = LogBatch.FromString(record.batch)
        room = self._question.before - placed.offset if self._question.before else len(batch.texts)
        for start, stop in selection.runs(batch, max(0, self._offset - placed.offset)):
            if start >= room:
                return
            stop = min(stop, room)  # noqa: PLW2901 (no further than is wanted)
            if self._left is not None:
                stop = min(stop, start + self._left)  # noqa: PLW2901 (no more than is left)
                self._left -= stop - start
                if self._left == 0:
                    # Whoever reads on does so behind this line.
                    self._offset = placed.offset + stop
            yield Shown(placed.offset, batch, start, stop)

    async def _tail(self) -> int:
        """Return the offset from which on the last so many wanted lines come."""
        view = self._view()
        wanted, high, step = self._question.tail, view.end, max(256, 2 * self._question.tail)
        while high > self._question.offset and not view.deleted_by:
            low = max(self._question.offset, high - min(step, STEP_BACK))
            places = [place async for place in self._places(low, high)]
            if len(places) >= wanted:
                return places[-wanted]
            wanted -= len(places)
            high, step = low, 2 * step
        return self._question.offset

    async def _places(self, low: int, high: int) -> AsyncGenerator[int, None]:
        """Yield the offsets of the wanted lines between two offsets."""
        counting = Reading(
            self._aggregator, self._job, self._caller, replace(self._question, offset=low, tail=0, before=high)
        )
        async for item in counting._until(View(end=high)):
            if isinstance(item, Shown):
                for number in range(item.start, item.stop):
                    yield item.offset + number


def seen(job: Job, caller: Caller) -> View:
    """Return what the caller may know of the job: another project's reads like one that does not exist."""
    visible = job.view.project is not None and caller.may_see(job.view.project)
    return job.view if visible else View()
