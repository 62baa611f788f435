"""The queue: the jobs of a project, those that are asked for in the order that is asked for, and each as it changes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from dpu.errors import NotAllowed
from dpu_api.v1 import scheduler_pb2 as pb
from dpud.web.calls import DEADLINE_S, RELOAD, RETRY, about, again, answered, stream
from dpud.web.live import Hub
from dpud.web.queue import row
from dpud.web.selection import PAGE_SIZE, SORTED, STATES, Selection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.responses import Response

    from dpu_api.v1.job_pb2 import Job
    from dpud.web.visit import Route, Visit
    from dpud.web.visitors import Services


async def queue(visit: Visit) -> Response:
    """Show the jobs that the query selects."""
    chosen, services = Selection.of(visit.asked), visit.services
    wanted = chosen.wanted(visit.visitor.user)
    answer, told, workers = await asyncio.gather(
        answered(services.scheduler.ListJobs(wanted, timeout=DEADLINE_S)),
        answered(about(services)),
        _workers(services),
    )
    jobs, following = _page(chosen, answer)
    now = time.time()
    return visit.show(
        "queue.html",
        chosen=chosen,
        rows=[row(job, now) for job in jobs],
        about=told,
        workers=workers,
        states=STATES,
        live=max((job.revision for job in jobs), default=0) if chosen.is_live else None,
        following=chosen.query(page=following) if following else "",
        cut=SORTED if chosen.sort and answer.next_page_token else 0,
    )


def _page(chosen: Selection, answer: pb.ListJobsResponse) -> tuple[list[Job], str]:
    """Return the jobs of a page, and what the next page is called; '' on the last."""
    if not chosen.sort:
        return list(answer.jobs), answer.next_page_token
    jobs, first = chosen.ordered(answer.jobs), chosen.first
    return jobs[first : first + PAGE_SIZE], str(first + PAGE_SIZE) if first + PAGE_SIZE < len(jobs) else ""


async def live(visit: Visit) -> Response:
    """Send the rows of the jobs that are asked for as they change, as server-sent events; of one job, its row."""
    after, number, services = visit.number("after"), visit.number("job"), visit.services
    call = about(services)
    # What is said of a project's jobs is for its members.
    if broken := await again(call):
        return stream(broken)
    told = await call
    wanted = Selection.of(visit.asked).wanted(visit.visitor.user)
    if number:
        wanted = pb.ListJobsRequest(job_ids=[number], page_size=1)
    hub = visit.hubs.setdefault(visit.visitor.project, Hub(lambda job: visit.pages.event(row(job))))

    async def events() -> AsyncIterator[str]:
        yield RETRY
        async with hub.listening(services, wanted, told, after) as ear:
            while (event := await ear.get()) is not None:
                yield event
        yield RELOAD

    return stream(events())


async def _workers(services: Services) -> list[pb.Worker]:
    """Return the workers, for operators; nobody else is told of them."""
    try:
        answer = await answered(services.scheduler.ListWorkers(pb.ListWorkersRequest(), timeout=DEADLINE_S))
    except NotAllowed:
        return []
    return sorted(answer.workers, key=lambda worker: worker.name)


ROUTES: tuple[Route, ...] = (("GET", "/", queue), ("GET", "/live", live))
