"""The queue: the jobs of a project, newest first, and each as it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from dpu.errors import NotAllowed
from dpu_api.v1 import scheduler_pb2 as pb
from dpud.web.calls import DEADLINE_S, RELOAD, RETRY, about, again, answered, stream
from dpud.web.live import Hub
from dpud.web.queue import row, states

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.responses import Response

    from dpud.web.visit import Route, Visit
    from dpud.web.visitors import Services

PAGE_SIZE = 50


async def queue(visit: Visit) -> Response:
    """Show the jobs, newest first, as the query selects them."""
    asked, services = visit.asked, visit.services
    wanted = pb.ListJobsRequest(
        user=visit.visitor.user if asked.get("user") == "mine" else asked.get("user", ""),
        states=states(asked.getlist("state")),
        sequence=asked.get("sequence", ""),
        page_size=PAGE_SIZE,
        page_token=asked.get("page", ""),
    )
    answer = await answered(services.scheduler.ListJobs(wanted, timeout=DEADLINE_S))
    following = {key: value for key, value in asked.multi_items() if key != "page"}
    return visit.show(
        "queue.html",
        rows=[row(job) for job in answer.jobs],
        about=await answered(about(services)),
        workers=await _workers(services),
        asked=asked,
        chosen=set(asked.getlist("state")),
        # Rows that come in live belong on the first page of everything.
        live=max((job.revision for job in answer.jobs), default=0) if not asked.get("page") else None,
        following=urlencode({**following, "page": answer.next_page_token}) if answer.next_page_token else "",
    )


async def live(visit: Visit) -> Response:
    """Send the row of each job that changes, as server-sent events."""
    after, services = visit.number("after"), visit.services
    # What is said of a project's jobs is for its members.
    if broken := await again(about(services)):
        return stream(broken)
    hub = visit.hubs.setdefault(visit.visitor.project, Hub(lambda job: visit.pages.event(row(job))))

    async def events() -> AsyncIterator[str]:
        async with hub.listening(services, after) as ear:
            yield RETRY
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
