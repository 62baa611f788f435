"""Trends: how what the products of an instrument measure changes from night to night."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from dpu_api.v1.archive_pb2 import ListTrendRequest
from dpud.web.charts import Chart, scatter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpu_api.v1.archive_pb2 import TrendPoint
    from dpud.web.visitors import Services

#: So many points of one trend are drawn: of more, every second, third ...
MOST = 3000
DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Trend:
    """A value that products of a class measure."""

    name: str
    frame_class: str
    value: str
    unit: str


TRENDS = (
    Trend("Read noise", "ReadNoise", "READNOISE", "ADU"),
    Trend("Gain", "GainLinearity", "GAIN", "e-/ADU"),
    Trend("Seeing", "ReducedScienceFrame", "PSF_RADIUS", "arcsec"),
    Trend("Zero point", "PhotometricParameters", "ZEROPNT", "mag"),
)


async def trends(services: Services, instrument: str, chip: str, days: int) -> list[Chart]:
    """Return a chart for each trend of an instrument, or of one chip of it. Raises grpc.RpcError."""
    return await asyncio.gather(*(_trend(services, trend, instrument, chip, days) for trend in TRENDS))


async def _trend(services: Services, trend: Trend, instrument: str, chip: str, days: int) -> Chart:
    asked = ListTrendRequest(
        instrument=instrument, frame_class=trend.frame_class, value=trend.value, chips=[chip] if chip else []
    )
    archive: Any = services.archive  # the stub's types know the synchronous channel
    points: list[TrendPoint] = []
    async for answer in archive.ListTrend(asked, timeout=DEADLINE_S):
        points += answer.points
    return drawn(trend, [point for point in points if point.night], days)


def drawn(trend: Trend, points: Sequence[TrendPoint], days: int) -> Chart:
    """Return the chart of the last `days` nights up to the newest point; without points, one that is empty."""
    newest = max((date.fromisoformat(point.night) for point in points), default=date.min)
    first = newest - timedelta(days=days) if points else newest
    by_night: defaultdict[date, list[TrendPoint]] = defaultdict(list)
    for point in points:
        if (night := date.fromisoformat(point.night)) > first:
            by_night[night].append(point)
    nights = sorted(by_night.items())
    middles = [(night, median(point.value for point in found)) for night, found in nights]
    chart = Chart(
        title=f"{trend.name} ({trend.unit})",
        columns=("Night", "Products", "Median", "Least", "Greatest", "Not valid"),
        rows=[
            (
                str(night),
                str(len(found)),
                *(f"{figure:.4g}" for figure in (middle, *_ends(found))),
                str(sum(not point.is_valid for point in found)),
            )
            for (night, found), (_, middle) in zip(reversed(nights), reversed(middles), strict=True)
        ],
    )
    if not nights:
        return chart
    dots = [(float(night.toordinal()), point.value, point.is_valid) for night, found in nights for point in found]
    return scatter(
        chart,
        dots[:: len(dots) // MOST + 1],
        [(float(night.toordinal()), middle) for night, middle in middles],
        [(float(night.toordinal()), str(night)) for night, _ in nights],
        lambda value: f"{value:.4g}",
    )


def _ends(found: Sequence[TrendPoint]) -> tuple[float, float]:
    return min(point.value for point in found), max(point.value for point in found)
