"""Figures of quality: pictures and charts side by side, words beside them, as PNG.

A figure is made with every product, so it has to be made in some hundredths of a second: a plotting library takes
longer to load than a bias to average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

#: Pixels: of a panel with what stands around it, of the frame within it (left, top, right, bottom), of the words.
PANEL: Final = (400, 400)
FRAME: Final = (70, 40, 385, 345)
WORDS: Final = 350
TOP: Final = 40
SMALL: Final = ImageFont.load_default(12)
LARGE: Final = ImageFont.load_default(16)
INK, GREY, BLUE, ORANGE, RED = "#222222", "#bbbbbb", "#1f5fa8", "#c8641e", "#b00020"
#: Of an image's values: what is black and what is white, per cent.
CONTRAST: Final = (1.0, 99.0)
#: What is looked at of an image along each side, pixels, at most.
SAMPLED: Final = 512
BINS: Final = 80
#: Radius of a point, pixels.
DOT: Final = 3
#: Of an image's values: what is about the noise's edge, the middle, and the other edge, per cent.
SPREAD: Final = (2.3, 50.0, 97.7)
#: About as many ticks on an axis.
TICKS: Final = 5
#: Of PNG: what more takes away costs more time than it is worth.
COMPRESSION: Final = 4


@dataclass(frozen=True, slots=True)
class Series:
    """Values against others: points, or what joins them."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Series with axes; what is not finite is left out."""

    #: What is drawn upwards.
    title: str
    #: What is drawn to the right.
    along: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image : (y, x), in grey, its first row at the bottom."""

    title: str
    pixels: NDArray[Any]


Panel: TypeAlias = "Chart | Picture"


def histogram(unit: str, image: NDArray[Any]) -> Chart:
    """Return how many pixels of an image : (y, x) have which value, of a sample, and far outliers left out."""
    sample = thinned(image).astype(np.float64)
    sample = sample[np.isfinite(sample)]
    low, middle, high = np.percentile(sample, SPREAD) if sample.size else (0.0, 0.5, 1.0)
    # As wide again on either side, where noise ends.
    width = 2 * (high - low) / BINS or 1.0
    if image.dtype.kind in "iu":
        width = math.ceil(width)
    first = math.floor((2 * low - middle) / width)
    counts, edges = np.histogram(sample, bins=(first + np.arange(BINS + 2) - 0.5) * width)
    steps = np.concatenate([[0], np.repeat(counts, 2), [0]]).astype(np.float64)
    return Chart("pixels, of a sample", unit, (Series(np.repeat(edges, 2), steps, joined=True),))


def thinned(image: NDArray[Any]) -> NDArray[Any]:
    """Return every n-th pixel of an image : (y, x), both ways, so that few enough are left."""
    step = -(-max(image.shape) // SAMPLED)
    return image[::step, ::step]


def drawn(title: str, panels: Sequence[Panel], words: Sequence[tuple[str, bool]]) -> bytes:
    """Return a figure as PNG: panels side by side, then lines of `words`, in red where their second is true."""
    size = (len(panels) * PANEL[0] + WORDS, max(TOP + PANEL[1], TOP + 20 * (len(words) + 2)))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((20, 12), title, font=LARGE, fill=INK)
    for number, panel in enumerate(panels):
        left = number * PANEL[0]
        pen.text((left + FRAME[0], TOP + 14), panel.title, font=SMALL, fill=INK)
        frame = (left + FRAME[0], TOP + FRAME[1], left + FRAME[2], TOP + FRAME[3])
        if isinstance(panel, Picture):
            _put_picture(sheet, pen, frame, panel)
        else:
            _put_chart(pen, frame, panel)
    for line, (text, is_bad) in enumerate(words):
        pen.text(
            (len(panels) * PANEL[0] + 20, TOP + FRAME[1] + 20 * line), text, font=SMALL, fill=RED if is_bad else INK
        )
    png = BytesIO()
    sheet.save(png, "PNG", compress_level=COMPRESSION)
    return png.getvalue()


def _put_picture(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, frame: tuple[int, int, int, int], panel: Picture
) -> None:
    sample = thinned(panel.pixels).astype(np.float64)
    finite = sample[np.isfinite(sample)]
    low, high = np.percentile(finite, CONTRAST) if finite.size else (0.0, 1.0)
    grey = np.nan_to_num((sample - low) / ((high - low) or 1.0)).clip(0, 1) * 255
    image = Image.fromarray(grey[::-1].astype(np.uint8))
    left, top, right, bottom = frame
    scale = min((right - left) / image.width, (bottom - top) / image.height)
    image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    sheet.paste(image, (left, top))
    height, width = panel.pixels.shape
    pen.text((left, bottom + 6), f"{width} x {height}, black {low:.5g}, white {high:.5g}", font=SMALL, fill=INK)


def _put_chart(pen: ImageDraw.ImageDraw, frame: tuple[int, int, int, int], chart: Chart) -> None:
    left, top, right, bottom = frame
    x_low, x_high = _range([series.x for series in chart.series])
    y_low, y_high = _range([series.y for series in chart.series])
    across, up = (right - left) / (x_high - x_low), (bottom - top) / (y_high - y_low)
    for value in _ticks(x_low, x_high):
        x = left + (value - x_low) * across
        pen.line((x, top, x, bottom), fill=GREY)
        pen.text((x, bottom + 5), f"{value:g}", font=SMALL, fill=INK, anchor="ma")
    for value in _ticks(y_low, y_high):
        y = bottom - (value - y_low) * up
        pen.line((left, y, right, y), fill=GREY)
        pen.text((left - 5, y), f"{value:g}", font=SMALL, fill=INK, anchor="rm")
    pen.rectangle(frame, outline=INK)
    pen.text(((left + right) / 2, bottom + 22), chart.along, font=SMALL, fill=INK, anchor="ma")
    for series in chart.series:
        known = np.isfinite(series.x) & np.isfinite(series.y)
        xs = left + (series.x[known] - x_low) * across
        ys = bottom - (series.y[known] - y_low) * up
        _put_series(pen, list(zip(xs.tolist(), ys.tolist(), strict=True)), joined=series.joined)


def _put_series(pen: ImageDraw.ImageDraw, places: list[tuple[float, float]], *, joined: bool) -> None:
    if joined:
        pen.line(places, fill=BLUE, width=2)
        return
    for x, y in places:
        pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=ORANGE)


def _range(arrays: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return from where to where an axis goes: a little beyond its values."""
    values = np.concatenate([[], *arrays])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> Iterator[float]:
    """Give round numbers from `low` to `high`."""
    rough = (high - low) / TICKS
    ten = 10.0 ** math.floor(math.log10(rough))
    step = min(ten * factor for factor in (1, 2, 5, 10) if ten * factor >= rough * (1 - 1e-9))
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        # Not 0.30000000000000004.
        yield float(f"{number * step:.12g}")
