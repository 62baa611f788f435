"""What a frame looks like: a small grey picture of its image."""

from __future__ import annotations

from typing import NamedTuple

#: Pixels of the longer side, at most: more are not seen, and it has to fit into one message.
MOST_PIXELS = 1024


class Picture(NamedTuple):
    """A picture, and what its greys mean."""

    png: bytes
    #: In units of the image.
    black: float
    white: float
    #: Pixels of the picture, and how many of the image's along a side are one of them.
    width: int
    height: int
    binning: int
