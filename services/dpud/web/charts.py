"""Charts: figures as rectangles and points of a picture, with the ticks to read them by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: A picture's size, in its own units; the figures' room is above LOW and beside LEFT.
WIDTH, HEIGHT = 640, 180
LEFT, LOW, TOP = 52, 156, 8
#: So many ticks stand at an axis, at most.
TICKS = 5
#: The part of its place that a bar fills.
FILLED = 0.8


@dataclass(frozen=True, slots=True)
class Tick:
    """Where something is written at an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a bar."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Dot:
    """A measurement; one that is not valid is drawn hollow."""

    x: float
    y: float
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture of figures, and the same as a table for whoever does not see it."""

    #: What it shows, for its heading; the words of the table's columns.
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    up: tuple[Tick, ...] = ()
    along: tuple[Tick, ...] = ()
    blocks: tuple[Block, ...] = ()
    dots: tuple[Dot, ...] = ()
    #: A line through figures, as an SVG path; '' without any.
    line: str = ""
    #: The kinds of blocks, for a key; empty where there is one.
    kinds: tuple[str, ...] = ()


def bars(
    chart: Chart, stacks: Sequence[tuple[str, Sequence[float]]], kinds: tuple[str, ...], words: Callable[[float], str]
) -> Chart:
    """Return a chart with a bar for each stack: its name, and how much of it is of each kind."""
    # Whole numbers stand at the ticks of the smallest, too.
    most = max([float(TICKS), *(sum(parts) for _, parts in stacks)])
    scale, up = _up(0.0, most, words)
    step = (WIDTH - LEFT) / max(1, len(stacks))
    blocks: list[Block] = []
    for number, (_, parts) in enumerate(stacks):
        high = 0.0
        for kind, part in zip(kinds, parts, strict=True):
            if part:
                top, low = scale(high + part), scale(high)
                blocks.append(Block(kind, *_round(LEFT + step * (number + 0.1), top, step * FILLED, low - top)))
                high += part
    along = _some([Tick(round(LEFT + step * (number + 0.5), 1), name) for number, (name, _) in enumerate(stacks)])
    return _with(chart, up=up, along=along, blocks=tuple(blocks), kinds=kinds if len(kinds) > 1 else ())


def scatter(
    chart: Chart,
    points: Sequence[tuple[float, float, bool]],
    middle: Sequence[tuple[float, float]],
    names: Sequence[tuple[float, str]],
    words: Callable[[float], str],
) -> Chart:
    """Return a chart with a dot for each (x, y, valid), a line through others, and names along."""
    lowest, highest = min(y for _, y, _ in points), max(y for _, y, _ in points)
    scale, up = _up(lowest, highest, words)
    first, last = min(x for x, _, _ in points), max(x for x, _, _ in points)

    def across(x: float) -> float:
        return round(LEFT + 8 + (WIDTH - LEFT - 16) * ((x - first) / (last - first) if last > first else 0.5), 1)

    dots = tuple(Dot(across(x), round(scale(y), 1), valid) for x, y, valid in points)
    line = " ".join(f"{'L' if number else 'M'}{across(x)} {scale(y):.1f}" for number, (x, y) in enumerate(middle))
    along = _some([Tick(across(x), name) for x, name in names])
    return _with(chart, up=up, along=along, dots=dots, line=line)


def _with(chart: Chart, **more: object) -> Chart:
    kept = {name: getattr(chart, name) for name in ("title", "columns", "rows")}
    return Chart(**kept | more)


def _up(
    lowest: float, highest: float, words: Callable[[float], str]
) -> tuple[Callable[[float], float], tuple[Tick, ...]]:
    """Return how high a figure stands, and ticks from below the lowest to above the highest."""
    span = highest - lowest or abs(highest) or 1.0
    step = 10.0 ** math.floor(math.log10(span / TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= TICKS)
    begin, end = math.floor(lowest / step), math.ceil(highest / step)
    end += end == begin

    def scale(value: float) -> float:
        return LOW - (LOW - TOP) * (value / step - begin) / (end - begin)

    ticks = (Tick(round(scale(number * step), 1), words(number * step)) for number in range(begin, end + 1))
    return scale, tuple(ticks)


def _some(ticks: list[Tick]) -> tuple[Tick, ...]:
    """Return as many as have room, the last among them."""
    every = math.ceil(len(ticks) / TICKS) if len(ticks) > TICKS else 1
    return tuple(reversed(ticks[::-1][::every]))


def _round(*figures: float) -> tuple[float, ...]:
    return tuple(round(figure, 1) for figure in figures)
