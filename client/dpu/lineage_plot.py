"""A lineage as a picture: generations from left to right, a line from each frame to what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dpu.errors import UsageError

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise UsageError("matplotlib is not installed here: pip install 'dpu[plot]'") from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpu.pedigree import Pedigree

#: Frames of one class and generation are one box, so that a hundred raw frames stay a picture.
MOST_NAMED = 3


def draw(pedigree: Pedigree, file: str | Path) -> Path:
    """Write the picture as PNG and return its path. Raises UsageError where it cannot be written."""
    boxes = generations(pedigree)
    columns = max(column for column, _ in boxes) + 1
    rows = max(sum(1 for column, _ in boxes if column == number) for number in range(columns))
    figure = Figure(figsize=(3.6 * columns, 1.2 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_axis_off()
    places = _places(boxes, columns, to_right=pedigree.progeny)
    owner = {name: key for key, names in boxes.items() for name in names}
    arrows = {(owner[near], owner[far]) for near, names in pedigree.branches.items() for far in names}
    for near, far in sorted(arrows):
        source, result = (near, far) if pedigree.progeny else (far, near)
        axes.annotate("", places[result], places[source], arrowprops={"arrowstyle": "->", "color": "gray"})
    for key, place in places.items():
        text = _text(pedigree, boxes[key])
        axes.text(*place, text, ha="center", va="center", fontsize="small", bbox={"boxstyle": "round", "fc": "white"})
    axes.set_xlim(-0.1, 1.1)
    axes.set_ylim(-0.1, 1.1)
    path = Path(file).expanduser()
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}") from error
    return path


def generations(pedigree: Pedigree) -> dict[tuple[int, str], list[str]]:
    """Return the frames by how far they are from the product, at most, and by class."""
    far = {pedigree.product.id: 0}
    waiting = [pedigree.product.id]
    while waiting:
        near = waiting.pop()
        for name in pedigree.branches.get(near, ()):
            if far.get(name, -1) < far[near] + 1:
                far[name] = far[near] + 1
                waiting.append(name)
    boxes: dict[tuple[int, str], list[str]] = {}
    for name, column in far.items():
        frame = pedigree.frames.get(name)
        boxes.setdefault((column, frame.frame_class if frame else ""), []).append(name)
    return boxes


def _places(
    boxes: Mapping[tuple[int, str], list[str]], columns: int, *, to_right: bool
) -> dict[tuple[int, str], tuple[float, float]]:
    """Return where boxes are, from 0 to 1: what something was made from always at its left."""
    places = {}
    for column in range(columns):
        keys = sorted(key for key in boxes if key[0] == column)
        for row, key in enumerate(keys):
            along = column / max(columns - 1, 1)
            places[key] = along if to_right else 1 - along, 1 - (row + 0.5) / len(keys)
    return places


def _text(pedigree: Pedigree, names: list[str]) -> str:
    frames = [pedigree.frames[name] for name in names if name in pedigree.frames]
    if not frames:
        return f"{len(names)} gone, or not yours to see"
    shown = [f"{frame.chip} {frame.filter} {frame.date_obs:%F %T}".replace("  ", " ") for frame in frames[:MOST_NAMED]]
    more = [f"and {len(frames) - MOST_NAMED} more"] if len(frames) > MOST_NAMED else []
    return "\n".join([frames[0].frame_class, *shown, *more])
