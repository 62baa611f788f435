"""Headers of simulated frames: the rules of an instrument's TOML, read backwards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from astropy.io import fits

from dpu_recipes import header as headers
from dpu_recipes.instrument import InstrumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpu_recipes.instrument import Chip, Instrument, TypeRule
    from dpu_recipes.simulate.detector import Layout
    from dpu_recipes.simulate.exposure import Exposure
    from dpu_recipes.simulate.optics import Optics

#: Modified Julian Date of the Unix epoch, and seconds a day.
_UNIX_MJD = 40587.0
_DAY = 86400.0


def of_exposure(instrument: Instrument, exposure: Exposure, extensions: int) -> fits.Header:
    """Return what the header of an exposure says of all its CCDs, which follow in `extensions`."""
    said = {
        "date_obs": exposure.started(),
        "mjd": round(_UNIX_MJD + exposure.date_obs.timestamp() / _DAY, 8),
        "exptime": exposure.exptime,
        "filter": exposure.filter,
        "object": exposure.object,
        "longitude": instrument.longitude_deg,
        "binning_x": 1,
        "binning_y": 1,
        "binning": "1 1",
        "extensions": extensions,
    }
    cards: dict[str, Any] = {"ORIGIN": "simulated", "TELESCOP": instrument.telescope, "OBJECT": exposure.object}
    if exposure.science or exposure.standard:
        said |= {"airmass": exposure.airmass, **dict(zip(("ra", "dec"), exposure.header_pointing, strict=True))}
    cards.update(_under_keys(instrument, said))
    if exposure.mode and instrument.modes:
        cards[instrument.modes[0]] = exposure.mode
    for key, pattern in instrument.recognise[0].items():
        cards[key] = example(pattern)
    rule = _rule(instrument, exposure.frame_class)
    for name, pattern in rule.when.items():
        key = instrument.keys[name][0] if name in instrument.keys else name
        if not headers.fits(cards.get(key), pattern):
            cards[key] = example(pattern)
    return _header(cards)


def of_chip(instrument: Instrument, chip: Chip, layout: Layout) -> fits.Header:
    """Return what the header of an exposure says of one of its CCDs.

    Gain and read noise are those of the TOML: a header does not know better.
    """
    strips = layout.strips
    said = {
        "chip": chip.name,
        "prescan_x": strips.prescan_x,
        "overscan_x": strips.overscan_x,
        "prescan_y": strips.prescan_y,
        "overscan_y": strips.overscan_y,
        "gain": chip.gain,
        "read_noise": chip.read_noise,
        "saturation": chip.saturation,
    }
    return _header({"EXTNAME": chip.name, **_under_keys(instrument, said)})


def of_sky(exposure: Exposure, optics: Optics, layout: Layout) -> fits.Header:
    """Return where a header believes that one of its CCDs looks: TAN, CRPIX of the raw frame, counted from 1."""
    ra, dec = exposure.header_pointing
    y, x = optics.axis
    # In the mosaic north is up and east to the left.
    (north_y, north_x), (east_y, east_x) = optics.turned(1.0, 0.0), optics.turned(0.0, -1.0)
    return _header(
        {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRVAL1": ra,
            "CRVAL2": dec,
            "CRPIX1": x + 1 + layout.strips.prescan_x,
            "CRPIX2": y + 1 + layout.strips.prescan_y,
            "CD1_1": optics.pixel_deg * east_x,
            "CD1_2": optics.pixel_deg * east_y,
            "CD2_1": optics.pixel_deg * north_x,
            "CD2_2": optics.pixel_deg * north_y,
            "RADESYS": "ICRS",
        }
    )


def example(pattern: str) -> str | float:
    """Return a value that fits a TOML's pattern (`dpu_recipes.header.fits`): its first alternative, without stars."""
    first = pattern.split("|", maxsplit=1)[0].strip()
    if comparison := re.fullmatch(r"(<=|>=|<|>)\s*(.+)", first):
        limit = float(comparison[2])
        return limit + {"<": -1.0, ">": 1.0}.get(comparison[1], 0.0)
    try:
        return float(first)
    except ValueError:
        return first.replace("*", "").replace("?", "_")


def _under_keys(instrument: Instrument, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by the first header keyword that the instrument has for our name of each."""
    return {instrument.keys[name][0]: value for name, value in said.items() if instrument.keys.get(name)}


def _rule(instrument: Instrument, frame_class: str) -> TypeRule:
    for rule in instrument.types:
        if rule.frame_class == frame_class:
            return rule
    raise InstrumentError(f"{instrument.source} has no rule for {frame_class}: no header would make one")


def _header(cards: Mapping[str, Any]) -> fits.Header:
    header = fits.Header()
    for key, value in cards.items():
        long = len(key) > len("KEYWORDS") or " " in key
        header[f"HIERARCH {key}" if long else key] = value
    return header
