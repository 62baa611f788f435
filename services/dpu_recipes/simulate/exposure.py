"""One exposure of the whole mosaic: what the telescope was told to do, and what the sky did."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING, Self

from dpu_recipes.frames import EPOCH

if TYPE_CHECKING:
    from datetime import datetime

#: From the shutter's closing to the last row, seconds: cosmic rays go on, light does not.
READ_OUT = 27.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One exposure of the whole mosaic."""

    #: 'RawBiasFrame', 'RawDomeFlatFrame'
    frame_class: str
    #: Start, UTC.
    date_obs: datetime = EPOCH
    #: Seconds.
    exptime: float = 0.0
    filter: str = ""
    object: str = ""
    #: Mean of the light, ADU: of the dome's lamp, else of the sky.
    light: float = 0.0
    #: Rms of the fringes, part of `light`.
    fringes: float = 0.0
    #: Amplitude of the rows' unequal light, of which each frame has its own phase.
    flicker: float = 0.0
    #: Of the sky against that of the night's first exposure, pixels in y and x.
    dither: tuple[float, float] = (0.0, 0.0)
    #: Where the axis of the telescope points to, and where its header says so: right ascension, declination, degrees.
    pointing: tuple[float, float] = (0.0, 0.0)
    header_pointing: tuple[float, float] = (0.0, 0.0)
    #: Through how much air it looks.
    airmass: float = 1.0
    #: Of the read-out, by the first keyword in which the instrument has one; '' is its own.
    mode: str = ""

    @property
    def lamp(self) -> bool:
        """Return whether its light is that of the dome's lamp."""
        return self.frame_class == "RawDomeFlatFrame"

    @property
    def science(self) -> bool:
        """Return whether it looks at the night's field."""
        return self.frame_class == "RawScienceFrame"

    @property
    def standard(self) -> bool:
        """Return whether it looks at standard stars."""
        return self.frame_class == "RawStandardFrame"

    def at(self, date_obs: datetime) -> Self:
        """Return the same exposure at another time."""
        return replace(self, date_obs=date_obs)

    def started(self) -> str:
        """Return its start as headers and file names have it: '2000-04-28T19:42:56.000'."""
        return self.date_obs.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
