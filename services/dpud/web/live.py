"""What changes, told to every browser that listens: one watch of the scheduler a project, however many look."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from dpu_api.v1.scheduler_pb2 import WatchJobsRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dpu_api.v1.job_pb2 import Job
    from dpud.web.visitors import Services

log = structlog.get_logger(__name__)

#: Of a browser that does not keep up, and of one whose page is older: more, and it is told to load the page anew.
BEHIND = 1000
PAUSE_S = 1.0


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


class Hub:
    """Watches the jobs of one project while anybody listens."""

    def __init__(self, say: Callable[[Job], str]) -> None:
        self._say = say
        self._ears: set[Ear] = set()
        self._watching: asyncio.Task[None] | None = None
        self._revision = 0
        #: What was said last, with its revision: for a page that was loaded a moment ago.
        self._recent: deque[tuple[int, str]] = deque(maxlen=BEHIND)

    @asynccontextmanager
    async def listening(self, services: Services, after: int) -> AsyncIterator[asyncio.Queue[str | None]]:
        """Give a queue of what is said of each job that changed after a revision, in the name of one who may know."""
        ear = Ear(services)
        if self._watching is None:
            self._revision = after
            self._recent.clear()
            # Begins when this one is among those who listen.
            self._watching = asyncio.create_task(self._watch())
        elif len(self._recent) == BEHIND and self._recent[0][0] > after:
            ear.heard.put_nowait(None)
        for revision, what in self._recent:
            if revision > after:
                ear.tell(what)
        self._ears.add(ear)
        try:
            yield ear.heard
        finally:
            self._ears.discard(ear)
            if not self._ears and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    async def _watch(self) -> None:
        while self._ears:
            ear = next(iter(self._ears))
            scheduler: Any = ear.services.scheduler  # the stub's types know the synchronous channel
            try:
                async for answer in scheduler.WatchJobs(WatchJobsRequest(after_revision=self._revision)):
                    for job in answer.jobs:
                        self._tell(job)
            except grpc.RpcError as error:
                log.warning("the watch of the jobs broke off", code=error.code().name)
                if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    # Another goes on watching; whoever is known no more is told to load the page, and signs in.
                    self._ears.discard(ear)
                    ear.heard.put_nowait(None)
            await asyncio.sleep(PAUSE_S)
        self._watching = None

    def _tell(self, job: Job) -> None:
        what = self._say(job)
        self._revision = max(self._revision, job.revision)
        self._recent.append((job.revision, what))
        for ear in self._ears:
            ear.tell(what)
