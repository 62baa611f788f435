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
    signal = np.zeros((layout.rows, layout.columns), dtype=np.float32)
    for _ in range(tracks):
        _throw(signal, noise, generator)
    y, x = np.nonzero(signal)
    return Rays(y=y.astype(np.int32), x=x.astype(np.int32), signal=signal[y, x])


def _throw(signal: Image, noise: float, generator: Generator) -> None:
    """Add one track to `signal`, in place."""
    length = generator.uniform(*LENGTH)
    angle = generator.uniform(0, 2 * np.pi)
    steps = np.arange(0, length, 0.5)
    y = np.rint(generator.uniform(0, signal.shape[0]) + steps * np.sin(angle)).astype(int)
    x = np.rint(generator.uniform(0, signal.shape[1]) + steps * np.cos(angle)).astype(int)
    inside = (y >= 0) & (y < signal.shape[0]) & (x >= 0) & (x < signal.shape[1])
    y, x = np.unique(np.stack([y[inside], x[inside]]), axis=1)
    amplitude = noise * np.exp(generator.uniform(*np.log(AMPLITUDE)))
    signal[y, x] += (amplitude * generator.uniform(1 / 3, 1, len(y))).astype(np.float32)
