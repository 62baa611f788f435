import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpu_recipes.archive import MissingCalibration
from dpu_recipes.frames import Frame
from dpu_recipes.task import RecipeError
from dpu_recipes.tasks.gain import GainFlag
from fakes_recipes import NIGHT, NOISE, SHAPE, STRIPS, Night

GAIN = 2.0
PEDESTAL = 300
#: ADU a second.
LAMP = 2_000.0
LEVELS = (2_000.0, 6_000.0, 12_000.0, 20_000.0, 30_000.0)
TEMPLATE = "2000-04-28T21:59:30"


class Domes(Night):
    """A night with ReadNoise and BiasFrame, to which dome flats are added."""

    def __init__(self, folder: Path, *, calibrated: bool = True) -> None:
        super().__init__(folder)
        self.taken = 0
        for _ in range(3):
            self.bias(level=PEDESTAL)
        if calibrated:
            for recipe in ("ReadNoise", "Bias"):
                assert self.run(recipe), recipe

    def dome(self, light: float, *, lamp: float = 1.0, template: str = "", **changes: Any) -> Frame:
        """Add a dome flat of a light, which the lamp gives `lamp` times; `changes` to its record."""
        self.taken += 1
        random = np.random.default_rng(self.taken)
        image = random.normal(PEDESTAL, NOISE, SHAPE)
        rows = slice(STRIPS.prescan_y, SHAPE[0] - STRIPS.overscan_y)
        columns = slice(STRIPS.prescan_x, SHAPE[1] - STRIPS.overscan_x)
        data = image[rows, columns]
        data += random.poisson(light * lamp * GAIN, data.shape) / GAIN
        values = {**STRIPS.to_values(), **({"TPLSTART": template} if template else {})}
        record = {"frame_class": "RawDomeFlatFrame", "exptime": light / LAMP, "filter": "#842", "values": values}
        return self.bias(**(record | {"image": np.rint(image.clip(0, 65_535)).astype(np.uint16)} | changes))

    def series(self, **changes: Any) -> list[Frame]:
        """Add two dome flats of each level."""
        return [self.dome(level, **changes) for level in LEVELS for _ in range(2)]


@pytest.fixture
def night(tmp_path: Path) -> Domes:
    return Domes(tmp_path)


def refused(night: Domes, **options: object) -> str:
    with pytest.raises(RecipeError) as raised:
        night.run("Gain", **options)
    message = str(raised.value)
    assert "\n" not in message
    return message


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_it_is_the_gain_of_the_light(night: Domes):
    flats = night.series()
    (made,) = night.run("Gain")
    # 12,288 pixels: each pair's variance is known to 1.3 %.
    assert made.values["GAIN"] == pytest.approx(GAIN, abs=4 * float(made.values["GAIN_ERROR"]))
    assert 0.003 * GAIN < made.values["GAIN_ERROR"] < 0.015 * GAIN
    assert (made.values["NPAIRS"], made.values["NREFUSED"], made.quality_flags) == (5, 0, 0)
    assert made.inputs[:-2] == tuple(frame.id for frame in flats)
    assert [night.archive.find(identifier).frame_class for identifier in made.inputs[-2:]] == ["BiasFrame", "ReadNoise"]
    assert (made.frame_class, made.chip, made.night, made.overscan, made.size) == (
        "GainLinearity",
        "ccd50",
        NIGHT,
        6,
        0,
    )
    assert made.timestamp_end - made.timestamp_start == timedelta(days=30)


def test_a_steady_lamp_tells_of_linearity(night: Domes):
    night.series()
    (made,) = night.run("Gain")
    assert made.values["LINEARITY_ERROR"] < 0.002
    assert made.values["NONLINEARITY"] < 0.005
    assert made.values["LINEARITY_HIGHEST"] == pytest.approx(30_000, rel=0.01)


def test_non_linearity_is_told_no_higher_than_the_flats_reach(night: Domes):
    for level in (1_000.0, 1_400.0, 2_000.0, 2_800.0):
        # A slow shutter: it takes 0.2 % of the lowest level, and less of the others.
        for _ in range(2):
            night.dome(level - 2.0, exptime=level / LAMP)
    pars = {
        "GainLinearity.process_params.LINEARITY_ERROR": 0.01,
        "GainLinearity.process_params.MAXIMUM_GAIN_ERROR": 0.1,
        "GainLinearity.process_params.MAXIMUM_CHI2": 100.0,
    }
    (made,) = night.run("Gain", pars=pars)
    assert made.values["LINEARITY_HIGHEST"] == pytest.approx(2_800, rel=0.01)
    assert made.values["NONLINEARITY"] < 0.01
    assert made.quality_flags == 0


def test_a_lamp_that_drifts_tells_of_the_gain_alone(night: Domes, caplog: pytest.LogCaptureFixture):
    for number, level in enumerate(LEVELS):
        for lamp in (1.0, 1.03):
            night.dome(level, lamp=lamp * (0.97 if number % 2 else 1.0))
    (made,) = night.run("Gain")
    assert made.values["GAIN"] == pytest.approx(GAIN, abs=4 * float(made.values["GAIN_ERROR"]))
    assert "LINEARITY1" not in made.values
    assert made.quality_flags == 0
    (warning,) = warnings(caplog)
    assert warning.startswith("Linearity is not told : its error of ")
    assert warning.endswith("is above LINEARITY_ERROR 0.20 %; the lamp is not steady")


def test_one_pair_gives_a_gain(night: Domes):
    night.dome(20_000.0)
    night.dome(20_000.0)
    (made,) = night.run("Gain", pars={"GainLinearity.process_params.MAXIMUM_GAIN_ERROR": 0.05})
    assert made.values["GAIN"] == pytest.approx(GAIN, rel=0.06)
    assert (made.values["NPAIRS"], made.values["QUADRATIC"], made.quality_flags) == (1, 0, 0)
    assert "LINEARITY1" not in made.values


def test_it_logs_what_it_does(night: Domes, caplog: pytest.LogCaptureFixture):
    one, two = night.dome(20_000.0), night.dome(20_000.0)
    with caplog.at_level(logging.INFO, "dpu_recipes"):
        night.run("Gain")
    said = [record.getMessage() for record in caplog.records]
    for line in (
        "Querying database for instances of class RawDomeFlatFrame",
        "Making GainLinearity object",
        f"Using RawDomeFlatFrame {one.file_name}",
        "Overscan correction method : 6",
        "1 of 1 pairs are below 0.6 of a full pixel",
        "Linearity is not measured : 1 levels are too few: 4 are needed, each a tenth above the one below it",
    ):
        assert line in said
    for start in (
        f"The level of {two.file_name} is : 20",
        f"Pair {one.file_name} and {two.file_name} : signal ",
        "The gain (e-/ADU) for ccd ccd50 is : ",
        "Made GainLinearity ",
    ):
        assert any(line.startswith(start) for line in said), start


def test_flats_without_a_partner_are_named_with_the_reason(night: Domes, caplog: pytest.LogCaptureFixture):
    night.series()
    odd = night.dome(9_000.0)
    other = night.dome(9_000.0, filter="#844")
    bright, dim = night.dome(15_000.0, lamp=1.1), night.dome(15_000.0)
    (made,) = night.run("Gain", pars={"GainLinearity.process_params.LINEARITY_ERROR": 1.0})
    said = [line.removeprefix("Gain of chip ccd50 leaves out ") for line in warnings(caplog)]
    assert said[:2] == [
        f"{odd.file_name}: no flat of filter '#842' and 4.5 s follows it",
        f"{other.file_name}: no flat of filter '#844' and 4.5 s follows it",
    ]
    assert said[2].startswith(f"{bright.file_name}: its level of 16")
    assert said[2].endswith(f"ADU of {dim.file_name}")
    assert said[3] == f"{dim.file_name}: no flat of filter '#842' and 7.5 s follows it"
    assert (made.values["NPAIRS"], made.values["NREFUSED"]) == (5, 4)


def test_a_pair_that_fails_leaves_its_second_to_the_next(night: Domes):
    night.dome(15_000.0, lamp=1.1)
    good = [night.dome(15_000.0), night.dome(15_000.0)]
    (made,) = night.run("Gain")
    assert made.inputs[:2] == tuple(frame.id for frame in good)


def test_full_and_dark_flats_are_left_out(night: Domes, caplog: pytest.LogCaptureFixture):
    night.series()
    full = [night.dome(59_500.0) for _ in range(2)]
    closed = night.dome(10_000.0, lamp=0.0)
    (made,) = night.run("Gain")
    said = warnings(caplog)
    assert any(
        f"{full[0].file_name}: " in line and "of its pixels are full, more than FULL_PART 0.5 %" in line
        for line in said
    )
    assert any(f"{closed.file_name}: " in line for line in said)
    assert made.values["NPAIRS"] == 5


def test_no_pair_at_all_is_refused_with_every_reason(night: Domes):
    one, two = night.dome(10_000.0), night.dome(15_000.0)
    assert refused(night) == (
        "Gain needs a pair of RawDomeFlatFrame of chip ccd50, and of 2 frames no two go together: "
        f"{one.file_name} (no flat of filter '#842' and 5 s follows it), "
        f"{two.file_name} (no flat of filter '#842' and 7.5 s follows it)"
    )


def test_saturated_flats_alone_are_refused(night: Domes):
    for _ in range(2):
        night.dome(30_000.0, lamp=3.0)
    assert "no two go together" in (message := refused(night))
    assert "(it is saturated)" in message


def test_pairs_that_are_all_too_bright_are_refused(night: Domes):
    for _ in range(2):
        night.dome(45_000.0)
    assert refused(night).startswith("no pair is below FIT_RANGE 0.6 of a full pixel, the dimmest has 4")


def test_the_same_image_twice_tells_of_no_noise(night: Domes):
    image = np.full(SHAPE, PEDESTAL, np.uint16)
    image[: -STRIPS.overscan_y, STRIPS.prescan_x : -STRIPS.overscan_x] += 10_000
    for _ in range(2):
        night.dome(10_000.0, image=image)
    assert refused(night).startswith(
        "no gain can be measured: the two flats are the same, there is no noise to measure; "
    )


def test_one_flat_is_too_few(night: Domes):
    only = night.dome(10_000.0)
    assert refused(night) == (
        f"Gain needs at least 2 frames of class RawDomeFlatFrame of chip ccd50, found 1: {only.file_name}"
    )


def test_without_calibrations_it_says_how_to_make_them(tmp_path: Path):
    night = Domes(tmp_path, calibrated=False)
    night.series()
    with pytest.raises(MissingCalibration, match=r"dpu.run\('ReadNoise', i='WFI', d='2000-04-28', C=1\)"):
        night.run("Gain")
    night.run("ReadNoise")
    with pytest.raises(MissingCalibration, match=r"dpu.run\('Bias', i='WFI', d='2000-04-28', oc=6, C=1\)"):
        night.run("Gain")


def test_a_change_since_the_earlier_one_is_limited(night: Domes):
    night.series()
    (first,) = night.run("Gain")
    night.add(first.evolve(id="", values={**first.values, "GAIN": 2.5}))
    (made,) = night.run("Gain", force=1)
    assert made.values["GAIN_DIFFERENCE"] == pytest.approx(float(first.values["GAIN"]) - 2.5)
    assert made.quality_flags == GainFlag.MAXIMUM_GAIN_DIFFERENCE


@pytest.mark.parametrize(
    ("name", "flag"),
    [("MAXIMUM_GAIN_ERROR", 1), ("MAXIMUM_CHI2", 4), ("MAXIMUM_NONLINEARITY", 8)],
)
def test_a_limit_that_is_missed_flags_the_product(night: Domes, caplog: pytest.LogCaptureFixture, name: str, flag: int):
    night.series()
    (made,) = night.run("Gain", pars={f"GainLinearity.process_params.{name}": 0.0})
    assert made.quality_flags == flag
    (warning,) = warnings(caplog)
    assert name in warning


class TestTemplate:
    """The option `template`: the frames that one template took."""

    def test_it_selects_the_frames_that_began_with_it(self, night: Domes):
        night.series(template="2000-04-28T20:00:00")
        wanted = night.series(template=f"{TEMPLATE}.25")
        (spec,) = night.plan("Gain", template=TEMPLATE)
        assert spec.inputs == tuple(frame.id for frame in wanted)

    def test_it_needs_no_night(self, night: Domes):
        wanted = night.series(template=TEMPLATE)
        (spec,) = night.plan("Gain", template=TEMPLATE, date="")
        assert spec.inputs == tuple(frame.id for frame in wanted)

    def test_none_of_it_lists_those_that_there_are(self, night: Domes):
        night.series(template=TEMPLATE)
        night.dome(1_000.0)
        assert refused(night, template="2000-04-28T23:00:00") == (
            "no template of night 2000-04-28 took RawDomeFlatFrame from 2000-04-28T23:00:00 on; "
            f"templates that did began: {TEMPLATE}"
        )

    def test_a_text_that_is_no_start_is_refused(self, night: Domes):
        night.series(template=TEMPLATE)
        assert refused(night, template="noon") == (
            "option template='noon' is not a date such as '2000-04-28T23:15:00.123'"
        )
