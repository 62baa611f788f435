"""Gain: electrons an ADU, and how linear a chip counts them, from pairs of dome flats."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

from dpu_recipes.pars import parameter
from dpu_recipes.task import Recipe, RecipeError, Request, TaskSpec
from dpu_recipes.tasks import product_image, raw_image, selection
from dpu_recipes.tasks.gain_figure import of_gain
from dpu_recipes.tasks.noise import read_noise
from dpu_recipes.tasks.pairing import LitFlat, paired
from dpu_recipes.tasks.product import product, save
from dpu_recipes.tasks.quality import change, earlier, judged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.ccd.linearity import Linearity
    from dpu_recipes.ccd.overscan import Method
    from dpu_recipes.ccd.pairs import Clip, Pair
    from dpu_recipes.ccd.photon_transfer import PhotonTransfer
    from dpu_recipes.frames import Frame, Plain

log = logging.getLogger(__name__)


class GainFlag(IntFlag):
    """Which limit a GainLinearity missed."""

    MAXIMUM_GAIN_ERROR = 1
    MAXIMUM_GAIN_DIFFERENCE = 2
    MAXIMUM_CHI2 = 4
    MAXIMUM_NONLINEARITY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GainParameters:
    """Process parameters of a GainLinearity."""

    REJECTION_THRESHOLD: float = parameter(5.0, "what lies further from the mean is left out", unit="sigma", minimum=1)
    MAXIMUM_ITERATIONS: int = parameter(5, "of the clipping", minimum=1)
    PAIR_AGREEMENT: float = parameter(0.04, "levels of a pair differ by at most this part", maximum=1)
    FULL_PART: float = parameter(0.005, "a frame with a larger part of its pixels full is left out", maximum=1)
    FIT_RANGE: float = parameter(0.6, "pairs above this part of a full pixel do not count for the gain", maximum=1)
    LINEARITY_RANGE: float = parameter(0.8, "part of a full pixel up to which linearity is told", maximum=1)
    LINEARITY_ERROR: float = parameter(0.002, "linearity with a larger error, part of the light, is not told")
    MAXIMUM_GAIN_ERROR: float = parameter(0.02, "limit of the gain's error, part of it")
    MAXIMUM_GAIN_DIFFERENCE: float = parameter(
        0.1, "limit of its change since the earlier GainLinearity", unit="e-/ADU"
    )
    MAXIMUM_CHI2: float = parameter(10.0, "limit of the pairs' scatter about the fit, chi^2 a degree of freedom")
    MAXIMUM_NONLINEARITY: float = parameter(0.05, "limit of what linearity takes or gives, part of the light")


@dataclass(frozen=True, slots=True)
class _Known:
    """What the raw flats are corrected with."""

    bias: NDArray[np.float32]
    method: Method
    #: ADU, of one pixel of one frame.
    read_noise: float
    #: The products that it comes from.
    frames: list[Frame]


class Gain(Recipe):
    """The gain of a chip, e-/ADU, and its linearity, from pairs of dome flats over a range of levels."""

    name = "Gain"
    selects = "RawDomeFlatFrame"
    makes = "GainLinearity"
    parameters = GainParameters
    flags = GainFlag
    seconds = 4.0
    memory_mib = 512

    def plan(self, request: Request) -> list[TaskSpec]:
        """Return a task a chip and read-out mode: all its dome flats."""
        return selection.split(request, self)

    def run(self, request: Request, spec: TaskSpec) -> None:
        """Measure gain and linearity of one chip, and save them."""
        flats = selection.inputs(request, self, spec)
        log.info("Making GainLinearity object")
        images, refused = raw_image.sorted_out(request, flats)
        known = _known(request, flats[0], images[0].data.shape if images else None)
        lit, faulty = _lit(request, images, known)
        pairs, alone = paired(lit, request.parameters.PAIR_AGREEMENT)
        refused |= faulty | alone
        for name, reason in refused.items():
            log.warning("Gain of chip %s leaves out %s: %s", flats[0].chip, name, reason)
        if not pairs:
            raise RecipeError(
                f"Gain needs a pair of {self.selects} of chip {flats[0].chip}, and of {len(flats)} frames no two go "
                f"together: {selection.listed(refused)}"
            )
        measured = _measured_below_full(request, pairs)
        transfer = _transfer(measured)
        log.info("The gain (e-/ADU) for ccd %s is : %.3f +- %.3f", flats[0].chip, transfer.gain, transfer.error)
        before = earlier(request, self.makes, flats[0])
        used = [flat.frame for pair in pairs for flat in pair]
        full = min(flat.exposed.full for pair in pairs for flat in pair)
        values: dict[str, Plain] = {
            "GAIN": transfer.gain,
            "GAIN_ERROR": transfer.error,
            "QUADRATIC": transfer.quadratic,
            "CHI2": transfer.chi2,
            "NPAIRS": transfer.count,
            "NREFUSED": len(refused),
            "READNOISE": known.read_noise,
            **change(transfer.gain, before, "GAIN"),
            **_linearity(request, pairs, full),
            "SIGNALS": [pair.signal for pair in measured],
            "VARIANCES": [pair.variance for pair in measured],
        }
        record = product(self, request, [*used, *known.frames], values=values, overscan=known.method)
        save(request, judged(record, self.flags, request.parameters, _limited(values)), panels=of_gain(values))


def _known(request: Request, flat: Frame, shape: tuple[int, ...] | None) -> _Known:
    """Return what flats are corrected with. Raises MissingCalibration."""
    from dpu_recipes.ccd.overscan import Method

    method = Method(request.options["overscan"])
    noise = request.archive.calibration("ReadNoise", flat)
    bias = request.archive.calibration("BiasFrame", flat, overscan=method)
    return _Known(product_image.image(request, bias, shape=shape), method, read_noise(noise), [bias, noise])


def _lit(request: Request, images: list[raw_image.RawImage], known: _Known) -> tuple[list[LitFlat], dict[str, str]]:
    """Return the flats that have light, in order of time, and by file name what is wrong with the others."""
    from dpu_recipes.ccd.pairs import Exposed, level

    log.info("Overscan correction method : %d", known.method)
    most = request.parameters.FULL_PART
    lit, refused = [], {}
    for image in images:
        name, correction = image.frame.file_name, image.correction(known.method)
        exposed = Exposed(
            layer=image.layer(correction),
            bias=known.bias,
            full=image.saturation - float(correction.level.max()),
            noise=math.hypot(known.read_noise, math.sqrt(correction.variance)),
        )
        light, full_part = level(exposed, _clip(request))
        log.info("The level of %s is : %.0f ADU", name, light)
        if full_part > most:
            refused[name] = f"{100 * full_part:.1f} % of its pixels are full, more than FULL_PART {100 * most:g} %"
        elif not light > 0:
            refused[name] = f"its level of {light:.0f} ADU above the bias is no light"
        else:
            lit.append(LitFlat(image.frame, exposed, light))
    return lit, refused


def _measured_below_full(request: Request, pairs: list[tuple[LitFlat, LitFlat]]) -> list[Pair]:
    """Return what is measured of the pairs that are far enough from full. Raises RecipeError where none is."""
    part = request.parameters.FIT_RANGE
    used = [pair for pair in pairs if all(flat.level <= part * flat.exposed.full for flat in pair)]
    log.info("%d of %d pairs are below %g of a full pixel", len(used), len(pairs), part)
    if not used:
        lowest = min(flat.level for pair in pairs for flat in pair)
        raise RecipeError(
            f"no pair is below FIT_RANGE {part:g} of a full pixel, the dimmest has {lowest:.0f} ADU: take dimmer flats"
        )
    try:
        return [_measured(pair, _clip(request)) for pair in used]
    except ValueError as error:
        raise RecipeError(f"no gain can be measured: {error}; {_names(used)}") from error


def _transfer(pairs: list[Pair]) -> PhotonTransfer:
    """Return the gain of some pairs. Raises RecipeError where none fits."""
    from dpu_recipes.ccd import photon_transfer

    try:
        transfer = photon_transfer.fitted(pairs)
    except ValueError as error:
        raise RecipeError(f"no gain can be measured: {error}") from error
    log.info("Variance over signal fitted, chi^2 : %.2f, quadratic term : %.3g", transfer.chi2, transfer.quadratic)
    return transfer


def _measured(pair: tuple[LitFlat, LitFlat], clip: Clip) -> Pair:
    """Return signal and variance of a pair. Raises ValueError."""
    from dpu_recipes.ccd import pairs

    first, second = pair
    found = pairs.measured(first.exposed, second.exposed, ratio=first.level / second.level, clip=clip)
    log.info(
        "Pair %s and %s : signal %.0f ADU, variance %.1f ADU^2",
        first.frame.file_name,
        second.frame.file_name,
        found.signal,
        found.variance,
    )
    return found


def _linearity(request: Request, pairs: list[tuple[LitFlat, LitFlat]], full: float) -> dict[str, float]:
    """Return what is known of the linearity, of the filter with the most flats; {} where it is not good enough."""
    from dpu_recipes.ccd import linearity

    parameters = request.parameters
    flats = [flat for pair in pairs for flat in pair]
    filters = [flat.frame.filter for flat in flats]
    lamp = [flat for flat in flats if flat.frame.filter == max(filters, key=filters.count)]
    try:
        found = linearity.fitted([flat.level for flat in lamp], [flat.frame.exptime for flat in lamp])
    except ValueError as error:
        log.info("Linearity is not measured : %s", error)
        return {}
    log.info("Linearity : flats scatter by %.3f %%, which leaves %.3f %%", 100 * found.scatter, 100 * found.error)
    if found.error > parameters.LINEARITY_ERROR:
        log.warning(
            "Linearity is not told : its error of %.2f %% is above LINEARITY_ERROR %.2f %%; the lamp is not steady",
            100 * found.error,
            100 * parameters.LINEARITY_ERROR,
        )
        return {}
    # Above the brightest flat a parabola says nothing.
    return _told(found, min(parameters.LINEARITY_RANGE * full, found.highest))


def _told(linearity: Linearity, up_to: float) -> dict[str, float]:
    """Return a linearity as values of a product."""
    departure = linearity.departure(up_to)
    log.info("Non-linearity up to %.0f ADU : %.2f %%", up_to, 100 * departure)
    return {
        "LINEARITY1": linearity.first,
        "LINEARITY2": linearity.second,
        "LINEARITY_SCATTER": linearity.scatter,
        "LINEARITY_ERROR": linearity.error,
        "LINEARITY_HIGHEST": linearity.highest,
        "NONLINEARITY": departure,
    }


def _limited(values: dict[str, Plain]) -> dict[str, float]:
    """Return what was measured by the name of its limit."""
    known = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    names = ("GAIN_DIFFERENCE", "CHI2", "NONLINEARITY")
    limited = {f"MAXIMUM_{name}": known[name] for name in names if name in known}
    return limited | {"MAXIMUM_GAIN_ERROR": known["GAIN_ERROR"] / known["GAIN"]}


def _clip(request: Request) -> Clip:
    from dpu_recipes.ccd.pairs import Clip

    parameters = request.parameters
    return Clip(threshold=parameters.REJECTION_THRESHOLD, iterations=parameters.MAXIMUM_ITERATIONS)


def _names(pairs: list[tuple[LitFlat, LitFlat]]) -> str:
    return ", ".join(flat.frame.file_name for pair in pairs for flat in pair)
