"""What has to be made first: with deep=True, the missing inputs of a job are made by stages before its own.

The client puts a stage for everything that may be missing before those that were asked for. When such a stage is
planned, this finds out what is missing indeed, by asking for it as the tasks will ask.
Rules: docs/reference/target-processing.md.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from dpu_recipes.archive import MissingCalibration
from dpu_recipes.task import RecipeError
from dpu_recipes.validity import CALIBRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dpu_recipes.archive import Archive
    from dpu_recipes.frames import Frame, Plain
    from dpu_recipes.task import TaskSpec

log = logging.getLogger(__name__)

_FOR_RAW: Final = ("ReadNoise", "BiasFrame")
_MAPS: Final = ("HotPixelMap", "ColdPixelMap")

#: Classes that the tasks of a recipe ask for, beside the class that it starts from.
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "Bias": ("ReadNoise",),
    "DomeFlat": _FOR_RAW,
    "TwilightFlat": _FOR_RAW,
    "NightSkyFlat": _FOR_RAW,
    "Gain": _FOR_RAW,
    "QuickCheck": _FOR_RAW,
    "MasterFlat": (*_MAPS, "TwilightFlatFrame", "NightSkyFlatFrame"),
    "FringeFlat": (*_FOR_RAW, *_MAPS, "MasterFlatFrame"),
}
#: The value of option `combine` with which a master flat needs both, and the parameter with which it needs the night's.
_BOTH_FLATS: Final = 1
_NIGHT_SKY: Final = "MasterFlatFrame.process_params.NIGHT_SKY"
#: Those that are asked for by the overscan method of what uses them.
BY_METHOD: Final = frozenset({"BiasFrame", "TwilightFlatFrame", "NightSkyFlatFrame", "MasterFlatFrame"})
#: Options that a made input takes over, where its recipe has them.
_TAKEN: Final = ("overscan", "pars")

Options = dict[str, Any]


class Kitchen(Protocol):
    """What is known of recipes by their names."""

    def filled(self, recipe: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the options of a recipe with its defaults; what it does not have is left out."""
        ...

    def planned(self, recipe: str, options: Mapping[str, Any]) -> list[TaskSpec]:
        """Return the tasks of a recipe. Raises RecipeError."""
        ...

    def starts_from(self, recipe: str, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the classes that a recipe starts from, of which it takes the first that has frames."""
        ...

    def maker(self, frame_class: str) -> str:
        """Return the recipe that makes a class, '' where none does."""
        ...


@dataclass(frozen=True, slots=True)
class Larder:
    """Finds out what is missing."""

    kitchen: Kitchen
    archive: Archive
    _found: dict[str, tuple[str, Options]] = field(default_factory=dict)

    def missing(self, recipe: str, options: Mapping[str, Any]) -> list[tuple[str, Options]]:
        """Return recipes with the options by which they make what `recipe` will miss; none twice."""
        self._look(recipe, self.kitchen.filled(recipe, options))
        return list(self._found.values())

    def _look(self, recipe: str, options: Mapping[str, Any]) -> None:
        for frame in self._raw_frames(recipe, options):
            for frame_class in needs(recipe, options):
                method = options.get("overscan") if frame_class in BY_METHOD else None
                try:
                    self.archive.calibration(frame_class, frame, overscan=method)
                except MissingCalibration:
                    self._demand(self.kitchen.maker(frame_class), _of_frame(frame_class, frame), options)

    def _raw_frames(self, recipe: str, options: Mapping[str, Any]) -> Iterator[Frame]:
        """Give a frame of each kind that the tasks of a recipe begin with; of products, what these are made from."""
        makers = [self.kitchen.maker(name) for name in self.kitchen.starts_from(recipe, options)]
        if any(makers):
            yield from self._raw_frames_of_first(makers, options)
            return
        kinds = set()
        for spec in self._planned(recipe, options):
            frame = self.archive.find(spec.inputs[0])
            kind = (frame.chip, frame.night, frame.filter, frame.readout)
            if kind not in kinds:
                kinds.add(kind)
                yield frame

    def _raw_frames_of_first(self, makers: list[str], options: Mapping[str, Any]) -> Iterator[Frame]:
        """Give what the first of some recipes that has raw frames begins with, and note that it is to be done."""
        own = {name: options[name] for name in ("instrument", "date", "chip", "filter") if options.get(name)}
        for maker in makers:
            frames = list(self._raw_frames(maker, self._taking(maker, own, options)))
            if frames:
                self._demand(maker, own, options)
                yield from frames
                return

    def _planned(self, recipe: str, options: Mapping[str, Any]) -> list[TaskSpec]:
        try:
            return [spec for spec in self.kitchen.planned(recipe, options) if spec.inputs]
        except RecipeError as error:
            # Whoever needs it will say so, and what to do.
            log.warning("%s can make nothing: %s", recipe, error)
            return []

    def _demand(self, maker: str, own: Options, options: Mapping[str, Any]) -> None:
        """Note that something is to be made, and first what is missing for it."""
        if not maker:
            return
        wanted = self._taking(maker, own, options)
        key = json.dumps([maker, wanted], sort_keys=True)
        if key not in self._found:
            self._found[key] = (maker, wanted)
            self._look(maker, wanted)

    def _taking(self, maker: str, own: Options, options: Mapping[str, Any]) -> Options:
        taken = {name: options[name] for name in _TAKEN if options.get(name) not in (None, "", {})}
        return dict(self.kitchen.filled(maker, taken | own))


def needs(recipe: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes that the tasks of a recipe ask for with these options."""
    asked = {
        "TwilightFlatFrame": options.get("combine", _BOTH_FLATS) == _BOTH_FLATS,
        "NightSkyFlatFrame": bool((options.get("pars") or {}).get(_NIGHT_SKY)),
    }
    return tuple(name for name in NEEDS.get(recipe, ()) if asked.get(name, True))


def _of_frame(frame_class: str, frame: Frame) -> Options:
    """Return the options by which the calibration of a class is made for a frame."""
    options = {"instrument": frame.instrument, "date": str(frame.night), "chip": frame.chip}
    return options | ({"filter": frame.filter} if CALIBRATIONS[frame_class].by_filter else {})


def plain(options: Mapping[str, Any]) -> dict[str, Plain]:
    """Return options without those that say nothing."""
    return {name: value for name, value in options.items() if value not in ("", None, {}, [])}
