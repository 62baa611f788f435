"""Says how a FITS file is understood: whose it is, and where each thing that is known of it came from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dpu_recipes import header as headers
from dpu_recipes.exposure import BadExposure, understand
from dpu_recipes.frames import Strips

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dpu_recipes.frames import Frame
    from dpu_recipes.header import Header
    from dpu_recipes.instrument import Instrument
    from dpu_recipes.instruments import Instruments

#: What a frame is told about, with our names of what its header says of it.
_SAID: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("date_obs", ("date_obs",)),
    ("night", ("longitude",)),
    ("exptime", ("exptime",)),
    ("filter", ("filter",)),
    ("object", ("object",)),
    ("readout", ("binning", "binning_x", "binning_y")),
)
#: What else may say it, where none of those does.
_INSTEAD: Final = {"date_obs": ("mjd",)}


def explain(file: Path, instruments: Instruments, *, instrument: str = "") -> Iterator[str]:
    """Yield lines that say how a file is understood. Raises BadExposure, which says why it is not."""
    with tempfile.TemporaryDirectory() as folder:
        frames = understand(file, file.name, instruments, Path(folder), instrument=instrument)
    found = instruments.get(frames[0][0].instrument)
    forced = f"as {instrument!r} was asked for"
    yield f"{file.name}: {found.name} ({found.source}), {forced if instrument else _recognised(found, frames[0][1])}"
    for frame, header in frames:
        yield f"  {frame.file_name}"
        for name, value in _rows(found, frame, header):
            yield f"    {name:<10} {value}"


def refusal(error: BadExposure, instruments: Instruments) -> Iterator[str]:
    """Yield lines that say why a file is not understood, and what each instrument asks for."""
    yield f"{error}"
    if "no known instrument" in str(error):
        for instrument in instruments.values():
            asked = " or ".join(_asked(group) for group in instrument.recognise)
            yield f"  {instrument.name} ({instrument.source}) asks for {asked}"


def _rows(instrument: Instrument, frame: Frame, header: Header) -> Iterator[tuple[str, str]]:
    yield "chip", f"{frame.chip} ({_source(instrument, header, ('chip',)) or 'the only one'})"
    yield "class", f"{frame.frame_class} ({_rule(instrument, frame, header)})"
    for name, keys in _SAID:
        value = getattr(frame, name)
        told = value.isoformat() if name in {"date_obs", "night"} else value
        source = _source(instrument, header, keys) or _source(instrument, header, _INSTEAD.get(name, ()))
        yield name, f"{told} ({source or instrument.source})"
    strips = Strips.of(frame)
    source = _source(instrument, header, ("trim_section", "prescan_x", "overscan_x", "prescan_y", "overscan_y"))
    widths = f"x {strips.prescan_x} + {strips.overscan_x}, y {strips.prescan_y} + {strips.overscan_y}"
    yield "strips", f"{widths}, {strips.skip} skipped ({source or instrument.source})"
    for name, key in (("gain", "GAIN"), ("read_noise", "RDNOISE"), ("saturation", "SATURATE")):
        yield name, f"{frame.values[key]:g} ({_source(instrument, header, (name,)) or instrument.source})"


def _source(instrument: Instrument, header: Header, names: tuple[str, ...]) -> str:
    """Return the cards under which a header says one of our names, '' where it says none."""
    found = [headers.find(header, instrument.keys[name]) for name in names]
    return ", ".join(f"{key}={value!r}" for key, value in found if key)


def _recognised(instrument: Instrument, header: Header) -> str:
    group = next(group for group in instrument.recognise if headers.fits_any(header, [group]))
    return "by " + ", ".join(f"{key}={headers.text(header, [key])!r}" for key in group)


def _asked(group: Mapping[str, str]) -> str:
    return " and ".join(f"{key} like {pattern!r}" for key, pattern in group.items())


def _rule(instrument: Instrument, frame: Frame, header: Header) -> str:
    """Return the type rule that gave a frame its class, with what the header says to it."""
    for number, rule in enumerate(instrument.types, 1):
        said = {key: headers.find(header, instrument.keys.get(key, (key,))) for key in rule.when}
        if rule.frame_class == frame.frame_class and all(
            headers.fits(said[key][1], pattern) for key, pattern in rule.when.items()
        ):
            fits = ", ".join(f"{said[key][0]}={said[key][1]!r} fits {rule.when[key]!r}" for key in rule.when)
            return f"rule {number} of {instrument.source}: {fits}"
    raise AssertionError(f"no rule of {instrument.source} makes a {frame.frame_class} of this header")
