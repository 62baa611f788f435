"""What the queue shows of a job: rows of text and numbers, ready for a page."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dpu.report import ENDED, state_of
from dpu.values import from_map
from dpu_api.v1.job_pb2 import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.timestamp_pb2 import Timestamp

    from dpu_api.v1.job_pb2 import Job

#: What a selection is made of, as the page shows it.
SELECTED = ("instrument", "date", "filter", "object", "chip")
#: N/E/A/S/U, with the words that stand for them.
KINDS = (
    ("normal", "ended normally"),
    ("error", "ended with an error"),
    ("aborted", "aborted or cancelled"),
    ("submitted", "submitted"),
    ("unknown", "unknown"),
)
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
#: Of a name that somebody made very long, the page shows the begin.
LONGEST = 200


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a job's bar."""

    kind: str
    words: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A job in the queue."""

    id: int
    user: str
    project: str
    sequence: str
    instrument: str
    date: str
    filter: str
    object: str
    selection: str
    state: str
    parts: tuple[Part, ...]
    submitted: str
    waited: str
    ran: str
    estimate: str
    #: Since when it waits or runs, in seconds since 1970; 0: it has ended.
    since: int
    is_open: bool
    revision: int

    @property
    def counts(self) -> str:
        """N/E/A/S/U."""
        return "/".join(str(part.number) for part in self.parts)

    @property
    def total(self) -> int:
        """How many tasks there are."""
        return sum(part.number for part in self.parts)


def row(job: Job, now: float | None = None) -> Row:
    """Return the row of a job as it stands."""
    moment = time.time() if now is None else now
    submitted, started, ended = map(seconds, (job.submitted, job.started, job.ended))
    options = from_map(job.options)
    is_open = job.state not in ENDED
    return Row(
        id=job.id,
        user=short(job.user),
        project=short(job.project),
        sequence=short(job.sequence),
        instrument=short(said(options.get("instrument"))),
        date=short(said(options.get("date"))),
        filter=short(said(options.get("filter"))),
        object=short(said(options.get("object"))),
        selection=short(selection(options)),
        state=state_of(job),
        parts=tuple(Part(kind, words, getattr(job.counts, kind)) for kind, words in KINDS),
        submitted=datetime.fromtimestamp(submitted, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        waited=duration((started or ended or moment) - submitted),
        ran=duration((ended or moment) - started) if started else "",
        estimate=duration(job.estimate_s),
        since=int(started or submitted) if is_open else 0,
        is_open=is_open,
        revision=job.revision,
    )


def selection(options: Mapping[str, object]) -> str:
    """Return what a job selects, as 'WFI 2000-04-28 #842'."""
    return " ".join(said(options[name]) for name in SELECTED if options.get(name))


def said(value: object) -> str:
    """Return the value of an option, as a person writes it."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value) if value else ""


def short(text: str) -> str:
    """Return a text that a page can show."""
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def duration(seconds: float) -> str:
    """Return a time that passed, as '4 s', '3:07', '1:02:03', '2 d 04:00'."""
    whole = max(0, round(seconds))
    if whole < MINUTE_S:
        return f"{whole} s"
    minutes, rest = divmod(whole, MINUTE_S)
    if whole < HOUR_S:
        return f"{minutes}:{rest:02}"
    hours, minutes = divmod(minutes, MINUTE_S)
    if whole < DAY_S:
        return f"{hours}:{minutes:02}:{rest:02}"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02}:{minutes:02}"


def states(names: Iterable[str]) -> list[JobState.ValueType]:
    """Return job states by name, 'RUNNING'; those that are none are left out."""
    known = {name.removeprefix("JOB_STATE_"): number for name, number in JobState.items() if number}
    return [known[name] for name in names if name in known]


def seconds(stamp: Timestamp) -> float:
    """Return a time in seconds since 1970, 0 where it has not come yet."""
    return stamp.seconds + stamp.nanos / 1e9
