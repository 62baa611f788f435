"""Cosmic rays: short straight tracks, thrown anywhere on the pixels that see light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from dpu_recipes.simulate.detector import Image, Layout

#: Tracks a second and a pixel of 15 um, about two a minute and a square centimetre.
RATE = 2 / 60 * (15e-4) ** 2
#: Pixels.
LENGTH = (1.0, 15.0)
#: Signal of a track's pixels in units of the frame's noise; single pixels of it fall to a third.
AMPLITUDE = (10.0, 300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rays:
    """The pixels hit in one frame of one CCD, each once."""

    #: (n,) int32, in the pixels that see light.
    y: NDArray[np.int32]
    x: NDArray[np.int32]
    #: (n,) float32, ADU.
    signal: Image


def thrown(layout: Layout, seconds: float, noise: float, generator: Generator) -> Rays:
    """Return the cosmic rays of an exposure: `seconds` from its start to the end of its read-out, `noise` in ADU."""
    tracks = generator.poisson(RATE * seconds * layout.rows * layout.columns)
    hits = [_track(layout, noise, generator) for _ in range(tracks)]
    pixels = np.concatenate([pixel for pixel, _ in hits]) if hits else np.zeros(0, np.int64)
    signals = np.concatenate([signal for _, signal in hits]) if hits else np.zeros(0)
    pixels, where = np.unique(pixels, return_inverse=True)
    y, x = np.divmod(pixels, layout.columns)
    total = np.bincount(where, weights=signals, minlength=pixels.size)
    return Rays(y=y.astype(np.int32), x=x.astype(np.int32), signal=total.astype(np.float32))


def _track(layout: Layout, noise: float, generator: Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pixels of one track, counted through the rows, and what each gets, ADU."""
    length = generator.uniform(*LENGTH)
    angle = generator.uniform(0, 2 * np.pi)
    steps = np.arange(0, length, 0.5)
    y = np.rint(generator.uniform(0, layout.rows) + steps * np.sin(angle)).astype(np.int64)
    x = np.rint(generator.uniform(0, layout.columns) + steps * np.cos(angle)).astype(np.int64)
    inside = (y >= 0) & (y < layout.rows) & (x >= 0) & (x < layout.columns)
    pixels = np.unique(y[inside] * layout.columns + x[inside])
    amplitude = noise * np.exp(generator.uniform(*np.log(AMPLITUDE)))
    return pixels, amplitude * generator.uniform(1 / 3, 1, pixels.size)
