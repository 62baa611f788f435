"""Pictures and headers of frames, for whoever looks at them without fetching their files."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from dpu.errors import BadFrame, BadOption, NotFound
from dpud.archive.picture import MOST_PIXELS
from dpud.archive.reception import lent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpu_recipes.frames import Frame
    from dpud.archive.picture import Picture
    from dpud.archive.reception import Reception
    from dpud.archive.splitter import Splitter
    from dpud.archive.tiers import Tiers

#: How many bytes of pictures are remembered.
REMEMBERED = 32 << 20
_CARD, _BLOCK = 80, 2880
#: More than any header has: what has no end is none.
_MOST_BLOCKS = 2_000


@dataclass(frozen=True, slots=True)
class Pictures:
    """Draws frames, one at a time, so that those that come in are not kept waiting; remembers the last pictures."""

    tiers: Tiers
    splitter: Splitter
    reception: Reception
    _drawn: OrderedDict[tuple[str, int], Picture] = field(default_factory=OrderedDict)
    _drawing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def draw(self, frame: Frame, size: int) -> Picture:
        """Return the picture of a frame, `size` pixels along its longer side; 0: the most.

        Raises BadOption where that is too many, NotFound where there is no image.
        """
        if not 0 <= size <= MOST_PIXELS:
            raise BadOption(f"a picture of {size} pixels: there are 1 to {MOST_PIXELS} along its longer side")
        _check_file(frame)
        key = (frame.digest, size or MOST_PIXELS)
        async with self._drawing:
            if key not in self._drawn:
                self._drawn[key] = await self._draw(frame, key[1])
            self._drawn.move_to_end(key)
            while sum(len(picture.png) for picture in self._drawn.values()) > REMEMBERED:
                self._drawn.popitem(last=False)
            return self._drawn[key]

    async def header(self, frame: Frame) -> list[str]:
        """Return the cards of a frame's header as they are written, without END. Raises NotFound."""
        _check_file(frame)
        async with self.tiers.reading(frame.digest) as reading:
            return await asyncio.to_thread(lambda: list(_cards(frame, reading)))

    async def _draw(self, frame: Frame, size: int) -> Picture:
        async with self.tiers.reading(frame.digest), self.reception.room() as room:
            file = await lent(self.tiers.holdings.store, frame.digest, room / "frame")
            try:
                return await self.splitter.draw(file, frame.file_name, size)
            except BadFrame as error:
                raise NotFound(error.message) from error


def _check_file(frame: Frame) -> None:
    if not frame.digest:
        raise NotFound(f"{frame.frame_class} {frame.file_name} has no file: it is only measured values")


def _cards(frame: Frame, reading: BinaryIO) -> Iterator[str]:
    for _ in range(_MOST_BLOCKS):
        block = reading.read(_BLOCK).decode("ascii", "replace")
        for start in range(0, len(block), _CARD):
            card = block[start : start + _CARD].rstrip()
            if card == "END":
                return
            yield card
        if len(block) < _BLOCK:
            break
    raise NotFound(f"{frame.file_name} has no FITS header that ends")
