"""Statistics: what a project's jobs came to by day, user and sequence, and how what is measured changes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dpu.values import from_map
from dpu_api.v1 import scheduler_pb2 as pb
from dpu_api.v1.archive_pb2 import ListInstrumentsRequest
from dpud.web.calls import DEADLINE_S, answered
from dpud.web.charts import Chart, bars
from dpud.web.queue import duration, said, short
from dpud.web.trends import trends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

    from dpu_api.v1.archive_pb2 import Instrument
    from dpu_api.v1.job_pb2 import Job
    from dpud.web.visit import Route, Visit

#: The days that can be looked at, by the words for them.
DAYS = {7: "week", 30: "month", 90: "three months", 365: "year"}
ENDS = ("finished", "failed", "cancelled")


async def statistics(visit: Visit) -> Response:
    """Show the statistics of the last days, and the trends of an instrument."""
    days = visit.number("days")
    days = days if days in DAYS else 30
    services = visit.services
    totals, known, latest = await asyncio.gather(
        answered(services.scheduler.GetTotals(pb.GetTotalsRequest(days=days), timeout=DEADLINE_S)),
        answered(services.archive.ListInstruments(ListInstrumentsRequest(), timeout=DEADLINE_S)),
        answered(services.scheduler.ListJobs(pb.ListJobsRequest(page_size=1), timeout=DEADLINE_S)),
    )
    instrument = _chosen(known.instruments, [visit.asked.get("instrument", ""), *map(_instrument, latest.jobs)])
    chip = visit.asked.get("chip", "")
    chip = chip if instrument and chip in instrument.chips else ""
    today = datetime.now(UTC).date()
    return visit.show(
        "statistics.html",
        days=days,
        known_days=DAYS,
        charts=_by_day(totals.days, [str(today - timedelta(days=ago)) for ago in range(days - 1, -1, -1)]),
        users=_shares(totals.users),
        sequences=[_sequence(each) for each in totals.sequences],
        instruments=[each.name for each in known.instruments],
        chips=instrument.chips if instrument else [],
        instrument=instrument.name if instrument else "",
        chip=chip,
        trends=await trends(services, instrument.name, chip, days) if instrument else [],
    )


def _chosen(instruments: Sequence[Instrument], wanted: Sequence[str]) -> Instrument | None:
    """Return the first instrument of those wanted that is known, or else of those known."""
    by_name = {each.name: each for each in instruments}
    return next((by_name[name] for name in [*wanted, *by_name] if name in by_name), None)


def _instrument(job: Job) -> str:
    return said(from_map(job.options).get("instrument"))


def _by_day(found: Sequence[pb.DayTotals], days: Sequence[str]) -> list[Chart]:
    """Return the charts of what ended each day, and how long it had waited."""
    by_day = {each.day.ToDatetime().strftime("%Y-%m-%d"): each.totals for each in found}
    rows = [(day, by_day.get(day, pb.Totals())) for day in days]
    ended = Chart(
        title="Jobs that ended, by day",
        columns=("Day", *(end.capitalize() for end in ENDS), "Tasks"),
        rows=[
            (day, *(str(getattr(of, end)) for end in ENDS), f"{of.tasks:,}") for day, of in reversed(rows) if _jobs(of)
        ],
    )
    waited = Chart(
        title="How long they had waited, on average",
        columns=("Day", "On average", "Longest"),
        rows=[(day, duration(_mean(of)), duration(of.longest_wait_s)) for day, of in reversed(rows) if _jobs(of)],
    )
    return [
        bars(ended, [(day, [float(getattr(of, end)) for end in ENDS]) for day, of in rows], ENDS, "{:,.4g}".format),
        bars(waited, [(day, [_mean(of)]) for day, of in rows], ("waited",), duration),
    ]


def _jobs(of: pb.Totals) -> int:
    return of.finished + of.failed + of.cancelled


def _mean(of: pb.Totals) -> float:
    return of.waited_s / _jobs(of) if _jobs(of) else 0.0


def _shares(found: Sequence[pb.NamedTotals]) -> list[dict[str, object]]:
    """Return what each user had of the slots' time, the greatest part first."""
    whole = sum(each.totals.busy_s for each in found) or 1.0
    return [
        {
            "name": short(each.name),
            "percent": round(100 * each.totals.busy_s / whole, 1),
            "busy": duration(each.totals.busy_s),
            "jobs": f"{_jobs(each.totals):,}",
            "tasks": f"{each.totals.tasks:,}",
            "waited": duration(_mean(each.totals)),
        }
        for each in sorted(found, key=lambda each: -each.totals.busy_s)
    ]


def _sequence(each: pb.NamedTotals) -> dict[str, str]:
    of = each.totals
    ran = of.finished + of.failed
    return {
        "name": short(each.name),
        "jobs": f"{_jobs(of):,}",
        "failed": f"{of.failed:,}",
        "ran": duration(of.ran_s / ran) if ran else "",
        "longest": duration(of.longest_run_s),
        "waited": duration(_mean(of)),
        "busy": duration(of.busy_s),
    }


ROUTES: tuple[Route, ...] = (("GET", "/statistics", statistics),)
