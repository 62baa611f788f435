"""Which frames a selection means, and which calibration is valid for a frame. Rules: docs/reference/validity.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from dpu_recipes.archive import MissingCalibration
from dpu_recipes.header import glob
from dpu_recipes.night import midnight_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from dpu_recipes.archive import Selection
    from dpu_recipes.frames import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is the same for every product of a class of calibrations."""

    #: The sequence that makes it.
    sequence: str
    #: Nights before and after the middle of its own for which it may be used.
    nights: float
    #: Whether it serves frames of its own filter only.
    by_filter: bool = False
    #: Whether the sequence subtracts the overscan, by a method of its user's.
    from_raw: bool = True


CALIBRATIONS: Final[Mapping[str, Calibration]] = MappingProxyType(
    {
        "ReadNoise": Calibration(sequence="ReadNoise", nights=15),
        "BiasFrame": Calibration(sequence="Bias", nights=3.5),
        "HotPixelMap": Calibration(sequence="HotPixels", nights=3.5, from_raw=False),
        "GainLinearity": Calibration(sequence="Gain", nights=15),
        "DomeFlatFrame": Calibration(sequence="DomeFlat", nights=3.5, by_filter=True),
        "TwilightFlatFrame": Calibration(sequence="TwilightFlat", nights=3.5, by_filter=True),
        "NightSkyFlatFrame": Calibration(sequence="NightSkyFlat", nights=3.5, by_filter=True),
        "MasterFlatFrame": Calibration(sequence="MasterFlat", nights=3.5, by_filter=True, from_raw=False),
        "ColdPixelMap": Calibration(sequence="ColdPixels", nights=3.5, from_raw=False),
        "FringeFrame": Calibration(sequence="FringeFlat", nights=15, by_filter=True),
        "PhotometricParameters": Calibration(sequence="Photom", nights=0.5, by_filter=True, from_raw=False),
    }
)

#: Classes of frames that no light has reached: their headers carry whatever filter and object were set.
IGNORING_FILTER_AND_OBJECT: Final = frozenset({"RawBiasFrame", "RawDarkFrame", "BiasFrame", "ReadNoise", "HotPixelMap"})

#: A product whose window is longer is a bootstrap one: put there by hand, valid for ever.
_BOOTSTRAP: Final = timedelta(days=3650)

#: How many of the candidates that failed are named.
_NAMED: Final = 3


def window(frame_class: str, night: date, longitude_deg: float) -> tuple[datetime, datetime]:
    """Return from when to when, UTC, a product of a class and a night may be used: `timestamp_start` and `_end`.

    The night's middle is midnight of mean solar time at the telescope; +-3.5 nights are seven from noon to noon.
    Raises KeyError for a class that is no calibration.
    """
    middle = midnight_of(night, longitude_deg)
    reach = timedelta(days=CALIBRATIONS[frame_class].nights)
    return middle - reach, middle + reach


def choose(
    frame_class: str, frame: Frame, candidates: Sequence[Frame], overscan: int | None = None
) -> tuple[Frame, str]:
    """Return the calibration of a class to be used for `frame`, and why that one.

    Of those that may be used: the newest of the frame's own night, else the newest whose window covers the frame.
    Among `candidates` there may be frames of other classes, instruments and chips. `overscan` asks for a product of
    that overscan method.

    Raises
    ------
    MissingCalibration
        None may be used. The message names the nearest ones, what each fails on, and the call that makes one.
    """
    near = [item for item in candidates if _is_akin(frame_class, frame, item)]
    usable = [item for item in near if not any(_faults(frame_class, frame, item, overscan))]
    if not usable:
        raise MissingCalibration(_missing(frame_class, frame, near, overscan))
    same_night = [item for item in usable if item.night == frame.night]
    chosen = max(same_night or usable, key=lambda item: (item.creation_date, item.id))
    return chosen, _why(chosen, len(same_night or usable), of_night=bool(same_night))


def _is_akin(frame_class: str, frame: Frame, item: Frame) -> bool:
    return (item.frame_class, item.instrument, item.chip) == (frame_class, frame.instrument, frame.chip)


def _faults(frame_class: str, frame: Frame, item: Frame, overscan: int | None) -> Iterator[str]:
    """Yield all reasons why a product may not be used for a frame."""
    if not item.is_valid:
        yield "is_valid=0"
    if item.quality_flags:
        yield f"quality_flags={item.quality_flags}"
    if item.readout != frame.readout:
        yield f"read-out mode {item.readout!r} instead of {frame.readout!r}"
    if CALIBRATIONS[frame_class].by_filter and item.filter != frame.filter:
        yield f"filter {item.filter!r} instead of {frame.filter!r}"
    if overscan is not None and item.overscan != overscan:
        yield f"overscan method {item.overscan} instead of {overscan}"
    if not item.timestamp_start <= frame.date_obs < item.timestamp_end:
        yield f"valid from {item.timestamp_start:%F %R} to {item.timestamp_end:%F %R}"


def _why(chosen: Frame, number: int, *, of_night: bool) -> str:
    if chosen.timestamp_end - chosen.timestamp_start > _BOOTSTRAP:
        return f"bootstrap, valid for ever, newest of {number}"
    if of_night:
        return f"same night, newest of {number}"
    return f"night {chosen.night}, valid until {chosen.timestamp_end:%F %R}, newest of {number}"


def _missing(frame_class: str, frame: Frame, near: Sequence[Frame], overscan: int | None) -> str:
    what = f"no valid {frame_class} for {frame.file_name} ({frame.instrument} {frame.chip}, night {frame.night})"
    ordered = sorted(near, key=lambda item: (abs(item.night - frame.night), -item.creation_date.timestamp(), item.id))
    named = [
        f"{item.file_name or item.id[:12]} of {item.night}: {', '.join(_faults(frame_class, frame, item, overscan))}"
        for item in ordered[:_NAMED]
    ]
    rest = f", and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    found = f"the nearest: {'; '.join(named)}{rest}" if named else "there is none at all"
    return f"{what}: {found}. Make one: {make_call(frame_class, frame, overscan)}"


def make_call(frame_class: str, frame: Frame, overscan: int | None = None) -> str:
    """Return the call that makes the calibration of a class for a frame's night."""
    kind = CALIBRATIONS[frame_class]
    words = [f"'{kind.sequence}'", f"i='{frame.instrument}'", f"d='{frame.night}'"]
    if kind.by_filter:
        words.append(f"f='{frame.filter}'")
    if overscan is not None and kind.from_raw:
        words.append(f"oc={overscan}")
    return f"dpu.run({', '.join(words)}, C=1)"


def matches(frame: Frame, selection: Selection) -> bool:
    """Return whether a frame fits a selection; its class is not asked.

    File names override the rest. Filter and object are ignored for frames that no light has reached.
    """
    if selection.file_names:
        return not names_of(frame).isdisjoint(map(stem, selection.file_names))
    if selection.identity and frame.identity != selection.identity:
        return False
    if selection.instrument and frame.instrument != selection.instrument:
        return False
    if selection.night and frame.night.isoformat() != selection.night:
        return False
    if selection.chips and frame.chip not in selection.chips:
        return False
    if frame.frame_class in IGNORING_FILTER_AND_OBJECT:
        return True
    if selection.filter and frame.filter != selection.filter:
        return False
    return not selection.object or glob(selection.object, frame.object)


def names_of(frame: Frame) -> set[str]:
    """Return what a frame's file is called, and, of a raw one, the exposure that it came from."""
    names = {stem(frame.file_name)}
    if exposure := frame.values.get("EXPOSURE"):
        names |= {stem(str(exposure)), stem(frame.file_name).rpartition("_")[0]}
    return names - {""}


def stem(file_name: str) -> str:
    """Return a file name without its folder and the endings that say how it is stored."""
    name = file_name.rpartition("/")[2]
    for ending in (".gz", ".bz2", ".fz", ".fits", ".fit"):
        name = name.removesuffix(ending)
    return name
