"""Jobs by whose they are, and by their identifiers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dpu.report import status
from dpu_api.v1.scheduler_pb2 import ListJobsRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dpu.link import Link
    from dpu_api.v1.job_pb2 import Job

#: Jobs that ended earlier are listed only when all are asked for.
RECENT = timedelta(days=7)
PAGE = 1000


def mine(link: Link, username: str, submitted: Sequence[int] = (), *, everything: bool = False) -> list[Job]:
    """Return a user's jobs by identifier: not ended, ended in the last 7 days, or `submitted` in this session.

    With `everything`, all that the DPU remembers.
    """
    # All jobs of the embedded DPU are one user's, whatever name is configured.
    request = ListJobsRequest(user="" if link.is_local else username, page_size=PAGE)
    if not everything:
        request.ended_after.FromDatetime(datetime.now(UTC) - RECENT)
    listed = {job.id: job for job in _listed(link, request)}
    older = [jobid for jobid in submitted if jobid not in listed]
    listed |= {job.id: job for job in named(link, older)}
    return [listed[jobid] for jobid in sorted(listed)]


def named(link: Link, jobids: Sequence[int]) -> list[Job]:
    """Return those of the jobs that are known, in the order of `jobids`."""
    if not jobids:
        return []
    found = {job.id: job for job in _listed(link, ListJobsRequest(job_ids=jobids, page_size=PAGE))}
    return [found[jobid] for jobid in jobids if jobid in found]


def told(jobs: Sequence[Job], wanted: Sequence[int]) -> Iterator[str]:
    """Yield the lines of `get_status`; `wanted` are identifiers that were asked for, known or not."""
    yield from map(status, jobs)
    found = {job.id for job in jobs}
    yield from (f"Jobid {jobid} is unknown" for jobid in wanted if jobid not in found)
    if not jobs and not wanted:
        yield "No jobs"


def _listed(link: Link, request: ListJobsRequest) -> list[Job]:
    jobs: list[Job] = []
    while True:
        page = link.ask(lambda services: services.scheduler.ListJobs, request)
        jobs.extend(page.jobs)
        if not page.next_page_token:
            return jobs
        request.page_token = page.next_page_token
