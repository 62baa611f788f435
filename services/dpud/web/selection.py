"""Which jobs of the queue are asked for, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from dpu.report import ENDED
from dpu.values import from_map
from dpu_api.v1 import scheduler_pb2 as pb
from dpud.web.queue import said, seconds, states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.datastructures import QueryParams

    from dpu_api.v1.job_pb2 import Job

#: Jobs of a page.
PAGE_SIZE = 50
#: By anything but their number, the newest so many of those that fit are put in order.
SORTED = 1000
STATES = ("QUEUED", "RUNNING", "CANCELLING", "FINISHED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the address of a page says."""

    #: 'mine', or a name; '' for everybody's.
    user: str = ""
    states: tuple[str, ...] = ()
    sequence: str = ""
    search: str = ""
    #: A column, '-' before it for the greatest first; '' for the newest first.
    sort: str = ""
    #: Of the newest first: the page as the scheduler names it; else the number of the first row.
    page: str = ""

    @classmethod
    def of(cls, query: QueryParams) -> Selection:
        """Return what a query asks for; what is nothing is left out."""
        sort = query.get("sort", "")
        return cls(
            user=query.get("user", ""),
            states=tuple(state for state in query.getlist("state") if state in STATES),
            sequence=query.get("sequence", "").strip(),
            search=query.get("search", "").strip(),
            sort=sort if sort.lstrip("-") in COLUMNS else "",
            page=query.get("page", ""),
        )

    @property
    def is_live(self) -> bool:
        """Whether jobs that come in belong on this page: it is the first, of the newest."""
        return not self.sort and not self.page

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.user or self.states or self.sequence or self.search)

    def wanted(self, visitor: str) -> pb.ListJobsRequest:
        """Return the call for the jobs, as `visitor` asks for them."""
        return pb.ListJobsRequest(
            user=visitor if self.user == "mine" else self.user,
            states=states(self.states),
            sequence=self.sequence,
            search=self.search,
            page_size=SORTED if self.sort else PAGE_SIZE,
            page_token="" if self.sort else self.page,
        )

    def ordered(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs in the order that is asked for; those without a value come last."""
        key = COLUMNS[self.sort.lstrip("-")]
        known = [job for job in jobs if key(job)]
        there = {job.id for job in known}
        return [
            *sorted(known, key=key, reverse=self.sort.startswith("-")),
            *(job for job in jobs if job.id not in there),
        ]

    @property
    def first(self) -> int:
        """The number of the first row, where they are sorted."""
        return int(self.page) if self.sort and self.page.isdecimal() else 0

    def query(self, **changes: Any) -> str:
        """Return the address of the same with changes, without its '?'."""
        changed = replace(self, **changes)
        pairs = [("user", changed.user), *(("state", state) for state in changed.states)]
        pairs += [(name, getattr(changed, name)) for name in ("sequence", "search", "sort", "page")]
        return urlencode([pair for pair in pairs if pair[1]])

    def by(self, column: str) -> str:
        """Return the address of the same, sorted by a column; the other way round where it is already."""
        first, other = (f"-{column}", column) if column in GREATEST_FIRST else (column, f"-{column}")
        return self.query(sort=other if self.sort == first else first, page="")

    def direction(self, column: str) -> str:
        """Return how a column is sorted, as a table says it; '' where it is not."""
        if self.sort.lstrip("-") != column:
            return ""
        return "descending" if self.sort.startswith("-") else "ascending"


def _option(name: str) -> Callable[[Job], str]:
    return lambda job: said(from_map(job.options).get(name)).casefold()


def _waited(job: Job) -> float:
    """Return how long a job waited before it began, or ended; of one that waits, the oldest has waited longest."""
    until = seconds(job.started) or seconds(job.ended)
    return (until or FAR_S) - seconds(job.submitted)


def _ran(job: Job) -> float:
    if not job.HasField("started"):
        return 0.0
    return (FAR_S if job.state not in ENDED else seconds(job.ended)) - seconds(job.started)


#: Later than any job: what goes on is longer than what is over, in the order in which it began.
FAR_S = 4e9
#: What a page can be sorted by.
COLUMNS: dict[str, Callable[[Job], Any]] = {
    "job": lambda job: job.id,
    "user": lambda job: job.user.casefold(),
    "sequence": lambda job: job.sequence.casefold(),
    "instrument": _option("instrument"),
    "date": _option("date"),
    "filter": _option("filter"),
    "object": _option("object"),
    "state": lambda job: job.state,
    "tasks": lambda job: job.counts.error + job.counts.aborted + job.counts.unknown,
    "submitted": lambda job: seconds(job.submitted),
    "waited": _waited,
    "ran": _ran,
    "estimate": lambda job: job.estimate_s,
}
GREATEST_FIRST = {"tasks", "submitted", "waited", "ran", "estimate"}
