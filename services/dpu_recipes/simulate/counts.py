"""What one CCD gives for one exposure: counts as its converter writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.simulate import rays
from dpu_recipes.simulate.exposure import READ_OUT
from dpu_recipes.simulate.scene import EMPTY, Scene

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from dpu_recipes.simulate.detector import Detector, Image
    from dpu_recipes.simulate.exposure import Exposure
    from dpu_recipes.simulate.rays import Rays

#: The converter's last count.
CEILING = 65535

#: Electrons above which Poisson's distribution is as good as normal, whose numbers come four times as fast.
BRIGHT = 5000

#: Rms of the level's step from one exposure to the next, ADU.
LEVEL_STEP = 0.5
#: Rms of a slope that changes from frame to frame, over the whole height, and of a pick-up that changes from row to
#: row, both in units of the read noise. Strips in x carry both. They add 0.03 % to the noise of a pair that is not
#: corrected with its overscan: of what ReadNoise may be off, a tenth at quarter size and a third at full size.
SLOPE = 0.05
PICK_UP = 0.02
#: Rows of one flicker of the lamp while the shutter's blade travels over the CCD.
FLICKER_ROWS = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What befell one CCD in one exposure: what no other frame tells of."""

    #: By how much the level was off the CCD's, and the slope over the whole height, ADU.
    drift: float
    slope: float
    rays: Rays
    scene: Scene


def drifts(count: int, generator: Generator) -> Image:
    """Return by how much each exposure's level is off the CCD's, ADU: a walk that begins anywhere."""
    return np.cumsum(generator.normal(0, LEVEL_STEP, count)).astype(np.float32)


def expose(
    detector: Detector, exposure: Exposure, drift: float, generator: Generator, scene: Scene = EMPTY
) -> tuple[NDArray[np.uint16], Circumstances]:
    """Return the frame that a CCD gives, (y, x) uint16, ADU, and what befell it.

    Light is counted in electrons (Poisson); patterns, hot pixels, cosmic rays and read noise (Gaussian) are added in
    ADU; the sum is rounded. Values beyond the converter's range stop at its ends.
    """
    layout = detector.layout
    slope = float(generator.normal(0, SLOPE * detector.read_noise))
    frame = generator.standard_normal(layout.shape, dtype=np.float32)
    frame *= np.float32(detector.read_noise)
    frame += np.float32(detector.level + drift)
    frame += _rows(detector, slope, generator)[:, None]
    frame += detector.column_pattern[None, :]
    light = frame[layout.regions.data]
    light += detector.surface
    # A constant, as a trap's or an amplifier's: charge would bring shot noise, and then no pair of biases could give
    # the read noise of a CCD with hot columns to better than a per cent.
    light += detector.hot
    if exposure.light:
        light += detector.kept(_lit(detector, _falling(detector, exposure, scene, generator), generator))
    noise = float(np.sqrt(detector.read_noise**2 + exposure.light / detector.gain))
    hits = rays.thrown(layout, exposure.exptime + READ_OUT, noise, generator)
    light[hits.y, hits.x] += hits.signal
    np.rint(frame, out=frame)
    image = np.clip(frame, 0, CEILING, out=frame).astype(np.uint16)
    return image, Circumstances(drift=drift, slope=slope, rays=hits, scene=scene)


def _rows(detector: Detector, slope: float, generator: Generator) -> Image:
    """Return what each row has in this frame: the CCD's pattern, a slope and a pick-up."""
    height = detector.layout.shape[0]
    tilt = slope * np.linspace(-0.5, 0.5, height)
    pick_up = generator.normal(0, PICK_UP * detector.read_noise, height)
    return (detector.row_pattern + tilt + pick_up).astype(np.float32)


def _falling(detector: Detector, exposure: Exposure, scene: Scene, generator: Generator) -> Image:
    """Return the light that falls on each pixel, ADU, without its noise."""
    light = np.full(detector.flat.shape, exposure.light, np.float32)
    if exposure.lamp:
        light *= detector.lamp_shape()
    if exposure.flicker:
        phase = 2 * np.pi * (np.arange(len(light)) / FLICKER_ROWS + generator.uniform())
        light *= (1 + exposure.flicker * np.sin(phase)).astype(np.float32)[:, None]
    if exposure.fringes:
        light *= 1 + np.float32(exposure.fringes) * detector.fringe_shape()
    scene.add_to(light)
    return light


def _lit(detector: Detector, light: Image, generator: Generator) -> Image:
    """Return what each pixel makes of the `light` that falls on it, ADU, with its Poisson noise."""
    gain = np.float32(detector.gain)
    electrons = detector.flat * light
    electrons *= gain
    if electrons.min() < BRIGHT:
        return generator.poisson(electrons).astype(np.float32) / gain
    noise = generator.standard_normal(electrons.shape, dtype=np.float32)
    noise *= np.sqrt(electrons)
    electrons += noise
    np.rint(electrons, out=electrons)
    electrons /= gain
    return electrons
