import logging
from pathlib import Path

import numpy as np
import pytest

from dpu_recipes import registry
from dpu_recipes.archive import MissingCalibration
from dpu_recipes.frames import Frame
from dpu_recipes.task import RecipeError, TaskSpec
from dpu_recipes.tasks.cold_pixels import ColdPixelFlag
from dpu_recipes.tasks.flat import FlatFlag
from dpu_recipes.tasks.master_flat import MasterFlatFlag
from dpu_recipes.tasks.quick_check import QuickCheckFlag
from fakes_recipes import NOISE, SHAPE, STRIPS, Night

BLUE, RED = "#842", "#844"
GAIN = 2.0


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


@pytest.fixture
def debiased(night: Night) -> Night:
    """A night with its bias and read noise."""
    for _ in range(3):
        night.bias()
    night.run("ReadNoise")
    night.run("Bias")
    return night


def flat(night: Night, light: float = 25_000.0, *, raw: str = "RawDomeFlatFrame", **changes: object) -> Frame:
    """Add a raw flat with one pixel of half response, with the noise of photons and read-out."""
    random = np.random.default_rng(int(light) + len(night.products(raw)))
    falling = np.zeros(SHAPE)
    falling[:128, 8:104] = light
    falling[50, 60] *= 0.5
    noise = np.sqrt(falling / GAIN + NOISE**2) * random.standard_normal(SHAPE)
    image = changes.pop("image", np.clip(np.round(300 + falling + noise), 0, 65535).astype(np.uint16))
    known = {"filter": BLUE, "exptime": 10.0, "values": {**STRIPS.to_values(), "GAIN": GAIN}}
    return night.bias(image=image, frame_class=raw, **{**known, **changes})


def flats(night: Night, number: int = 4, **changes: object) -> list[Frame]:
    return [flat(night, 24_000.0 + 500 * place, **changes) for place in range(number)]


def refused(night: Night, recipe: str, **options: object) -> str:
    with pytest.raises(RecipeError) as raised:
        night.run(recipe, **options)
    message = str(raised.value)
    assert "\n" not in message
    return message


class TestFlat:
    def test_its_mean_is_one_and_it_keeps_the_response(self, debiased: Night):
        used = flats(debiased)
        (made,) = debiased.run("DomeFlat")
        image = debiased.image(made)
        assert (image.dtype, image.shape) == (np.dtype(">f4"), (128, 96))
        assert image.mean() == pytest.approx(1.0, abs=1e-3)
        assert image[50, 52] == pytest.approx(0.5, abs=0.02)
        assert (made.frame_class, made.filter, made.overscan, made.quality_flags) == ("DomeFlatFrame", BLUE, 6, 0)
        assert made.inputs[:4] == tuple(frame.id for frame in used)
        assert made.values["NCOMBINE"] == 4
        assert made.values["NOISE"] == pytest.approx(1 / np.sqrt(GAIN * 99_000), rel=0.01)

    def test_each_filter_has_a_flat_of_its_own(self, debiased: Night):
        flats(debiased)
        flats(debiased, filter=RED)
        assert [spec.label for spec in debiased.plan("DomeFlat")] == [f"ccd50 {BLUE}", f"ccd50 {RED}"]
        assert [made.filter for made in debiased.run("DomeFlat", filter=RED)] == [RED]

    def test_a_filter_without_flats_is_named(self, debiased: Night):
        flats(debiased)
        assert "no RawDomeFlatFrame of WFI filter #844 of night 2000-04-28" in refused(debiased, "DomeFlat", filter=RED)

    def test_frames_beyond_the_limits_are_left_out_by_name(self, debiased: Night, caplog: pytest.LogCaptureFixture):
        dim, bright = flat(debiased, 15_000.0), flat(debiased, 35_000.0)
        flats(debiased)
        with caplog.at_level(logging.WARNING):
            (made,) = debiased.run("DomeFlat")
        assert (made.values["NCOMBINE"], made.values["NREFUSED"]) == (4, 2)
        assert f"leaves out {dim.file_name}: its level of " in caplog.text
        assert "ADU is below MIN_FLAT_MEAN 20000" in caplog.text
        assert f"leaves out {bright.file_name}: its level of " in caplog.text
        assert "ADU is above MAX_FLAT_MEAN 30000" in caplog.text

    def test_the_limits_are_parameters(self, debiased: Night):
        flat(debiased, 35_000.0)
        flats(debiased)
        (made,) = debiased.run("DomeFlat", pars={"DomeFlatFrame.process_params.MAX_FLAT_MEAN": 40_000})
        assert made.values["NCOMBINE"] == 5

    @pytest.mark.parametrize(
        ("image", "reason"),
        [
            (np.zeros(SHAPE, np.uint16), "every pixel is zero"),
            (np.full(SHAPE, 65_535, np.uint16), "it is saturated"),
            (np.full(SHAPE, np.nan, np.float32), "it has pixels that are not a number"),
        ],
    )
    def test_too_few_good_frames_are_refused_each_with_its_reason(
        self, debiased: Night, image: np.ndarray, reason: str
    ):
        bad = [flat(debiased, image=image) for _ in range(3)]
        flats(debiased, 2)
        message = refused(debiased, "DomeFlat")
        assert message.startswith(
            "DomeFlat needs at least 3 good frames of class RawDomeFlatFrame of chip ccd50, and of 5 it has 2; no good"
        )
        assert all(f"{frame.file_name} ({reason})" in message for frame in bad)
        assert debiased.products("DomeFlatFrame") == []

    def test_two_flats_are_too_few(self, debiased: Night):
        flats(debiased, 2)
        assert "DomeFlat needs at least 3 frames" in refused(debiased, "DomeFlat")

    def test_named_flats_of_two_filters_or_modes_are_refused(self, debiased: Night):
        one = flats(debiased, 3)
        for changes, what in (({"filter": RED}, "filters"), ({"readout": "2x2"}, "read-out modes")):
            other = flat(debiased, **changes)
            names = [frame.file_name for frame in (*one, other)]
            message = refused(debiased, "DomeFlat", raw_filenames=names)
            assert message.startswith(f"the frames are of different {what}: ")
            assert other.file_name in message

    def test_mixed_sizes_are_refused_by_name(self, debiased: Night):
        flats(debiased, 3)
        odd = flat(debiased, image=np.full((100, 120), 20_000, np.uint16))
        assert f"{odd.file_name} (120 x 100)" in refused(debiased, "DomeFlat")

    def test_without_a_bias_of_its_overscan_method_it_names_the_call(self, debiased: Night):
        flats(debiased)
        with pytest.raises(
            MissingCalibration, match=r"overscan method 6 instead of 10.*dpu\.run\('Bias'.*oc=10, C=1\)"
        ):
            debiased.run("DomeFlat", overscan=10)

    def test_without_a_read_noise_it_names_the_call(self, night: Night):
        flats(night)
        bias = night.bias(image=np.zeros((128, 96), np.float32), frame_class="BiasFrame", overscan=6, **window(night))
        assert bias.id
        with pytest.raises(MissingCalibration, match=r"dpu\.run\('ReadNoise'"):
            night.run("DomeFlat")

    def test_a_measured_gain_is_used_and_recorded(self, debiased: Night):
        flats(debiased)
        measured = debiased.add(
            debiased.products("ReadNoise")[0].evolve(id="", frame_class="GainLinearity", values={"GAIN": 2.2})
        )
        (made,) = debiased.run("DomeFlat")
        assert made.values["GAIN"] == 2.2
        assert measured.id in made.inputs

    @pytest.mark.parametrize("name", ["MAXIMUM_REJECTED", "MAXIMUM_ROW_SCATTER"])
    def test_a_limit_that_is_missed_flags_the_product(self, debiased: Night, name: str):
        struck = flats(debiased)[0]
        assert struck.id
        pars = {f"DomeFlatFrame.process_params.{name}": 0.0, "DomeFlatFrame.process_params.SIGMA_CLIP": 2.0}
        (made,) = debiased.run("DomeFlat", pars=pars)
        assert made.quality_flags & FlatFlag[name]

    def test_twilight_flats_are_their_own_class(self, debiased: Night):
        flats(debiased, raw="RawTwilightFlatFrame")
        (made,) = debiased.run("TwilightFlat")
        assert (made.frame_class, made.quality_flags) == ("TwilightFlatFrame", 0)


def window(night: Night) -> dict[str, object]:
    """Return a window of validity that covers the night."""
    raw = night.products("RawDomeFlatFrame")[0]
    return {"timestamp_start": raw.date_obs.replace(day=20), "timestamp_end": raw.date_obs.replace(month=6)}


@pytest.fixture
def flattened(debiased: Night) -> Night:
    """A night with dome and twilight flat, hot and cold pixels."""
    flats(debiased)
    flats(debiased, raw="RawTwilightFlatFrame")
    for recipe in ("HotPixels", "DomeFlat", "ColdPixels", "TwilightFlat"):
        assert debiased.run(recipe)
    return debiased


class TestColdPixels:
    def test_it_is_a_map_of_1_good_and_0_bad(self, flattened: Night):
        (made,) = flattened.products("ColdPixelMap")
        image = flattened.image(made)
        assert (image.dtype, image.shape) == (np.dtype("u1"), (128, 96))
        assert np.argwhere(image == 0).tolist() == [[50, 52]]
        assert (made.values["COUNT"], made.quality_flags, made.filter) == (1, 0, BLUE)

    @pytest.mark.parametrize("name", ["MAXIMUM_COUNT", "MAXIMUM_COUNT_DIFFERENCE"])
    def test_a_limit_that_is_missed_flags_the_product(self, flattened: Night, name: str):
        pars = {f"ColdPixelMap.process_params.{name}": 0, "ColdPixelMap.process_params.THRESHOLD_HIGH": 1.001}
        (made,) = flattened.run("ColdPixels", pars=pars)
        assert made.quality_flags == ColdPixelFlag[name]

    def test_without_a_dome_flat_it_names_the_call(self, debiased: Night):
        assert refused(debiased, "ColdPixels", filter=BLUE) == (
            "there is no DomeFlatFrame of WFI filter #842 of night 2000-04-28; "
            "make it with dpu.run('DomeFlat', i='WFI', d='2000-04-28', f='#842', C=1)"
        )

    def test_without_any_dome_flat_of_the_night_it_takes_the_twilight_flat(self, debiased: Night):
        flats(debiased, raw="RawTwilightFlatFrame")
        (twilight,) = debiased.run("TwilightFlat")
        (made,) = debiased.run("ColdPixels")
        assert made.inputs == (twilight.id,)
        assert np.argwhere(debiased.image(made) == 0).tolist() == [[50, 52]]

    def test_thresholds_that_leave_no_pixel_are_refused(self, flattened: Night):
        pars = {f"ColdPixelMap.process_params.THRESHOLD_{name}": 1.0 for name in ("LOW", "HIGH")}
        assert "THRESHOLD_LOW 1 is not below THRESHOLD_HIGH 1" in refused(flattened, "ColdPixels", pars=pars)


class TestMasterFlat:
    @pytest.mark.parametrize(("combine", "of"), [(2, "DomeFlatFrame"), (3, "TwilightFlatFrame")])
    def test_of_one_flat_it_is_that_flat_with_bad_pixels_replaced(
        self, flattened: Night, combine: int, of: str, caplog: pytest.LogCaptureFixture
    ):
        with caplog.at_level(logging.INFO, "dpu_recipes"):
            (made,) = flattened.run("MasterFlat", combine=combine)
        queried = [text for text in caplog.messages if text.startswith("Querying")]
        assert set(queried) == {f"Querying database for instances of class {of}"}
        (source,) = flattened.products(of)
        image, expected = flattened.image(made), flattened.image(source)
        maps = [flattened.products(name)[0] for name in ("HotPixelMap", "ColdPixelMap")]
        good = np.all([flattened.image(each) == 1 for each in maps], axis=0)
        assert not good[50, 52]
        np.testing.assert_allclose(image[good] / image[good].mean(), expected[good] / expected[good].mean(), rtol=1e-5)
        assert image[50, 52] == pytest.approx(1.0, abs=0.01)
        assert (made.inputs[0], made.values["COMBINE"], made.quality_flags) == (source.id, combine, 0)

    def test_by_default_it_has_both_flats_and_both_maps(self, flattened: Night):
        (made,) = flattened.run("MasterFlat")
        classes = {flattened.archive.find(identifier).frame_class for identifier in made.inputs}
        assert classes == {"DomeFlatFrame", "TwilightFlatFrame", "HotPixelMap", "ColdPixelMap"}
        assert flattened.image(made).mean() == pytest.approx(1.0, abs=1e-5)
        assert made.filter == BLUE

    @pytest.mark.parametrize("name", [flag.name for flag in MasterFlatFlag if flag.name != "MAXIMUM_STDEV_DIFFERENCE"])
    def test_a_limit_that_is_missed_flags_the_product(self, flattened: Night, name: str):
        (made,) = flattened.run("MasterFlat", pars={f"MasterFlatFrame.process_params.{name}": 0})
        assert made.quality_flags == MasterFlatFlag[name]

    def test_without_the_maps_it_names_the_call(self, debiased: Night):
        flats(debiased)
        debiased.run("DomeFlat")
        with pytest.raises(MissingCalibration, match=r"dpu\.run\('HotPixels', i='WFI', d='2000-04-28', C=1\)"):
            debiased.run("MasterFlat")

    def test_flats_of_two_overscan_methods_do_not_go_together(self, flattened: Night):
        flattened.run("Bias", overscan=5)
        (dome,) = flattened.run("DomeFlat", overscan=5)
        spec = TaskSpec(label="ccd50", inputs=(dome.id,))
        asked = {"instrument": "WFI", "date": "2000-04-28"}
        with pytest.raises(MissingCalibration, match="overscan method 6 instead of 5"):
            registry.run("MasterFlat", asked, flattened.archive, flattened.scratch(), spec)


class TestQuickCheck:
    def test_it_measures_a_flat_and_compares_it_with_the_next(self, debiased: Night):
        first, second, _ = flats(debiased, 3)
        (made,) = debiased.run("QuickCheck")
        assert made.inputs[:2] == (first.id, second.id)
        assert made.values["MEAN"] == pytest.approx(24_000.0, rel=1e-3)
        assert made.values["RATE"] == pytest.approx(2_400.0, rel=1e-3)
        assert made.values["SCATTER"] == pytest.approx(1.0, abs=0.05)
        assert (made.values["SATURATED"], made.quality_flags) == (0.0, 0)
        assert debiased.image(made).shape == (128, 96)

    def test_of_one_flat_there_is_nothing_to_compare(self, debiased: Night):
        flat(debiased)
        (made,) = debiased.run("QuickCheck")
        assert "SCATTER" not in made.values
        assert "LEVEL_DIFFERENCE" not in made.values

    def test_a_lamp_that_grew_brighter_flags_it(self, debiased: Night):
        one, other = flat(debiased, 22_000.0), flat(debiased, 26_000.0)
        debiased.run("QuickCheck", raw_filenames=[one.file_name])
        (made,) = debiased.run("QuickCheck", raw_filenames=[other.file_name])
        assert made.values["LEVEL_DIFFERENCE"] == pytest.approx(26 / 22 - 1, rel=0.01)
        assert made.quality_flags == QuickCheckFlag.MAXIMUM_LEVEL_DIFFERENCE

    def test_what_was_taken_later_is_not_compared_with(self, debiased: Night):
        one, other = flat(debiased, 22_000.0), flat(debiased, 26_000.0)
        debiased.run("QuickCheck", raw_filenames=[other.file_name])
        (made,) = debiased.run("QuickCheck", raw_filenames=[one.file_name])
        assert "LEVEL_DIFFERENCE" not in made.values
        assert made.quality_flags == 0

    def test_a_header_that_knows_better_says_where_pixels_are_full(self, debiased: Night):
        full = flat(debiased, values={**STRIPS.to_values(), "SATURATE": 24_000.0})
        message = refused(debiased, "QuickCheck", raw_filenames=[full.file_name])
        assert f"{full.file_name} (it is saturated)" in message

    def test_saturated_pixels_flag_it(self, debiased: Night):
        image = np.full(SHAPE, 300, np.uint16)
        image[:128, 8:104] = 25_000
        image[:10, 20:40] = 65_535
        flat(debiased, image=image)
        (made,) = debiased.run("QuickCheck")
        assert made.quality_flags == QuickCheckFlag.MAXIMUM_SATURATED

    def test_a_scatter_is_held_against_a_measured_gain_only(self, debiased: Night):
        flats(debiased)
        pars = {"QuickCheckFrame.process_params.MAXIMUM_SCATTER": 0.5}
        (made,) = debiased.run("QuickCheck", pars=pars)
        assert made.quality_flags == 0
        noise = debiased.products("ReadNoise")[0]
        debiased.add(noise.evolve(id="", frame_class="GainLinearity", values={"GAIN": GAIN}))
        (made,) = debiased.run("QuickCheck", pars=pars)
        assert made.quality_flags == QuickCheckFlag.MAXIMUM_SCATTER

    def test_a_closed_shutter_is_refused(self, debiased: Night):
        dark = flat(debiased, 0.0)
        assert refused(debiased, "QuickCheck").startswith(f"{dark.file_name} has no light: its level is ")
