"""Pictures of products: all chips of an image as a focal plane, measured values against time."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from dpu.errors import NothingSelected, UsageError
from dpu.lab import opened
from dpu.products import frames_of, made
from dpu.values import from_map
from dpu_recipes import instruments
from dpu_recipes.instrument import Place

try:
    from astropy.visualization import ZScaleInterval
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise UsageError("matplotlib is not installed here: pip install 'dpu[plot]'") from error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from dpu.link import Link
    from dpu_api.v1.archive_pb2 import Frame

#: Inches of a picture of one chip, with its title.
WIDTH, HEIGHT = 2.4, 3.2
#: Pixels of a picture of one chip, at most, along each side: more are not seen.
MOST_PIXELS = 512
#: What is drawn of a class that is only measured, with its unit.
MEASURED = {"ReadNoise": ("READNOISE", "ADU"), "GainLinearity": ("GAIN", "e-/ADU")}
#: What a fit of the gain is drawn from, and places of its curve.
TRANSFER = {"GAIN", "GAIN_ERROR", "QUADRATIC", "SIGNALS", "VARIANCES"}
STEPS = 100


def plot(link: Link, job_id: int) -> Figure:
    """Return the picture of what a job has made. Raises NothingSelected where there is nothing to see."""
    frames = made(link, job_id)
    images = [frame for frame in frames if frame.size]
    if images:
        return focal_plane(images, [_pixels(hdus) for hdus in opened(link, images)])
    for frame in frames:
        if frame.frame_class in MEASURED:
            history = frames_of(link, frame_class=frame.frame_class)
            fitted = any(set(from_map(each.values)) >= TRANSFER for each in frames)
            return gain_fits(frames, history) if fitted else against_time(frames, history)
    raise NothingSelected(
        f"job {job_id} has made nothing that can be drawn so far: what stands already is not made again"
    )


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and return its path. Raises UsageError where it cannot be written."""
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    return path


def focal_plane(frames: Sequence[Frame], pixels: Sequence[Any]) -> Figure:
    """Return all chips where they are in the camera and as they are turned there, each with its own zscale.

    pixels : of each frame (y, x), thinned out to what is seen.
    """
    places = places_of(frames[0].instrument, [frame.chip for frame in frames])
    # Chips begin and end between columns and rows of a grid, whatever their sizes and wherever they lie.
    across = sorted({edge for place in places.values() for edge in (place.x, place.x + place.width)})
    down = sorted({edge for place in places.values() for edge in (place.y, place.y + place.height)}, reverse=True)
    # A chip that is turned is as large as the others.
    short, long = (side(place.width, place.height) for place in list(places.values())[:1] for side in (min, max))
    figure = _figure(WIDTH * (across[-1] - across[0]) / short + 0.6, HEIGHT * (down[0] - down[-1]) / long + 0.8)
    widths, heights = ([abs(last - first) for first, last in pairwise(edges)] for edges in (across, down))
    grid = figure.add_gridspec(len(heights), len(widths), width_ratios=widths, height_ratios=heights)
    for frame, image in zip(frames, pixels, strict=True):
        place = places[frame.chip]
        rows = slice(down.index(place.y + place.height), down.index(place.y))
        columns = slice(across.index(place.x), across.index(place.x + place.width))
        axes = figure.add_subplot(grid[rows, columns])
        axes.set_axis_off()
        _draw(axes, frame, _turned(image, place.rotation))
    first = frames[0]
    figure.suptitle(" ".join(filter(None, (first.frame_class, first.instrument, first.filter, first.night))))
    return figure


def against_time(frames: Sequence[Frame], history: Sequence[Frame]) -> Figure:
    """Return what a class measures against the date of its exposures, a line a chip, with those of `frames` marked."""
    figure = _figure(8, 4.5)
    _put_against_time(figure.subplots(), frames, history)
    figure.autofmt_xdate()
    return figure


def gain_fits(frames: Sequence[Frame], history: Sequence[Frame]) -> Figure:
    """Return the variance of flats against their signal, a line a chip as it was fitted, and the gain against time."""
    figure = _figure(13, 4.5)
    axes, later = figure.subplots(1, 2)
    for frame in frames:
        values: Mapping[str, Any] = from_map(frame.values)
        if set(values) >= TRANSFER:
            top = max(values["SIGNALS"])
            along = [top * step / STEPS for step in range(STEPS + 1)]
            (line,) = axes.plot(along, [s * (1 / values["GAIN"] + values["QUADRATIC"] * s) for s in along])
            label = f"{frame.chip}: {values['GAIN']:.3f} +- {values['GAIN_ERROR']:.3f} e-/ADU"
            axes.plot(values["SIGNALS"], values["VARIANCES"], "o", color=line.get_color(), label=label)
    axes.set_xlabel("signal of a pair of flats (ADU)")
    axes.set_ylabel("variance of their difference (ADU$^2$)")
    axes.set_title("Photon transfer")
    axes.legend(fontsize="small")
    _put_against_time(later, frames, history)
    later.tick_params(axis="x", labelrotation=30)
    return figure


def _put_against_time(axes: Axes, frames: Sequence[Frame], history: Sequence[Frame]) -> None:
    name, unit = MEASURED[frames[0].frame_class]
    ours = {frame.id for frame in frames}
    same = [frame for frame in history if frame.instrument == frames[0].instrument and frame.id not in ours]
    for chip in sorted({frame.chip for frame in frames}):
        points = sorted((frame for frame in [*same, *frames] if frame.chip == chip), key=_date)
        mine = [frame for frame in points if frame.id in ours]
        axes.plot(*_series(points, name), marker=".", label=chip)
        axes.plot(*_series(mine, name), "o", color="black", markerfacecolor="none")
    axes.set_xlabel("DATE-OBS")
    axes.set_ylabel(f"{name} ({unit})")
    axes.set_title(f"{frames[0].frame_class} {frames[0].instrument}")
    axes.legend(fontsize="small")


def places_of(instrument: str, chips: Sequence[str]) -> Mapping[str, Place]:
    """Return where chips are: as the instrument's description says, or side by side where there is none."""
    known = instruments.load()
    if instrument in known:
        layout = {chip.name: known[instrument].place(chip) for chip in known[instrument].chips}
        if all(chip in layout for chip in chips):
            return {chip: layout[chip] for chip in chips}
    width = ceil(sqrt(len(chips)))
    return {chip: Place(x=number % width, y=number // width, width=1, height=1) for number, chip in enumerate(chips)}


def _figure(width: float, height: float) -> Figure:
    """Return a figure that belongs to nobody's window: pyplot's state is the user's."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _turned(image: Any, rotation: int) -> Any:
    """Return an image (y, x) turned by degrees, counter-clockwise as seen with its first row at the bottom."""
    return {0: image, 90: image.T[:, ::-1], 180: image[::-1, ::-1], 270: image.T[::-1]}[rotation]


def _draw(axes: Axes, frame: Frame, image: Any) -> None:
    low, high = ZScaleInterval().get_limits(image)
    axes.imshow(image, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    flagged = f" (quality_flags {frame.quality_flags})" if frame.quality_flags else ""
    axes.set_title(f"{frame.chip}{flagged}\n{low:.4g} ... {high:.4g}", fontsize="small")


def _pixels(hdus: Any) -> Any:
    """Return the first image of a file as (y, x), every n-th pixel of it, and close the file."""
    with hdus:
        data = next((hdu.data for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2), None)  # noqa: PLR2004 (an image)
        if data is None:
            raise NothingSelected(f"{hdus.filename()!r} holds no image")
        step = ceil(max(data.shape) / MOST_PIXELS)
        return data[::step, ::step].astype("float32")


def _series(frames: Sequence[Frame], name: str) -> tuple[Any, list[float]]:
    """Return dates and values."""
    return [_date(frame) for frame in frames], [_value(frame, name) for frame in frames]


def _date(frame: Frame) -> datetime:
    return frame.date_obs.ToDatetime(tzinfo=UTC)


def _value(frame: Frame, name: str) -> float:
    value = from_map(frame.values).get(name)
    return float(value) if isinstance(value, int | float) else float("nan")
