"""Satellites: straight tracks of one width across the whole focal plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator

    from dpu_recipes.simulate.detector import Image
    from dpu_recipes.simulate.optics import Optics

#: In an exposure, on average.
RATE = 0.5
#: Signal on the middle line, in units of the frame's noise, log-uniform.
AMPLITUDE = (2.0, 30.0)
#: Pixels: standard deviation across, and how far the light reaches in units of it.
WIDTH, REACH = 1.8, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """The tracks on one CCD in one exposure: points where (y - y0) cos(angle) = (x - x0) sin(angle). (n,) float32."""

    #: A point of each, in the pixels that see light; it may lie outside of them.
    y: Image
    x: Image
    #: Radians, from y to x.
    angle: Image
    #: On the middle line, ADU.
    signal: Image

    def add_to(self, light: Image) -> None:
        """Add their light to `light` : (y, x) float32, ADU, in place."""
        down = np.arange(light.shape[0], dtype=np.float32)[:, None]
        along = np.arange(light.shape[1], dtype=np.float32)[None, :]
        for y, x, angle, signal in zip(self.y, self.x, self.angle, self.signal, strict=True):
            away = (along - x) * np.cos(angle) - (down - y) * np.sin(angle)
            light += signal * np.exp(-0.5 * (away / np.float32(WIDTH)) ** 2) * (np.abs(away) <= REACH * WIDTH)


NONE: Final = Tracks(**dict.fromkeys(("y", "x", "angle", "signal"), np.zeros(0, np.float32)))


def thrown(optics: Optics, noise: float, generator: Generator) -> Tracks:
    """Return the tracks of an exposure, as one CCD sees them.

    Parameters
    ----------
    optics : of the CCD: a track comes nearer to the axis than the edge of the focal plane.
    noise : of a pixel of the frame, ADU.
    generator : the same for every CCD.
    """
    count = int(generator.poisson(RATE))
    angle = generator.uniform(0, np.pi, count)
    nearest = generator.uniform(-optics.reach, optics.reach, count)
    low, high = AMPLITUDE
    signal = noise * low * (high / low) ** generator.uniform(0, 1, count)
    y, x = optics.turned(-nearest * np.sin(angle), nearest * np.cos(angle))
    return Tracks(
        y=(optics.axis[0] + y).astype(np.float32),
        x=(optics.axis[1] + x).astype(np.float32),
        angle=(angle - np.radians(optics.rotation)).astype(np.float32),
        signal=signal.astype(np.float32),
    )
