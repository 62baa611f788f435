"""The truth of a simulated night on disk: one JSON file for the night, one NumPy archive a CCD."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dpu_recipes.frames import Strips
from dpu_recipes.simulate.detector import Detector, Layout
from dpu_recipes.simulate.exposure import Exposure
from dpu_recipes.simulate.field import Field
from dpu_recipes.simulate.galaxies import Galaxies
from dpu_recipes.simulate.optics import Optics
from dpu_recipes.simulate.rays import Rays
from dpu_recipes.simulate.scene import Scene
from dpu_recipes.simulate.stars import Stars
from dpu_recipes.simulate.tracks import Tracks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dpu_recipes.simulate.counts import Circumstances

_NIGHT = "night.json"
_SCALARS = ("read_noise", "gain", "level", "sigma", "nonlinearity")
#: Fields of an exposure that JSON makes lists of.
_PLACES = ("dither", "pointing", "header_pointing")
#: What a scene is made of.
_SOURCES = {"stars": Stars, "galaxies": Galaxies, "tracks": Tracks}
_SKY = "sky.npz"
#: Of the standard field, as above the atmosphere.
STANDARDS = "standards.npz"
_ARRAYS = ("row_pattern", "column_pattern", "surface", "hot", "flat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is known of a simulated night: its folder, and what is in its JSON file."""

    folder: Path
    #: 'WFI', 0.25, 1, '2000-04-28'
    instrument: str
    scale: float
    seed: int
    night: str
    exposures: tuple[Exposure, ...]
    #: By name: the scalars of a CCD and, a value an exposure, its drift and slope, ADU.
    chips: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the truth beside the frames of the night in `folder`."""
        record = json.loads((folder / "truth" / _NIGHT).read_text(encoding="utf-8"))
        exposures = tuple(
            Exposure(
                **{
                    **item,
                    "date_obs": datetime.fromisoformat(item["date_obs"]),
                    **{name: tuple(item[name]) for name in _PLACES},
                }
            )
            for item in record.pop("exposures")
        )
        return cls(folder=folder, exposures=exposures, **record)

    def detector(self, chip: str) -> Detector:
        """Return one CCD as it was drawn."""
        record = self.chips[chip]
        with np.load(self._arrays(chip)) as arrays:
            return Detector(
                chip=chip,
                lamp=tuple(record["lamp"]),
                fringe=tuple(record["fringe"]),
                layout=Layout(**{**record["layout"], "strips": Strips(**record["layout"]["strips"])}),
                **{name: record[name] for name in _SCALARS},
                **{name: arrays[name] for name in _ARRAYS},
            )

    def rays(self, chip: str, exposure: int) -> Rays:
        """Return the cosmic rays in one CCD of the exposure that stands at index `exposure`."""
        with np.load(self._arrays(chip)) as arrays:
            mine = arrays["rays_exposure"] == exposure
            return Rays(y=arrays["rays_y"][mine], x=arrays["rays_x"][mine], signal=arrays["rays_signal"][mine])

    def scene(self, chip: str, exposure: int) -> Scene:
        """Return the sources in one CCD of the exposure that stands at index `exposure`."""
        with np.load(self._arrays(chip)) as arrays:
            found: dict[str, Any] = {}
            for name, kind in _SOURCES.items():
                mine = arrays[f"{name}_exposure"] == exposure
                found[name] = kind(**{item.name: arrays[f"{name}_{item.name}"][mine] for item in fields(kind)})
            return Scene(**found)

    def stars(self, chip: str, exposure: int) -> Stars:
        """Return the stars in one CCD of the exposure that stands at index `exposure`."""
        return self.scene(chip, exposure).stars

    def optics(self, chip: str) -> Optics:
        """Return how the sky is mapped onto one CCD."""
        record = self.chips[chip]["optics"]
        return Optics(**{**record, "axis": tuple(record["axis"]), "shift": tuple(record["shift"])})

    def field(self) -> Field:
        """Return what is on the sky where science exposures look. Raises FileNotFoundError for a night without them."""
        return self._field(_SKY)

    def standard_field(self) -> Field:
        """Return the standard field, Landolt's stars last, as it is above the atmosphere. Raises FileNotFoundError."""
        return self._field(STANDARDS)

    def _field(self, name: str) -> Field:
        with np.load(self.folder / "truth" / name) as arrays:
            return Field(**{item.name: arrays[item.name] for item in fields(Field)})

    def _arrays(self, chip: str) -> Path:
        return self.folder / "truth" / f"{chip}.npz"


def write_chip(folder: Path, detector: Detector, optics: Optics, frames: Sequence[Circumstances]) -> dict[str, Any]:
    """Write one CCD's arrays to `folder`/truth and return its record for the JSON file."""
    found: dict[str, Sequence[Any]] = {"rays": [frame.rays for frame in frames]}
    found |= {name: [getattr(frame.scene, name) for frame in frames] for name in _SOURCES}
    np.savez_compressed(
        folder / "truth" / f"{detector.chip}.npz",
        allow_pickle=False,
        **{name: getattr(detector, name) for name in _ARRAYS},
        **{key: array for name, groups in found.items() for key, array in _joined(name, groups)},
    )
    return {
        **{name: getattr(detector, name) for name in _SCALARS},
        "layout": asdict(detector.layout),
        "lamp": list(detector.lamp),
        "fringe": list(detector.fringe),
        "optics": asdict(optics),
        "drift": [frame.drift for frame in frames],
        "slope": [frame.slope for frame in frames],
    }


def _joined(name: str, groups: Sequence[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield what some exposures have of one kind, array by array, and of which exposure each is."""
    yield f"{name}_exposure", np.repeat(np.arange(len(groups), dtype=np.int32), [len(group.y) for group in groups])
    for item in fields(groups[0]):
        yield f"{name}_{item.name}", np.concatenate([getattr(group, item.name) for group in groups])


def write_field(folder: Path, field: Field, name: str = _SKY) -> None:
    """Write what is on the sky to a file in `folder`/truth."""
    np.savez_compressed(folder / "truth" / name, allow_pickle=False, **asdict(field))


def write_night(truth: Truth) -> None:
    """Write the JSON file of the night to its folder."""
    record = {name: getattr(truth, name) for name in ("instrument", "scale", "seed", "night", "chips")}
    record["exposures"] = [
        {**asdict(exposure), "date_obs": exposure.date_obs.isoformat()} for exposure in truth.exposures
    ]
    text = json.dumps(record, indent=1)
    (truth.folder / "truth" / _NIGHT).write_text(text + "\n", encoding="utf-8")
