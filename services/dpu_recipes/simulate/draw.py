"""Draws the truth of a CCD from a generator, at any size; docs/reference/simulator.md has the ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dpu_recipes.simulate.detector import ROUNDING, Detector

if TYPE_CHECKING:
    from numpy.random import Generator

    from dpu_recipes.simulate.detector import Image, Layout

READ_NOISE = (2.0, 8.0)
GAIN = (1.5, 3.0)
LEVEL = (150.0, 350.0)

#: Of all pixels that see light.
HOT_FRACTION = 2e-3
COLD_FRACTION = 1e-3
#: In units of a pixel's noise in the master bias.
HOT_AMPLITUDE = (3.0, 100.0)
COLD_RESPONSE = (0.5, 1.3)
WHOLE_COLUMNS = 2
PARTIAL_COLUMNS = 4

#: Rms of the fixed pattern from column to column, in units of a pixel's noise in the master bias. It is left in the
#: bias by every method that looks at strips in x, so it must stay below what HotPixels calls a defect.
COLUMN_RIPPLE = 0.1
#: Rms of the fixed pattern from row to row, in units of the read noise. Strips in x carry it.
ROW_RIPPLE = 0.3
#: Rms of the response from pixel to pixel.
PIXEL_RESPONSE = 0.01


def detector(chip: str, layout: Layout, biases: int, illumination: Image | None, generator: Generator) -> Detector:
    """Return a CCD with everything about it drawn from `generator`.

    Parameters
    ----------
    chip, layout
        Its name, and where its light falls.
    biases
        How many are averaged: hot pixels are drawn in units of the noise that this leaves.
    illumination
        (y, x) float32 of the pixels that see light, any scale: vignetting of the whole focal plane. None where no
        light falls: the flat is 1 then.
    """
    read_noise = float(generator.uniform(*READ_NOISE))
    columns = layout.strips.overscan_x
    # The mean of n overscan columns, taken off each row, adds 1/n of a pixel's variance.
    excess = 1 / columns if columns else 0.0
    pixel = np.sqrt((read_noise**2 + ROUNDING) * (1 + excess) / biases)
    sigma = float(pixel * np.hypot(1, COLUMN_RIPPLE))
    light = (layout.rows, layout.columns)
    return Detector(
        chip=chip,
        layout=layout,
        read_noise=read_noise,
        gain=float(generator.uniform(*GAIN)),
        level=float(generator.uniform(*LEVEL)),
        sigma=sigma,
        row_pattern=_row_pattern(layout, read_noise, generator),
        column_pattern=_column_pattern(layout, pixel * COLUMN_RIPPLE, generator),
        surface=_surface(layout, generator),
        hot=_hot(layout, generator) * np.float32(sigma),
        # The last to be drawn: a CCD is otherwise the same with light and without.
        flat=np.ones(light, np.float32) if illumination is None else _flat(layout, illumination, generator),
    )


def _row_pattern(layout: Layout, read_noise: float, generator: Generator) -> Image:
    """Return the amplifier's settling after the first rows, and a ripple from row to row."""
    height = layout.shape[0]
    settling = generator.uniform(1, 4) * np.exp(-np.arange(height) / (0.1 * height))
    ripple = generator.normal(0, ROW_RIPPLE * read_noise, height)
    return (settling + ripple).astype(np.float32)


def _column_pattern(layout: Layout, ripple: float, generator: Generator) -> Image:
    """Return a wave across the columns that see light, and a ripple from column to column."""
    pattern = np.zeros(layout.shape[1], dtype=np.float32)
    phase = np.linspace(0, 2 * np.pi, layout.columns) + generator.uniform(0, 2 * np.pi)
    wave = generator.uniform(0.2, 0.8) * np.sin(phase)
    pattern[layout.regions.data[1]] = wave + generator.normal(0, ripple, layout.columns)
    return pattern


def _surface(layout: Layout, generator: Generator) -> Image:
    """Return a glow from one corner and a slow wave, ADU."""
    y = np.linspace(0, 1, layout.rows)
    x = np.linspace(0, 1, layout.columns)
    corner = generator.integers(0, 2, 2)
    glow = generator.uniform(1, 3) * np.exp(-2 * (y - corner[0]) ** 2), np.exp(-2 * (x - corner[1]) ** 2)
    phase = generator.uniform(0, 2 * np.pi, 2)
    wave = generator.uniform(0.1, 0.5) * np.sin(2 * np.pi * y + phase[0]), np.sin(2 * np.pi * x + phase[1])
    surface: Image = np.outer(*glow).astype(np.float32)
    surface += np.outer(*wave).astype(np.float32)
    # Whole 1024ths of an ADU: far below any noise, and it packs to an eighth.
    surface *= np.float32(1024)
    np.rint(surface, out=surface)
    surface /= np.float32(1024)
    return surface


def _hot(layout: Layout, generator: Generator) -> Image:
    """Return amplitudes of single hot pixels and of hot columns, whole and from a row on; 0 elsewhere."""
    hot = np.zeros((layout.rows, layout.columns), dtype=np.float32)
    count = round(HOT_FRACTION * hot.size)
    where = generator.choice(hot.size, count, replace=False)
    hot.flat[where] = _log_uniform(HOT_AMPLITUDE, count, generator)
    columns = generator.choice(layout.columns, WHOLE_COLUMNS + PARTIAL_COLUMNS, replace=False)
    amplitudes = _log_uniform(HOT_AMPLITUDE, len(columns), generator)
    starts = generator.integers(0, layout.rows, len(columns))
    starts[:WHOLE_COLUMNS] = 0
    for column, amplitude, start in zip(columns, amplitudes, starts, strict=True):
        hot[start:, column] = amplitude
    return hot


def _flat(layout: Layout, illumination: Image, generator: Generator) -> Image:
    """Return vignetting times the response from pixel to pixel times dust times cold pixels, its mean 1."""
    flat: Image = illumination * generator.normal(1, PIXEL_RESPONSE, illumination.shape).astype(np.float32)
    for _ in range(generator.poisson(4)):
        _add_dust(flat, generator)
    count = round(COLD_FRACTION * flat.size)
    where = generator.choice(flat.size, count, replace=False)
    flat.flat[where] *= generator.uniform(*COLD_RESPONSE, count)
    columns = generator.choice(layout.columns, 2, replace=False)
    for column, start in zip(columns, (0, generator.integers(0, layout.rows)), strict=True):
        flat[start:, column] *= np.float32(generator.uniform(*COLD_RESPONSE))
    flat /= np.float32(flat.mean(dtype=np.float64))
    return flat


def _add_dust(flat: Image, generator: Generator) -> None:
    """Put the shadow of one grain on the filter into `flat`: a ring, as the telescope's pupil is one."""
    centre = generator.uniform((0, 0), flat.shape)
    radius = generator.uniform(10, 30)
    first, last = np.maximum(centre - radius, 0).astype(int), (centre + radius + 1).astype(int)
    part = flat[first[0] : last[0], first[1] : last[1]]
    y, x = np.ogrid[first[0] : first[0] + part.shape[0], first[1] : first[1] + part.shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    part[(distance < radius) & (distance > 0.4 * radius)] *= np.float32(1 - generator.uniform(0.01, 0.05))


def _log_uniform(limits: tuple[float, float], count: int, generator: Generator) -> Image:
    low, high = limits
    ratios = (high / low) ** generator.uniform(0, 1, count)
    return (low * ratios).astype(np.float32)
