"""The flag plane of a frame: why a pixel is not to be used."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Flag(IntFlag):
    """What is wrong with a pixel; several may be at once. 0: nothing."""

    NODATA = 1  # outside of the detector, or not a number
    HOT = 2  # far above the bias level without light
    COLD = 4  # far off the flat field's response
    SATURATED = 8  # at the end of the converter's or the well's range
    BLEED = 16  # charge that ran out of a saturated neighbour
    COSMIC = 32  # hit by a cosmic ray
    SATELLITE = 64  # under the track of a satellite or an aeroplane


def good(plane: npt.NDArray[Any], ignore: int = 0) -> npt.NDArray[np.uint8]:
    """Return the bad-pixel map of a flag plane: 1 good, 0 bad, bits of Flag in `ignore` left out.

    Parameters
    ----------
    plane : (y, x) unsigned integer
        Bits of Flag.
    """
    import numpy as np

    bad = plane & plane.dtype.type(~ignore & _ALL)
    found: npt.NDArray[np.uint8] = (bad == 0).astype(np.uint8)
    return found


def flagged(good_map: npt.NDArray[Any], flag: Flag) -> npt.NDArray[np.uint8]:
    """Return the flag plane of a bad-pixel map (1 good, 0 bad): `flag` where it is bad."""
    import numpy as np

    return np.where(good_map == 0, np.uint8(flag), np.uint8(0))


def names(value: int) -> tuple[str, ...]:
    """Return the names of the bits that are set in one pixel: ('HOT', 'COSMIC')."""
    return tuple(str(flag.name) for flag in Flag if value & flag)


_ALL = sum(Flag)
