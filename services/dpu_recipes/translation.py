"""What an instrument makes of a header: the record of one CCD of a raw exposure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from dpu_recipes import header as headers
from dpu_recipes import units
from dpu_recipes.frames import Frame, Strips
from dpu_recipes.header import HeaderError
from dpu_recipes.night import night_of

if TYPE_CHECKING:
    from datetime import datetime

    from dpu_recipes.frames import Plain
    from dpu_recipes.header import Header
    from dpu_recipes.instrument import Chip, Instrument

#: What a clock and its rounding may be off between DATE-OBS and the MJD beside it.
_MJD_TOLERANCE_S: Final = 60.0
#: A shutter that stayed shut has no exposure time; some controllers count the delay of their own electronics.
_LONGEST_BIAS_S: Final = 1.0

_DARK_CLASSES: Final = ("RawBiasFrame", "RawDarkFrame")


def translate(instrument: Instrument, header: Header, shape: tuple[int, int]) -> Frame:
    """Return the record of a raw (y, x) image of `shape` by its header; what depends on its file is left empty.

    `header` is the exposure's, with the extension's values where both have one. Raises HeaderError, or BadImage
    where the strips leave no data.
    """
    chip = _chip(instrument, header)
    binning = _binning(instrument, header)
    strips = _strips(instrument, header, shape, binning)
    size = _size(instrument, header, strips, shape, binning)
    date_obs = _date_obs(instrument, header)
    exptime = _exptime(instrument, header)
    frame_class = _frame_class(instrument, header, exptime)
    longitude = _longitude(instrument, header)
    return Frame(
        frame_class=frame_class,
        instrument=instrument.name,
        chip=chip.name,
        filter=headers.text(header, instrument.keys["filter"]),
        object=headers.text(header, instrument.keys["object"]),
        night=night_of(date_obs, longitude),
        date_obs=date_obs,
        exptime=exptime,
        readout=_readout(instrument, header, binning, size),
        values={
            "BINX": binning[0],
            "BINY": binning[1],
            **strips.to_values(),
            **_detector(instrument, header, chip),
            **_sky(instrument, header),
            "LONGITUD": longitude,
        },
    )


def translate_reduced(instrument: Instrument, header: Header) -> Frame:
    """Return the record of an image that was reduced elsewhere by its header; what depends on its file is left empty.

    Its strips are gone, and with them what its size would say. Raises HeaderError.
    """
    chip = _chip(instrument, header)
    date_obs = _date_obs(instrument, header)
    binning = _binning(instrument, header)
    longitude = _longitude(instrument, header)
    return Frame(
        frame_class="ReducedScienceFrame",
        instrument=instrument.name,
        chip=chip.name,
        filter=headers.text(header, instrument.keys["filter"]),
        object=headers.text(header, instrument.keys["object"]),
        night=night_of(date_obs, longitude),
        date_obs=date_obs,
        exptime=_exptime(instrument, header),
        values={
            "BINX": binning[0],
            "BINY": binning[1],
            **_detector(instrument, header, chip),
            **_sky(instrument, header),
            "LONGITUD": longitude,
        },
    )


def _chip(instrument: Instrument, header: Header) -> Chip:
    if len(instrument.chips) == 1:
        return instrument.chips[0]
    said = {key: headers.text(header, [key]) for key in instrument.keys["chip"]}
    for text in filter(None, said.values()):
        for chip in instrument.chips:
            if chip.is_named(text):
                return chip
    found = ", ".join(f"{key}={text!r}" for key, text in said.items())
    names = instrument.chip_names()
    raise HeaderError(f"{found} names no chip of {instrument.name} ({names[0]} ... {names[-1]})")


def _date_obs(instrument: Instrument, header: Header) -> datetime:
    """Return the start of the exposure: by its date, or where there is none by its Julian Date."""
    key, mjd = headers.find(header, instrument.keys["mjd"])
    other = None if mjd is None else headers.from_julian(key, headers.number(header, instrument.keys["mjd"]))
    if other is not None and headers.find(header, instrument.keys["date_obs"])[1] is None:
        return other
    found = headers.moment(header, instrument.keys["date_obs"], instrument.keys["time_obs"])
    if other is not None and abs((other - found).total_seconds()) > _MJD_TOLERANCE_S:
        raise HeaderError(f"contradicts itself: the exposure began {found:%FT%T}, but {key}={mjd} is {other:%FT%T}")
    return found


def _longitude(instrument: Instrument, header: Header) -> float:
    """Return where the telescope is, degrees to the east: an instrument may be at several."""
    found = headers.angle(header, instrument.keys["longitude"])
    return instrument.longitude_deg if found is None else found


def _exptime(instrument: Instrument, header: Header) -> float:
    found = units.seconds(header, instrument.keys["exptime"], instrument.units["exptime"])
    if found < 0:
        raise HeaderError(f"has a negative exposure time of {found:g} s")
    return found


def _frame_class(instrument: Instrument, header: Header, exptime: float) -> str:
    for rule in instrument.types:
        if all(headers.fits(_said(instrument, header, key), pattern) for key, pattern in rule.when.items()):
            _check_exptime(rule.frame_class, exptime)
            return rule.frame_class
    asked = sorted({key for rule in instrument.types for key in rule.when})
    said = ", ".join(f"{key}={_said(instrument, header, key)!r}" for key in asked)
    raise HeaderError(f"fits no type rule of {instrument.source}: {said}")


def _said(instrument: Instrument, header: Header, key: str) -> Any:
    return headers.find(header, instrument.keys.get(key, (key,)))[1]


def _check_exptime(frame_class: str, exptime: float) -> None:
    if frame_class == "RawBiasFrame" and exptime > _LONGEST_BIAS_S:
        raise HeaderError(f"contradicts itself: a bias of {exptime:g} s")
    if frame_class not in _DARK_CLASSES and exptime == 0:
        raise HeaderError(f"contradicts itself: a {frame_class} of 0 s")


def _binning(instrument: Instrument, header: Header) -> tuple[int, int]:
    if found := headers.pair(header, instrument.keys["binning"]):
        x, y = found
    else:
        # Some headers give the step of a coordinate, which may run backwards.
        x = abs(headers.whole(header, instrument.keys["binning_x"], 1))
        y = abs(headers.whole(header, instrument.keys["binning_y"], 1))
    if x < 1 or y < 1:
        raise HeaderError(f"has a binning of {x} x {y}")
    return x, y


def _strips(instrument: Instrument, header: Header, shape: tuple[int, int], binning: tuple[int, int]) -> Strips:
    """Return the widths in pixels of the frame: from its header where it says them, else from the TOML."""
    known = instrument.strips.binned(*binning)
    key, section = headers.find(header, instrument.keys["trim_section"])
    if section is not None:
        return _around(key, section, shape, known.skip)
    widths = {
        name: headers.whole(header, instrument.keys[name], getattr(known, name))
        for name in ("prescan_x", "overscan_x", "prescan_y", "overscan_y")
    }
    if min(widths.values()) < 0:
        raise HeaderError(f"has a strip of negative width: {widths}")
    return Strips(**widths, skip=known.skip)


def _around(key: str, section: Any, shape: tuple[int, int], skip: int) -> Strips:
    """Return what lies around the data that a header names."""
    left, right, bottom, top = _section(key, section)
    height, width = shape
    if not (1 <= left <= right <= width and 1 <= bottom <= top <= height):
        raise HeaderError(f"contradicts itself: {key}={section!r} is no part of {width} x {height} pixels")
    return Strips(
        prescan_x=left - 1, overscan_x=width - right, prescan_y=bottom - 1, overscan_y=height - top, skip=skip
    )


def _size(
    instrument: Instrument, header: Header, strips: Strips, shape: tuple[int, int], binning: tuple[int, int]
) -> tuple[int, int]:
    """Return the size (x, y) of the data. Raises HeaderError where the chip is smaller or DATASEC says otherwise."""
    height, width = strips.size(shape)
    most_x, most_y = (-(-unbinned // step) for unbinned, step in zip(instrument.full_size(), binning, strict=True))
    if shape[1] > most_x or shape[0] > most_y:
        raise HeaderError(
            f"has {shape[1]} x {shape[0]} pixels, more than a chip of {instrument.name} "
            f"binned {binning[0]} x {binning[1]} ({most_x} x {most_y})"
        )
    key, section = headers.find(header, instrument.keys["data_section"])
    if section is not None and _section_size(key, section) != (width, height):
        raise HeaderError(f"contradicts itself: {key}={section!r}, but the strips leave {width} x {height} pixels")
    return width, height


def _section_size(key: str, section: Any) -> tuple[int, int]:
    left, right, bottom, top = _section(key, section)
    return right - left + 1, top - bottom + 1


def _section(key: str, section: Any) -> tuple[int, int, int, int]:
    """Return first and last column and row, counted from 1. Raises HeaderError."""
    found = re.fullmatch(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]", str(section))
    if not found:
        raise HeaderError(f"{key}={section!r} is no section such as '[1:1024,1:1024]'")
    left, right, bottom, top = map(int, found.groups())
    return left, right, bottom, top


def _readout(instrument: Instrument, header: Header, binning: tuple[int, int], size: tuple[int, int]) -> str:
    modes = [(key.split()[-1], headers.text(header, [key])) for key in instrument.modes]
    said = [f"{name}={value}" for name, value in modes if value]
    return " ".join([f"{binning[0]}x{binning[1]}", f"{size[0]}x{size[1]}", *said])


def _detector(instrument: Instrument, header: Header, chip: Chip) -> dict[str, Plain]:
    """Return gain (e-/ADU), read noise (ADU) and saturation (ADU): a header's positive number, else the TOML's."""
    keys, said = instrument.keys, instrument.units
    gain = units.gain(header, keys["gain"], said["gain"], chip.gain)

    def counts(name: str, default: float) -> float:
        return units.counts(header, keys[name], name, said[name], default=default, gain=gain)

    return {
        "GAIN": gain,
        "RDNOISE": counts("read_noise", chip.read_noise),
        "SATURATE": counts("saturation", chip.saturation),
    }


def _sky(instrument: Instrument, header: Header) -> dict[str, Plain]:
    keys = instrument.keys
    found: dict[str, Plain] = {
        "RA": headers.angle(header, keys["ra"], hours=True),
        "DEC": headers.angle(header, keys["dec"]),
        "AIRMASS": headers.angle(header, keys["airmass"]),
        "TPLSTART": headers.text(header, keys["template_start"]) or None,
    }
    return {name: value for name, value in found.items() if value is not None}
