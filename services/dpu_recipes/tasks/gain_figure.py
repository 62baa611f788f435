"""The charts of a gain: how the variance of light grows with it, as pairs of flats have it and as the fit has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpu_recipes.figure import Panel
    from dpu_recipes.frames import Plain

#: Places of a curve.
STEPS = 101


def of_gain(values: Mapping[str, Plain]) -> list[Panel]:
    """Return the panels of a GainLinearity by its values: variance, and variance over signal, against signal."""
    import numpy as np

    from dpu_recipes.figure import Chart, Series

    measured: dict[str, Any] = dict(values)
    signals, variances = (np.array(measured[name], dtype=np.float64) for name in ("SIGNALS", "VARIANCES"))
    along = np.linspace(0, signals.max(), STEPS)
    fit = 1 / measured["GAIN"] + measured["QUADRATIC"] * along
    signal = "signal of a pair of flats, ADU"
    return [
        Chart(
            "variance of their difference, ADU^2",
            signal,
            (Series(along, along * fit, joined=True), Series(signals, variances)),
        ),
        Chart(
            "variance over signal, ADU; 1/gain at 0",
            signal,
            (Series(along, fit, joined=True), Series(signals, variances / signals)),
        ),
    ]
