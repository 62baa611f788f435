"""The truth of a simulated night on disk: one JSON file for the night, one NumPy archive a CCD."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dpu_recipes.frames import Strips
from dpu_recipes.simulate.detector import Detector, Layout
from dpu_recipes.simulate.exposure import Exposure
from dpu_recipes.simulate.rays import Rays
from dpu_recipes.simulate.stars import Stars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dpu_recipes.simulate.exposure import Circumstances

_NIGHT = "night.json"
_SCALARS = ("read_noise", "gain", "level", "sigma", "nonlinearity")
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
            Exposure(**{**item, "date_obs": datetime.fromisoformat(item["date_obs"]), "dither": tuple(item["dither"])})
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
                layout=Layout(**{**record["layout"], "strips": Strips(**record["layout"]["strips"])}),
                **{name: record[name] for name in _SCALARS},
                **{name: arrays[name] for name in _ARRAYS},
            )

    def rays(self, chip: str, exposure: int) -> Rays:
        """Return the cosmic rays in one CCD of the exposure that stands at index `exposure`."""
        with np.load(self._arrays(chip)) as arrays:
            mine = arrays["rays_exposure"] == exposure
            return Rays(y=arrays["rays_y"][mine], x=arrays["rays_x"][mine], signal=arrays["rays_signal"][mine])

    def stars(self, chip: str, exposure: int) -> Stars:
        """Return the stars in one CCD of the exposure that stands at index `exposure`."""
        with np.load(self._arrays(chip)) as arrays:
            mine = arrays["stars_exposure"] == exposure
            return Stars(y=arrays["stars_y"][mine], x=arrays["stars_x"][mine], peak=arrays["stars_peak"][mine])

    def _arrays(self, chip: str) -> Path:
        return self.folder / "truth" / f"{chip}.npz"


def write_chip(folder: Path, detector: Detector, frames: Sequence[Circumstances]) -> dict[str, Any]:
    """Write one CCD's arrays to `folder`/truth and return its record for the JSON file."""
    rays = [frame.rays for frame in frames]
    stars = [frame.stars for frame in frames]
    np.savez_compressed(
        folder / "truth" / f"{detector.chip}.npz",
        allow_pickle=False,
        **{name: getattr(detector, name) for name in _ARRAYS},
        rays_exposure=np.repeat(np.arange(len(rays), dtype=np.int32), [len(hits.y) for hits in rays]),
        rays_y=np.concatenate([hits.y for hits in rays]),
        rays_x=np.concatenate([hits.x for hits in rays]),
        rays_signal=np.concatenate([hits.signal for hits in rays]),
        stars_exposure=np.repeat(np.arange(len(stars), dtype=np.int32), [len(seen.y) for seen in stars]),
        stars_y=np.concatenate([seen.y for seen in stars]),
        stars_x=np.concatenate([seen.x for seen in stars]),
        stars_peak=np.concatenate([seen.peak for seen in stars]),
    )
    return {
        **{name: getattr(detector, name) for name in _SCALARS},
        "layout": asdict(detector.layout),
        "lamp": list(detector.lamp),
        "drift": [frame.drift for frame in frames],
        "slope": [frame.slope for frame in frames],
    }


def write_night(truth: Truth) -> None:
    """Write the JSON file of the night to its folder."""
    record = {name: getattr(truth, name) for name in ("instrument", "scale", "seed", "night", "chips")}
    record["exposures"] = [
        {**asdict(exposure), "date_obs": exposure.date_obs.isoformat()} for exposure in truth.exposures
    ]
    text = json.dumps(record, indent=1)
    (truth.folder / "truth" / _NIGHT).write_text(text + "\n", encoding="utf-8")
