"""What changes, told to every browser that looks: one watch of the scheduler a project, one list a view, however many.

A view is the first page of a selection. When a job that may be on it has changed, it is listed anew, what is new on it
is made into text once, and that is sent to all who look at it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from dpu_api.v1 import scheduler_pb2 as pb
from dpud.web.calls import DEADLINE_S, about

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from dpu_api.v1.job_pb2 import Job
    from dpud.web.visitors import Services

log = structlog.get_logger(__name__)

#: Of a browser that does not keep up: more, and it is told to load the page anew.
BEHIND = 60
#: How often a page is told of changes, however often they come: at most.
PAUSE_S = 1
#: The pages of one answer of the scheduler come within so long.
GATHER_S = 0.05


@dataclass(eq=False)
class Ear:
    """One browser that listens; None among what it hears: it missed some."""

    services: Services
    heard: asyncio.Queue[str | None] = field(default_factory=lambda: asyncio.Queue(BEHIND + 1))

    def tell(self, what: str) -> None:
        """Say something, or that there was too much."""
        if self.heard.qsize() < BEHIND:
            self.heard.put_nowait(what)
        elif self.heard.qsize() == BEHIND:
            self.heard.put_nowait(None)


@dataclass(eq=False)
class View:
    """The first page of a selection, and who looks at it."""

    wanted: pb.ListJobsRequest
    ears: set[Ear] = field(default_factory=set)
    #: What stands on it, newest first: revision and event by job; None before it was listed.
    shown: dict[int, tuple[int, str]] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def may_show(self, numbers: Iterable[int]) -> bool:
        """Return whether one of the jobs stands on it, or may come to."""
        if self.shown is None or len(self.shown) < self.wanted.page_size:
            return True
        lowest = min(self.shown)
        return any(number >= lowest for number in numbers)

    def show(self, jobs: Iterable[Job], say: Callable[[Job], str]) -> str:
        """Take what stands on it now; return what is new, as events."""
        before = self.shown or {}
        now = {job.id: before.get(job.id, (0, "")) for job in jobs}
        for job in jobs:
            if now[job.id][0] != job.revision:
                now[job.id] = job.revision, say(job)
        new = [event for number, (revision, event) in now.items() if before.get(number, (0,))[0] != revision]
        self.shown = now
        return "".join(reversed(new)) + (_rows(now) if now.keys() != before.keys() else "")

    def since(self, revision: int) -> str:
        """Return what stands on it, as events, for a page that shows what there was at a revision."""
        shown = self.shown or {}
        return "".join(event for at, event in reversed(shown.values()) if at > revision) + _rows(shown)


def _rows(numbers: Iterable[int]) -> str:
    """Return which rows there are, as an event: others are to go."""
    return f"event: rows\ndata: {json.dumps(list(numbers))}\n\n"


class Hub:
    """Watches the jobs of one project while anybody looks."""

    def __init__(self, say: Callable[[Job], str]) -> None:
        self._say = say
        self._views: dict[bytes, View] = {}
        self._watching: asyncio.Task[None] | None = None
        self._revision = 0
        self._changed: set[int] = set()
        self._bell = asyncio.Event()
        self._load = ""

    @asynccontextmanager
    async def listening(
        self, services: Services, wanted: pb.ListJobsRequest, told: pb.GetDpuResponse, after: int
    ) -> AsyncIterator[asyncio.Queue[str | None]]:
        """Give a queue of what is new on a view after a revision, for one who may know and was `told` of the DPU."""
        ear = Ear(services)
        key = wanted.SerializeToString(deterministic=True)
        view = self._views.setdefault(key, View(wanted))
        view.ears.add(ear)
        if self._watching is None:
            self._revision = told.revision
            self._watching = asyncio.create_task(self._watch())
        try:
            async with view.lock:
                if view.shown is None:
                    await self._list(view, services)
            ear.tell(view.since(after) + load(told))
            yield ear.heard
        finally:
            view.ears.discard(ear)
            if not view.ears:
                self._views.pop(key, None)
            if not self._views and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    async def _watch(self) -> None:
        """Note which jobs change, and have the views shown that this may concern."""
        showing = asyncio.create_task(self._show())
        try:
            while (ear := self._anybody()) is not None:
                scheduler: Any = ear.services.scheduler  # the stub's types know the synchronous channel
                watch = pb.WatchJobsRequest(after_revision=self._revision, pause=Duration(seconds=PAUSE_S))
                try:
                    async for answer in scheduler.WatchJobs(watch):
                        self._changed.update(job.id for job in answer.jobs)
                        self._revision = max([self._revision, *(job.revision for job in answer.jobs)])
                        self._bell.set()
                except grpc.RpcError as error:
                    self._broke(error, ear)
                await asyncio.sleep(PAUSE_S)
        finally:
            showing.cancel()
            self._watching = None

    async def _show(self) -> None:
        """List the views anew that what has changed may concern, and tell those who look."""
        while True:
            await self._bell.wait()
            await asyncio.sleep(GATHER_S)
            self._bell.clear()
            numbers, self._changed = self._changed, set()
            if (ear := self._anybody()) is None:
                return
            try:
                self._tell_load(await about(ear.services))
                for view in [view for view in self._views.values() if view.may_show(numbers)]:
                    async with view.lock:
                        _tell(view, await self._list(view, ear.services))
            except grpc.RpcError as error:
                self._broke(error, ear)
                self._changed |= numbers
                self._bell.set()
                await asyncio.sleep(PAUSE_S)

    def _tell_load(self, told: pb.GetDpuResponse) -> None:
        before, self._load = self._load, load(told)
        for view in self._views.values() if self._load != before else ():
            _tell(view, self._load)

    async def _list(self, view: View, services: Services) -> str:
        scheduler: Any = services.scheduler  # as above
        answer = await scheduler.ListJobs(view.wanted, timeout=DEADLINE_S)
        return view.show(answer.jobs, self._say)

    def _anybody(self) -> Ear | None:
        return next((ear for view in self._views.values() for ear in view.ears), None)

    def _broke(self, error: grpc.RpcError, ear: Ear) -> None:
        code: Any = error.code()
        log.warning("the watch of the jobs broke off", code=code.name)
        if code is grpc.StatusCode.UNAUTHENTICATED:
            # Another goes on watching; whoever is known no more is told to load the page, and signs in.
            for view in self._views.values():
                view.ears.discard(ear)
            ear.heard.put_nowait(None)


def _tell(view: View, what: str) -> None:
    for ear in view.ears if what else ():
        ear.tell(what)


def load(told: pb.GetDpuResponse) -> str:
    """Return what there is to do, as an event."""
    figures = {"open": told.open_jobs, "running": told.running_tasks, "slots": told.slots}
    return f"event: load\ndata: {json.dumps(figures)}\n\n"
