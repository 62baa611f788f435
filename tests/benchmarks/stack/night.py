"""A whole night of calibrations of the WFI, from submitting the first job to the end of the last."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from dpu import local
from dpu.config import Config
from dpu.ingest import ingest
from dpu.processor import Processor
from dpu.report import Reporter
from dpu_recipes.instruments import load
from dpu_recipes.night import midnight_of
from dpu_recipes.simulate import Exposure, Layout
from dpu_recipes.simulate.cards import of_chip, of_exposure
from tests.benchmarks.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SLOTS = 2
NIGHT, FILTER = date(2000, 4, 28), "#842"
BIASES, FLATS = 10, 10
#: ADU: of Gain's flats, two of each.
LEVELS = (2e3, 4e3, 7e3, 11e3, 16e3, 21e3, 26e3, 31e3, 36e3, 42e3)
LIGHT = 25e3
#: ADU, ADU, e-/ADU.
LEVEL, READ_NOISE, GAIN = 250.0, 4.0, 2.0
#: Each uses what the ones before have made.
CHAIN = ("ReadNoise", "Bias", "HotPixels", "Gain", "DomeFlat", "ColdPixels", "TwilightFlat", "MasterFlat")


def figures(chips: int = 8) -> Iterator[Figure]:
    """Measure a night of some chips: written, ingested and removed exposure by exposure, which is not timed."""
    disk = Path("build/bench")
    disk.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=disk.absolute()) as name:
        folder = Path(name)
        os.environ["DPU_LOCAL_SLOTS"] = str(SLOTS)
        dpu = Processor(Config(home=folder / "dpu", username="ann"), reporter=Reporter(out=io.StringIO()))
        try:
            pixels = _fill(dpu, Camera(chips), folder)
            seconds = _reduced(dpu)
        finally:
            dpu.close()
            local.stop(folder / "dpu")
    yield Figure(
        bench="stack",
        figure="night_mpixel_per_s",
        value=pixels / seconds / 1e6,
        unit="Mpixel/s",
        bar="at least 30 on 2 cores",
        less_is_better=False,
    )


@dataclass(frozen=True)
class Camera:
    """Some chips of the WFI, whose frames are made of the same noise, each time shifted by another length."""

    chips: int

    @cached_property
    def layout(self) -> Layout:
        """Return where light falls on a whole chip."""
        columns, rows = load().get("WFI").chip_size
        return Layout(rows=rows, columns=columns, strips=load().get("WFI").strips)

    @cached_property
    def noise(self) -> NDArray[np.float32]:
        """Return noise of 1, a pixel more on each side than a frame."""
        return np.random.default_rng(1).standard_normal((2, self.layout.shape[0], self.layout.shape[1]), np.float32)

    @cached_property
    def flat(self) -> NDArray[np.float32]:
        """Return the response of the pixels that see light, a few of them cold."""
        random = np.random.default_rng(2)
        flat = random.normal(1, 0.01, (self.layout.rows, self.layout.columns)).astype(np.float32)
        flat.flat[random.integers(0, flat.size, 4000)] *= 0.8
        return flat

    def frame(self, light: float, number: int) -> NDArray[np.uint16]:
        """Return a frame of even light, ADU."""
        read, photons = np.roll(self.noise, 7919 * number, axis=(1, 2))
        frame = read * np.float32(READ_NOISE) + np.float32(LEVEL)
        if light:
            lit = self.flat * np.float32(light)
            data = self.layout.regions.data
            frame[data] += lit + np.sqrt(lit / np.float32(GAIN)) * photons[data]
        image: NDArray[np.uint16] = np.rint(frame).astype(np.uint16)
        return image

    def write(self, path: Path, exposure: Exposure, number: int) -> int:
        """Write an exposure of all chips and return how many pixels it has."""
        wfi = load().get("WFI")
        units: list[fits.PrimaryHDU | fits.ImageHDU] = [fits.PrimaryHDU(header=of_exposure(wfi, exposure, self.chips))]
        for place, chip in enumerate(wfi.chips[: self.chips]):
            image = self.frame(exposure.light, number * self.chips + place)
            units.append(fits.ImageHDU(image, of_chip(wfi, chip, self.layout)))
        fits.HDUList(units).writeto(path)
        return self.chips * self.layout.shape[0] * self.layout.shape[1]


def _exposures() -> Iterator[Exposure]:
    clock = midnight_of(NIGHT, load().get("WFI").longitude_deg) - timedelta(hours=9)
    dome = Exposure(frame_class="RawDomeFlatFrame", filter=FILTER, object="DOME")
    planned = [Exposure(frame_class="RawBiasFrame", filter=FILTER, object="BIAS")] * BIASES
    planned += [replace(dome, light=level, exptime=level / 1e3) for level in LEVELS for _ in range(2)]
    planned += [replace(dome, light=LIGHT, exptime=LIGHT / 1e3)] * FLATS
    planned += [replace(dome, frame_class="RawTwilightFlatFrame", light=LIGHT, exptime=5.0, object="SKY")] * FLATS
    for exposure in planned:
        clock += timedelta(seconds=60)
        yield exposure.at(clock.replace(microsecond=0))


def _fill(dpu: Processor, camera: Camera, folder: Path) -> int:
    """Bring the night into the archive and return how many pixels its frames have."""
    pixels = 0
    for number, exposure in enumerate(_exposures()):
        path = folder / f"exposure{number}.fits"
        pixels += camera.write(path, exposure, number)
        refused = ingest(dpu.link, [path], lambda _: None).refused
        if refused:
            raise RuntimeError(refused[0].reason)
        path.unlink()
    return pixels


def _reduced(dpu: Processor) -> float:
    """Run all sequences and return the seconds from the first submission to the last end."""
    begun = time.perf_counter()
    for sequence in CHAIN:
        started = time.perf_counter()
        job = dpu.run(sequence, i="WFI", d=str(NIGHT), C=1)
        if (state := dpu.wait(job, timeout=1800)) != "FINISHED":
            raise RuntimeError(f"{sequence} is {state}: {dpu.get_logs(job)}")
        print(f"{sequence}: {time.perf_counter() - started:.2f} s", file=sys.stderr)
    return time.perf_counter() - begun
