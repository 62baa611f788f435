"""What a frame was made from and what was made from it, as a picture: generations from left to right."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

from dpud.web.products import frame_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dpu_api.v1.archive_pb2 import Frame, Link

#: A box: its width, the height of a line, what is around its lines; between two boxes.
WIDTH, LINE, PAD, ACROSS, DOWN = 216, 18, 8, 56, 16
#: So many letters fit into a line.
LETTERS = 30
#: Frames of one class and generation are one box, so that a hundred raw frames stay a picture.
MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """A frame in a box; without a path it is the one whose lineage this is."""

    words: str
    path: str


@dataclass(frozen=True, slots=True)
class Box:
    """Frames of one class, equally far from the one whose lineage this is."""

    title: str
    entries: tuple[Entry, ...]
    more: int
    x: int
    y: int
    is_here: bool

    @property
    def height(self) -> int:
        """How high it is."""
        return _height(len(self.entries), self.more)

    @property
    def lines(self) -> list[tuple[int, Entry]]:
        """Each entry with the place of its line."""
        return [(self.y + PAD + LINE * (number + 2) - 5, entry) for number, entry in enumerate(self.entries)]


@dataclass(frozen=True, slots=True)
class Picture:
    """The lineage."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    #: Curves of what became of what.
    curves: tuple[str, ...]


#: How far from the frame, to the left below zero; and which class.
Place = tuple[int, str]


def picture(here: Frame, sources: Traced, results: Traced) -> Picture | None:
    """Return the picture; None where a frame is all there is."""
    frames = {frame.id: frame for frame in (here, *sources.frames, *results.frames)}
    far = {identifier: -steps for identifier, steps in _far(here.id, sources.next()).items()}
    far |= _far(here.id, results.next())
    if len(far) == 1:
        return None
    members: dict[Place, list[str]] = {}
    for identifier, steps in far.items():
        found = frames.get(identifier)
        members.setdefault((steps, found.frame_class if found else ""), []).append(identifier)
    boxes = _boxes(members, frames, here.id)
    of = {identifier: place for place, found in members.items() for identifier in found}
    pairs = {(of[link.input], of[link.product]) for link in (*sources.links, *results.links)}
    return Picture(
        width=max(box.x for box in boxes.values()) + WIDTH + 1,
        height=max(box.y + box.height for box in boxes.values()) + 1,
        boxes=tuple(boxes.values()),
        curves=tuple(_curve(boxes[near], boxes[after]) for near, after in sorted(pairs) if near != after),
    )


@dataclass(frozen=True, slots=True)
class Traced:
    """What the archive tells of one direction."""

    frames: Sequence[Frame]
    links: Sequence[Link]
    is_progeny: bool

    def next(self) -> Mapping[str, list[str]]:
        """Return the next generation of each frame."""
        found: dict[str, list[str]] = {}
        for link in self.links:
            near, after = (link.input, link.product) if self.is_progeny else (link.product, link.input)
            found.setdefault(near, []).append(after)
        return found


def _far(here: str, following: Mapping[str, list[str]]) -> dict[str, int]:
    """Return how many generations each frame is from one, at most."""
    far = {here: 0}
    waiting = [here]
    while waiting:
        near = waiting.pop()
        for name in following.get(near, ()):
            if far.get(name, -1) < far[near] + 1:
                far[name] = far[near] + 1
                waiting.append(name)
    return far


def _boxes(members: Mapping[Place, list[str]], frames: Mapping[str, Frame], here: str) -> dict[Place, Box]:
    first = min(steps for steps, _ in members)
    heights = {place: _height(min(len(found), MOST_NAMED), len(found) - MOST_NAMED) for place, found in members.items()}
    columns: dict[int, list[Place]] = {}
    for place in sorted(members):
        columns.setdefault(place[0], []).append(place)
    tallest = max(sum(heights[place] + DOWN for place in column) for column in columns.values())
    boxes = {}
    for steps, column in columns.items():
        y = (tallest - sum(heights[place] + DOWN for place in column)) // 2
        for place in column:
            found = members[place]
            boxes[place] = Box(
                title=place[1] or "not to be seen",
                entries=tuple(_entry(frames.get(each), here) for each in found[:MOST_NAMED]),
                more=max(0, len(found) - MOST_NAMED),
                x=(steps - first) * (WIDTH + ACROSS) + 1,
                y=y + 1,
                is_here=here in found,
            )
            y += heights[place] + DOWN
    return boxes


def _entry(frame: Frame | None, here: str) -> Entry:
    if frame is None:
        return Entry("gone, or not yours", "")
    # Raw frames of a night differ by their time.
    when = frame.night if frame.ref.job_id else f"{frame.date_obs.ToDatetime():%Y-%m-%d %H:%M}"
    words = shorten(" ".join(filter(None, (frame.chip, frame.filter, when))), LETTERS, placeholder=" ...")
    return Entry(words or frame.file_name[:LETTERS], "" if frame.id == here else frame_path(frame))


def _height(entries: int, more: int) -> int:
    return 2 * PAD + LINE * (1 + entries + (more > 0))


def _curve(near: Box, after: Box) -> str:
    """Return a curve from the right side of a box to the left side of another."""
    x, y = near.x + WIDTH, near.y + near.height // 2
    to_x, to_y = after.x, after.y + after.height // 2
    bend = max((to_x - x) // 2, ACROSS // 2)
    return f"M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"
