"""File names of products, as Astro-WISE writes them.

    Cal-JDOE-WFI-------#842-ccd50-Flat---Dom-51662.9180903-3f2a....fits
    |   |    |          |    |     |      |   |             `-- identifier of the product
    |   |    |          |    |     |      |   `-- MJD of the start of its first input
    |   |    |          |    |     |      `-- what it was made from
    |   |    |          |    |     `-- what it is
    |   |    |          |    `-- chip
    |   |    |          `-- filter (nothing between the dashes: none)
    |   |    `-- instrument
    |   `-- user, in capitals
    `-- Cal: a calibration; Sci: science

A product that is only values has the same name without '.fits'; the figure of one ends in '.png'.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dpu_recipes.frames import QUALITY_FIGURE

if TYPE_CHECKING:
    from dpu_recipes.frames import Frame

_MJD_ZERO = datetime(1858, 11, 17, tzinfo=UTC)
_DAY_S = 86_400.0

#: Of each product class: calibration or science, what it is, what it was made from.
FIELDS: dict[str, tuple[str, str, str]] = {
    "ReadNoise": ("Cal", "Read", "Bia"),
    "BiasFrame": ("Cal", "Bias", "Bia"),
    "HotPixelMap": ("Cal", "Hot", "Bia"),
    "GainLinearity": ("Cal", "Gain", "Dom"),
    "DomeFlatFrame": ("Cal", "Flat", "Dom"),
    "TwilightFlatFrame": ("Cal", "Flat", "Twi"),
    "NightSkyFlatFrame": ("Cal", "Flat", "Sky"),
    "MasterFlatFrame": ("Cal", "Flat", "Mas"),
    "ColdPixelMap": ("Cal", "Cold", "Dom"),
    "QuickCheckFrame": ("Cal", "Quick", "Dom"),
    "FringeFrame": ("Cal", "Fringe", "Sky"),
    "PhotSrcCatalog": ("Cal", "Phot", "Std"),
    "PhotometricParameters": ("Cal", "Zero", "Std"),
    "ReducedScienceFrame": ("Sci", "Red", "Sci"),
    "WeightFrame": ("Sci", "Weight", "Sci"),
    "AstrometricParameters": ("Sci", "Ast", "Sci"),
    "RegriddedFrame": ("Sci", "Reg", "Sci"),
    "CoaddedRegriddedFrame": ("Sci", "Coadd", "Sci"),
}


def mjd(time: datetime) -> float:
    """Return the Modified Julian Date of a UTC time."""
    return (time - _MJD_ZERO).total_seconds() / _DAY_S


def product_name(frame: Frame, user: str, identifier: str) -> str:
    """Return the file name of a product; a class that is not in FIELDS is called by its own name, of science."""
    of = str(frame.values.get("OF", "")) if frame.frame_class == QUALITY_FIGURE else frame.frame_class
    kind, what, origin = FIELDS.get(of, ("Sci", of, "Sci"))
    owner, instrument, filter_, chip = map(_safe, (user.upper(), frame.instrument, frame.filter, frame.chip))
    name = f"{kind}-{owner}-{instrument}-------{filter_}-{chip}-{_safe(what)}---{origin}"
    ending = "" if not frame.digest else ".png" if frame.frame_class == QUALITY_FIGURE else ".fits"
    return f"{name}-{mjd(frame.date_obs):.7f}-{identifier}{ending}"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.#+]", "_", text)
